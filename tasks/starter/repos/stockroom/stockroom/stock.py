"""Lots of pieces, booked first in, first out."""

from __future__ import annotations

from stockroom.movements import Movement, StockError, read_movements


class Stock:
    """What is there of every article, as lots of `(pieces, cents of one piece)`."""

    def __init__(self) -> None:
        self._lots: dict[str, list[tuple[int, int]]] = {}
        self._latest_cents: dict[str, int] = {}

    def apply(self, movement: Movement) -> None:
        """Book a movement. Raises StockError, and changes nothing, for a withdrawal of more than there is."""
        sku, wanted, there = movement.sku, movement.quantity, self.quantity(movement.sku)
        if movement.kind == "out" and wanted > there:
            raise StockError(f"only {there} of {sku!r} in stock, {wanted} wanted", movement.line)
        lots = self._lots.setdefault(sku, [])
        if movement.kind == "in":
            self._latest_cents[sku] = movement.cents
            lots.append((wanted, movement.cents))
        elif movement.kind == "out":
            self._lots[sku] = _without(lots, wanted)
        elif wanted > there:
            lots.append((wanted - there, self._latest_cents.get(sku, 0)))
        else:
            self._lots[sku] = _without(lots, there - wanted)

    def skus(self) -> list[str]:
        """Every article that was ever moved, in alphabetical order."""
        return sorted(self._lots)

    def lots(self, sku: str) -> list[tuple[int, int]]:
        """The lots of an article, oldest first."""
        return list(self._lots.get(sku, []))

    def quantity(self, sku: str) -> int:
        """Pieces in stock."""
        return sum(pieces for pieces, _ in self.lots(sku))

    def value(self, sku: str) -> int:
        """What the pieces in stock were bought for, in cents."""
        return sum(pieces * cents for pieces, cents in self.lots(sku))


def _without(lots: list[tuple[int, int]], pieces: int) -> list[tuple[int, int]]:
    rest = []
    for count, cents in lots:
        taken = min(count, pieces)
        pieces -= taken
        if count > taken:
            rest.append((count - taken, cents))
    return rest


def load_stock(text: str) -> Stock:
    """The stock after all movements of a file. Raises StockError."""
    stock = Stock()
    for movement in read_movements(text):
        stock.apply(movement)
    return stock
