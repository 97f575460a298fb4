from datetime import date

import pytest

from pennybook import JournalError, Posting, Transaction, load_journal


def test_one_transaction():
    assert load_journal("2024-01-05 Rent\n  expenses:rent  800.00\n  assets:bank\n") == [
        Transaction(
            date(2024, 1, 5), "Rent", (Posting("expenses:rent", 80000), Posting("assets:bank", -80000))
        )
    ]


def test_transactions_are_ordered_by_day():
    text = "2024-02-01 b\n  x  1\n  y\n\n2024-01-01 a\n  x  1\n  y\n2024-02-01 c\n  x  1\n  y\n"
    assert [transaction.description for transaction in load_journal(text)] == ["a", "b", "c"]


def test_comments_and_names_with_spaces():
    (transaction,) = load_journal("# c\n2024-01-01 x\n  my cash box  1\n# c\n  other\n")
    assert transaction.postings[0] == Posting("my cash box", 100)


def test_nothing():
    assert load_journal("\n# empty\n") == []


def test_errors_name_the_line():
    for text, message in [
        ("  a  1\n", "line 1: a posting without"),
        ("yesterday x\n  a  1\n  b\n", "line 1: not a date: 'yesterday'"),
        ("\n2024-01-01 x\n  a  1\n", "line 2: a transaction needs two"),
        ("2024-01-01 x\n  a\n  b\n", "line 1: more than one amount"),
        ("2024-01-01 x\n  a  1\n  b  2\n", "line 1: the postings add up to 3.00, not to zero"),
        ("2024-01-01 x\n  a  one\n  b\n", "line 2: not an amount: 'one'"),
    ]:
        with pytest.raises(JournalError, match=message):
            load_journal(text)
