"""Double-entry bookkeeping in a plain text file, with a command line."""

from pennybook.journal import JournalError, Posting, Transaction, load_journal
from pennybook.money import format_cents, parse_cents, split_evenly
from pennybook.report import balances, register

__all__ = [
    "JournalError",
    "Posting",
    "Transaction",
    "balances",
    "format_cents",
    "load_journal",
    "parse_cents",
    "register",
    "split_evenly",
]
