from pennybook import balances, format_cents, load_journal
from pennybook.cli import main


def test_format_of_less_than_nothing():
    assert format_cents(-250) == "-2.50"
    assert format_cents(-1999) == "-19.99"
    assert format_cents(-100) == "-1.00"


def test_format_of_a_few_cents_owed():
    assert format_cents(-5) == "-0.05"
    assert format_cents(-99) == "-0.99"


def test_format_grouped():
    assert format_cents(-123456, grouped=True) == "-1,234.56"
    assert format_cents(-100001, grouped=True) == "-1,000.01"


def test_balances_are_cents():
    assert balances(load_journal("2024-01-01 x\n  a  -0.05\n  b\n")) == {"a": -5, "b": 5}


def test_the_command_line_shows_them(tmp_path, capsys):
    journal = tmp_path / "j.txt"
    journal.write_text("2024-01-01 x\n  a  -10.25\n  b\n")
    assert main([str(journal), "balance"]) == 0
    assert capsys.readouterr().out == "     -10.25  a\n      10.25  b\n"
