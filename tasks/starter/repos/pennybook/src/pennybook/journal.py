"""Transactions, and the text file that holds them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date

from pennybook.money import format_cents, parse_cents


class JournalError(ValueError):
    """A journal that cannot be read; the message names the line."""


@dataclass(frozen=True, slots=True)
class Posting:
    """An amount in cents that goes to an account (colon-separated names)."""

    account: str
    cents: int


@dataclass(frozen=True, slots=True)
class Transaction:
    """What happened on a day. The postings add up to zero."""

    day: date
    description: str
    postings: tuple[Posting, ...]


def load_journal(text: str) -> list[Transaction]:
    """The transactions of a journal by date; those of one day stay in the order of the text. Raises JournalError."""
    transactions: list[Transaction] = []
    block: list[tuple[int, str]] = []
    for number, line in enumerate([*text.splitlines(), ""], start=1):
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t") and line.strip():
            if not block:
                raise JournalError(f"line {number}: a posting without a transaction")
            block.append((number, line.strip()))
            continue
        if block:
            transactions.append(_transaction(block))
        block = [(number, line)] if line.strip() else []
    return sorted(transactions, key=lambda transaction: transaction.day)


def _transaction(block: list[tuple[int, str]]) -> Transaction:
    number, head = block[0]
    day, _, description = head.partition(" ")
    try:
        parsed = date.fromisoformat(day)
    except ValueError:
        raise JournalError(f"line {number}: not a date: {day!r}") from None
    postings = [_posting(*line) for line in block[1:]]
    if len(postings) < 2:
        raise JournalError(f"line {number}: a transaction needs two postings or more")
    return Transaction(parsed, description.strip(), tuple(_balanced(postings, number)))


def _posting(number: int, line: str) -> tuple[str, int | None]:
    account, *amount = re.split(r"\s{2,}|\t", line, maxsplit=1)
    if not amount:
        return account, None
    try:
        return account, parse_cents(amount[0])
    except ValueError as error:
        raise JournalError(f"line {number}: {error}") from None


def _balanced(postings: list[tuple[str, int | None]], number: int) -> list[Posting]:
    total = sum(cents for _, cents in postings if cents is not None)
    missing = sum(cents is None for _, cents in postings)
    if missing > 1:
        raise JournalError(f"line {number}: more than one amount is left out")
    if missing == 0 and total != 0:
        raise JournalError(f"line {number}: the postings add up to {format_cents(total)}, not to zero")
    return [Posting(account, -total if cents is None else cents) for account, cents in postings]
