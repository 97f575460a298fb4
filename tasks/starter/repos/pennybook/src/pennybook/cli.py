"""The command line: `pennybook FILE balance|register|check|export`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from pennybook.export import to_csv, to_json
from pennybook.journal import JournalError, Transaction, load_journal
from pennybook.money import format_cents
from pennybook.report import balances, register


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status. Wrong arguments raise SystemExit(2), as argparse does."""
    arguments = _parser().parse_args(argv)
    try:
        transactions = load_journal(Path(arguments.file).read_text(encoding="utf-8"))
    except (OSError, JournalError) as error:
        print(f"pennybook: {error}", file=sys.stderr)
        return 2
    for line in arguments.command(transactions, arguments):
        print(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pennybook", description="Reports from a plain text journal.")
    parser.add_argument("file", help="the journal")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    balance = commands.add_parser("balance", help="totals by account")
    balance.add_argument("--depth", type=int, help="show accounts down to this depth")
    _add_period(balance)
    balance.set_defaults(command=_balance)

    reg = commands.add_parser("register", help="postings to an account with the running balance")
    reg.add_argument("account")
    _add_period(reg)
    reg.set_defaults(command=_register)

    check = commands.add_parser("check", help="read the journal and count")
    check.set_defaults(command=_check)

    export = commands.add_parser("export", help="write the journal in another format")
    export.add_argument("--format", choices=["csv", "json"], default="csv")
    export.set_defaults(command=_export)
    return parser


def _add_period(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--since", type=_day, metavar="DATE", help="leave out earlier days")
    parser.add_argument("--until", type=_day, metavar="DATE", help="leave out later days")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"not a date: {text!r}") from None


def _balance(transactions: list[Transaction], arguments: argparse.Namespace) -> list[str]:
    lines = []
    for account, cents in balances(transactions, since=arguments.since, until=arguments.until).items():
        *parents, name = account.split(":")
        if arguments.depth is None or len(parents) < arguments.depth:
            lines.append(f"{format_cents(cents):>11}  {'  ' * len(parents)}{name}")
    return lines


def _register(transactions: list[Transaction], arguments: argparse.Namespace) -> list[str]:
    lines = register(transactions, arguments.account, since=arguments.since, until=arguments.until)
    return [
        f"{line.day}  {line.description:<22.22} {format_cents(line.cents):>10} {format_cents(line.balance):>10}"
        for line in lines
    ]


def _check(transactions: list[Transaction], arguments: argparse.Namespace) -> list[str]:
    postings = sum(len(transaction.postings) for transaction in transactions)
    return [f"{len(transactions)} transactions, {postings} postings"]


def _export(transactions: list[Transaction], arguments: argparse.Namespace) -> list[str]:
    text = to_json(transactions) if arguments.format == "json" else to_csv(transactions)
    return text.splitlines()
