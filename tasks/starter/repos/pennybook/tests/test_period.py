from datetime import date

import pytest

from pennybook import balances, load_journal, register
from pennybook.cli import main

JOURNAL = """\
2024-01-02 Opening
  assets:cash  100
  equity
2024-01-31 Food
  food  30
  assets:cash
2024-02-01 Pay
  assets:cash  50
  income
2024-03-15 Food
  food  7.25
  assets:cash
"""


@pytest.fixture
def run(tmp_path, capsys):
    path = tmp_path / "journal.txt"
    path.write_text(JOURNAL)

    def call(*arguments):
        assert main([str(path), *arguments]) == 0
        return capsys.readouterr().out.splitlines()

    return call


def test_balances_since():
    assert balances(load_journal(JOURNAL), since=date(2024, 2, 1)) == {
        "assets": 4275,
        "assets:cash": 4275,
        "food": 725,
        "income": -5000,
    }


def test_balances_until_includes_the_day():
    assert balances(load_journal(JOURNAL), until=date(2024, 1, 31))["food"] == 3000
    assert balances(load_journal(JOURNAL), until=date(2024, 1, 30)) == {
        "assets": 10000,
        "assets:cash": 10000,
        "equity": -10000,
    }


def test_balances_of_a_period():
    period = {"since": date(2024, 1, 31), "until": date(2024, 2, 1)}
    assert balances(load_journal(JOURNAL), **period)["assets"] == 2000


def test_balances_of_an_empty_period():
    assert balances(load_journal(JOURNAL), since=date(2025, 1, 1)) == {}


def test_register_goes_on_counting():
    lines = register(load_journal(JOURNAL), "assets:cash", since=date(2024, 2, 1))
    assert [(line.cents, line.balance) for line in lines] == [(5000, 12000), (-725, 11275)]


def test_register_until():
    lines = register(load_journal(JOURNAL), "assets:cash", since=date(2024, 1, 31), until=date(2024, 1, 31))
    assert [(line.cents, line.balance) for line in lines] == [(-3000, 7000)]


def test_command_line_balance(run):
    assert run("balance", "--since", "2024-02-01", "--until", "2024-02-29") == [
        "      50.00  assets",
        "      50.00    cash",
        "     -50.00  income",
    ]


def test_command_line_register(run):
    assert run("register", "food", "--since", "2024-02-01") == [
        "2024-03-15  Food                         7.25      37.25"
    ]
    assert run("register", "food", "--until", "2024-02-01") == [
        "2024-01-31  Food                        30.00      30.00"
    ]


def test_command_line_with_depth(run):
    assert run("balance", "--depth", "1", "--until", "2024-01-02") == [
        "     100.00  assets",
        "    -100.00  equity",
    ]


def test_bad_dates_are_refused(run, capsys):
    with pytest.raises(SystemExit) as caught:
        run("balance", "--since", "2024-13-01")
    assert caught.value.code == 2
    assert "not a date: '2024-13-01'" in capsys.readouterr().err
