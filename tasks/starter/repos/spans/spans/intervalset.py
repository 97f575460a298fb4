"""Sets of points, kept as disjoint intervals."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from spans.interval import Interval


class IntervalSet:
    """An immutable set of points, kept as intervals in order that neither overlap nor touch."""

    __slots__ = ("_parts",)

    def __init__(self, intervals: Iterable[Interval] = ()) -> None:
        merged: list[Interval] = []
        for part in sorted(intervals):
            if merged and merged[-1].touches(part):
                merged[-1] = merged[-1].hull(part)
            else:
                merged.append(part)
        self._parts = tuple(merged)

    def __iter__(self) -> Iterator[Interval]:
        return iter(self._parts)

    def __len__(self) -> int:
        return len(self._parts)

    def __contains__(self, point: Any) -> bool:
        return any(point in part for part in self._parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, IntervalSet) and self._parts == other._parts

    def __hash__(self) -> int:
        return hash(self._parts)

    def __repr__(self) -> str:
        return f"IntervalSet({', '.join(map(str, self._parts))})"

    def __or__(self, other: IntervalSet) -> IntervalSet:
        return IntervalSet([*self, *other])

    def __and__(self, other: IntervalSet) -> IntervalSet:
        common = (mine.intersection(theirs) for mine in self for theirs in other)
        return IntervalSet(part for part in common if part is not None)

    def __sub__(self, other: IntervalSet) -> IntervalSet:
        """The points of this set that are not in the other one."""
        rest: list[Interval] = []
        for part in self:
            start = part.start
            for hole in other:
                if hole.end <= start or hole.start >= part.end:
                    continue
                if start < hole.start:
                    rest.append(Interval(start, hole.start))
                start = hole.end
            if start < part.end:
                rest.append(Interval(start, part.end))
        return IntervalSet(rest)

    def __xor__(self, other: IntervalSet) -> IntervalSet:
        """The points that are in exactly one of both sets."""
        return (self - other) | (other - self)

    def gaps(self) -> IntervalSet:
        """The points between the first and the last one that are not in this set."""
        parts = self._parts
        return IntervalSet(Interval(a.end, b.start) for a, b in zip(parts, parts[1:], strict=False))

    def total(self) -> Any:
        """The lengths of all parts added up; raises ValueError for an empty set, which has no unit."""
        if not self._parts:
            raise ValueError("the empty set has no total")
        first, *rest = (part.length for part in self._parts)
        return sum(rest, first)
