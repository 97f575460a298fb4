"""What a journal says about accounts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date

from pennybook.journal import Transaction


@dataclass(frozen=True, slots=True)
class Line:
    """One posting to an account, and the balance after it, in cents."""

    day: date
    description: str
    cents: int
    balance: int


def in_account(account: str, parent: str) -> bool:
    """Whether an account is another one or lies below it."""
    return account == parent or account.startswith(parent + ":")


def balances(
    transactions: Iterable[Transaction], *, since: date | None = None, until: date | None = None
) -> dict[str, int]:
    """Cents by account, in alphabetical order, every account's total including the accounts below it.

    Only transactions of the days from `since` to `until` count, both included.
    """
    totals: dict[str, int] = {}
    for transaction in transactions:
        if not _in_period(transaction, since, until):
            continue
        for posting in transaction.postings:
            names = posting.account.split(":")
            for depth in range(1, len(names) + 1):
                name = ":".join(names[:depth])
                totals[name] = totals.get(name, 0) + posting.cents
    return {name: totals[name] for name in sorted(totals, key=lambda name: name.split(":"))}


def register(
    transactions: Iterable[Transaction], account: str, *, since: date | None = None, until: date | None = None
) -> list[Line]:
    """The postings to an account and the accounts below it, with the running balance.

    Lines before `since` or after `until` are left out, but the balance goes on counting what came before.
    """
    lines: list[Line] = []
    balance = 0
    for transaction in transactions:
        for posting in transaction.postings:
            if in_account(posting.account, account):
                balance += posting.cents
                if _in_period(transaction, since, until):
                    lines.append(Line(transaction.day, transaction.description, posting.cents, balance))
    return lines


def _in_period(transaction: Transaction, since: date | None, until: date | None) -> bool:
    return (since is None or transaction.day >= since) and (until is None or transaction.day <= until)
