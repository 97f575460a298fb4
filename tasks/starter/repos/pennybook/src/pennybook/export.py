"""Journals in formats that other programs read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence

from pennybook.journal import Transaction
from pennybook.money import format_cents


def to_csv(transactions: Sequence[Transaction]) -> str:
    """One line a posting: date, description, account, amount; a header first, lines end in `\\n`."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["date", "description", "account", "amount"])
    for transaction in transactions:
        for posting in transaction.postings:
            day = transaction.day.isoformat()
            writer.writerow([day, transaction.description, posting.account, format_cents(posting.cents)])
    return out.getvalue()


def to_json(transactions: Sequence[Transaction]) -> str:
    """A list of `{date, description, postings: [{account, cents}]}`, indented by two spaces, `\\n` at the end."""
    records = [
        {
            "date": transaction.day.isoformat(),
            "description": transaction.description,
            "postings": [
                {"account": posting.account, "cents": posting.cents} for posting in transaction.postings
            ],
        }
        for transaction in transactions
    ]
    return json.dumps(records, indent=2, ensure_ascii=False) + "\n"
