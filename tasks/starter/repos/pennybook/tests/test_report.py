from datetime import date

from pennybook import balances, load_journal, register

JOURNAL = """
2024-01-02 Opening
  assets:bank  900
  assets:cash  100
  equity
2024-01-05 Food
  expenses:food  30
  assets:cash
2024-02-01 Pay
  assets:bank  500
  income
"""


def test_balances_include_the_accounts_below():
    assert balances(load_journal(JOURNAL)) == {
        "assets": 147000,
        "assets:bank": 140000,
        "assets:cash": 7000,
        "equity": -100000,
        "expenses": 3000,
        "expenses:food": 3000,
        "income": -50000,
    }


def test_register_runs_a_balance():
    lines = register(load_journal(JOURNAL), "assets:cash")
    assert [(line.day, line.cents, line.balance) for line in lines] == [
        (date(2024, 1, 2), 10000, 10000),
        (date(2024, 1, 5), -3000, 7000),
    ]


def test_register_of_a_parent():
    lines = register(load_journal(JOURNAL), "assets")
    assert [line.balance for line in lines] == [90000, 100000, 97000, 147000]


def test_register_of_a_name_that_only_begins_alike():
    assert register(load_journal(JOURNAL), "asset") == []
