"""Movements of articles, and the CSV file that holds them."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from datetime import date

HEADER = ["date", "sku", "kind", "quantity", "price"]
KINDS = ("in", "out", "count")

_PRICE = re.compile(r"(\d+)(?:\.(\d{1,2}))?")


class StockError(ValueError):
    """A mistake in the movements. `line` counts from 1, the header included."""

    def __init__(self, message: str, line: int | None = None) -> None:
        self.message, self.line = message, line
        super().__init__(message if line is None else f"line {line}: {message}")


@dataclass(frozen=True, slots=True)
class Movement:
    """Pieces of an article that came, went or were counted. `cents` is the price of one piece, 0 unless `in`."""

    day: date
    sku: str
    kind: str
    quantity: int
    cents: int
    line: int


def read_movements(text: str) -> list[Movement]:
    """All movements of a file. Raises StockError for the first mistake."""
    reader = csv.reader(text.splitlines())
    if next(reader, None) != HEADER:
        raise StockError(f"expected the header {','.join(HEADER)}", 1)
    movements: list[Movement] = []
    for row in reader:
        if not row or (len(row) == 1 and not row[0].strip()):
            continue
        movements.append(_movement(row, reader.line_num, movements[-1].day if movements else None))
    return movements


def _movement(row: list[str], line: int, earliest: date | None) -> Movement:
    if len(row) != len(HEADER):
        raise StockError(f"expected {len(HEADER)} fields, found {len(row)}", line)
    day_text, sku, kind, quantity, price = (field.strip() for field in row)
    try:
        day = date.fromisoformat(day_text)
    except ValueError:
        raise StockError(f"not a date: {day_text!r}", line) from None
    if earliest is not None and day < earliest:
        raise StockError("dates go backwards", line)
    if not sku:
        raise StockError("the sku is empty", line)
    if kind not in KINDS:
        raise StockError(f"unknown kind: {kind!r}", line)
    if not re.fullmatch(r"\d+", quantity) or (int(quantity) == 0 and kind != "count"):
        raise StockError(f"not a quantity: {quantity!r}", line)
    return Movement(day, sku, kind, int(quantity), _cents(price, kind, line), line)


def _cents(price: str, kind: str, line: int) -> int:
    if kind != "in":
        if price:
            raise StockError("only deliveries have a price", line)
        return 0
    match = _PRICE.fullmatch(price)
    if match is None:
        raise StockError(f"not a price: {price!r}", line)
    return int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))
