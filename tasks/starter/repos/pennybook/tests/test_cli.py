import pytest

from pennybook.cli import main

JOURNAL = """\
2024-01-02 Opening
  assets:bank  900
  equity
2024-01-05 A very long description of food
  assets:cash  20.5
  assets:bank
"""


@pytest.fixture
def run(tmp_path, capsys):
    path = tmp_path / "journal.txt"
    path.write_text(JOURNAL)

    def call(*arguments):
        assert main([str(path), *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    return call


def test_balance(run):
    assert run("balance", "--depth", "1")[0] == "     900.00  assets"
    assert run("balance")[1:3] == ["     879.50    bank", "      20.50    cash"]


def test_register(run):
    assert run("register", "assets:cash") == ["2024-01-05  A very long descriptio      20.50      20.50"]


def test_check(run):
    assert run("check") == ["2 transactions, 4 postings"]


def test_errors_go_to_standard_error(tmp_path, capsys):
    path = tmp_path / "bad.txt"
    path.write_text("oops\n")
    assert main([str(path), "check"]) == 2
    assert capsys.readouterr().err == "pennybook: line 1: not a date: 'oops'\n"
    assert main([str(tmp_path / "none.txt"), "check"]) == 2
