"""The command line: `stockroom FILE list|value|low|history`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from stockroom.movements import StockError, read_movements
from stockroom.stock import Stock, load_stock


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        lines = arguments.command(Path(arguments.file).read_text(encoding="utf-8"), arguments)
    except (OSError, StockError) as error:
        print(f"stockroom: {error}", file=sys.stderr)
        return 2
    for line in lines:
        print(line)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stockroom", description="What lies in a small stockroom.")
    parser.add_argument("file", help="CSV file of movements")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    commands.add_parser("list", help="quantities").set_defaults(command=_list)
    commands.add_parser("value", help="values").set_defaults(command=_value)
    low = commands.add_parser("low", help="articles that run out")
    low.add_argument("--below", type=int, default=10, metavar="N")
    low.set_defaults(command=_low)
    history = commands.add_parser("history", help="movements of one article")
    history.add_argument("sku")
    history.set_defaults(command=_history)
    return parser


def _list(text: str, arguments: argparse.Namespace) -> list[str]:
    stock = load_stock(text)
    return _quantities(stock, [sku for sku in stock.skus() if stock.quantity(sku)])


def _quantities(stock: Stock, skus: Sequence[str]) -> list[str]:
    width = max(map(len, skus), default=0)
    return [f"{sku:<{width}}  {stock.quantity(sku):>6}" for sku in skus]


def _value(text: str, arguments: argparse.Namespace) -> list[str]:
    stock = load_stock(text)
    values = {sku: stock.value(sku) for sku in stock.skus() if stock.quantity(sku)}
    rows = [*values.items(), ("total", sum(values.values()))]
    width = max(len(name) for name, _ in rows)
    return [f"{name:<{width}}  {f'{cents // 100}.{cents % 100:02}':>10}" for name, cents in rows]


def _low(text: str, arguments: argparse.Namespace) -> list[str]:
    stock = load_stock(text)
    skus = [sku for sku in stock.skus() if stock.quantity(sku) < arguments.below]
    return _quantities(stock, sorted(skus, key=stock.quantity))


def _history(text: str, arguments: argparse.Namespace) -> list[str]:
    stock, lines = Stock(), []
    for movement in read_movements(text):
        before = stock.quantity(arguments.sku)
        stock.apply(movement)
        if movement.sku == arguments.sku:
            after = stock.quantity(arguments.sku)
            lines.append(f"{movement.day}  {movement.kind:<5} {after - before:>+7} {after:>7}")
    if not lines:
        raise StockError(f"unknown sku: {arguments.sku!r}")
    return lines
