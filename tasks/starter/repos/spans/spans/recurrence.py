"""Dates that come back: daily, weekly or monthly."""

from __future__ import annotations

import calendar
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from itertools import count, islice

_UNITS = ("day", "week", "month")


@dataclass(frozen=True, slots=True)
class Recurrence:
    """Every `every` days, weeks or months from `start` on, up to and including `until`.

    Months without the day of `start` are skipped (a series from the 31st has no date in April), unless
    `clamp` is set: then their last day takes its place. Dates in `skip` are left out; they do not shift the
    others. Raises ValueError for an unknown unit or an `every` below 1.
    """

    start: date
    unit: str
    every: int = 1
    until: date | None = None
    clamp: bool = False
    skip: frozenset[date] = frozenset()

    def __post_init__(self) -> None:
        if self.unit not in _UNITS:
            raise ValueError(f"unknown unit {self.unit!r}: one of day, week, month")
        if self.every < 1:
            raise ValueError(f"every must be at least 1, not {self.every}")

    def __iter__(self) -> Iterator[date]:
        for step in count():
            day = self._nth(step * self.every)
            if day is None:
                continue
            if self.until is not None and day > self.until:
                return
            if day not in self.skip:
                yield day

    def __contains__(self, day: date) -> bool:
        for candidate in self:
            if candidate >= day:
                return candidate == day
        return False

    def first(self, n: int) -> list[date]:
        """The first `n` dates, fewer if the series ends before."""
        return list(islice(self, n))

    def between(self, start: date, end: date) -> list[date]:
        """The dates `d` with `start <= d < end`."""
        found = []
        for day in self:
            if day >= end:
                break
            if day >= start:
                found.append(day)
        return found

    def after(self, day: date) -> date | None:
        """The first date later than `day`, None when the series has ended."""
        return next((candidate for candidate in self if candidate > day), None)

    def _nth(self, units: int) -> date | None:
        if self.unit != "month":
            return self.start + timedelta(days=units * (7 if self.unit == "week" else 1))
        years, month = divmod(self.start.month - 1 + units, 12)
        year = self.start.year + years
        last = calendar.monthrange(year, month + 1)[1]
        if self.start.day > last and not self.clamp:
            return None
        return date(year, month + 1, min(self.start.day, last))
