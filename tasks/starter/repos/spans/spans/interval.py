"""One half-open interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, order=True, slots=True)
class Interval:
    """All points `p` with `start <= p < end`. Never empty: raises ValueError unless `start < end`."""

    start: Any
    end: Any

    def __post_init__(self) -> None:
        if not self.start < self.end:
            raise ValueError(f"empty interval: start {self.start} is not before end {self.end}")

    def __contains__(self, point: Any) -> bool:
        return self.start <= point < self.end

    def __str__(self) -> str:
        return f"[{self.start}, {self.end})"

    @property
    def length(self) -> Any:
        """The distance between the ends."""
        return self.end - self.start

    def overlaps(self, other: Interval) -> bool:
        """Whether some point lies in both."""
        return self.start < other.end and other.start < self.end

    def touches(self, other: Interval) -> bool:
        """Whether the union of both is one interval: they overlap, or one begins where the other ends."""
        return self.start <= other.end and other.start <= self.end

    def intersection(self, other: Interval) -> Interval | None:
        """The points in both, None when there are none."""
        if not self.overlaps(other):
            return None
        return Interval(max(self.start, other.start), min(self.end, other.end))

    def hull(self, other: Interval) -> Interval:
        """The smallest interval that covers both."""
        return Interval(min(self.start, other.start), max(self.end, other.end))
