"""Free time between meetings. Times of day are minutes since midnight."""

from __future__ import annotations

from collections.abc import Iterable

from spans.interval import Interval
from spans.intervalset import IntervalSet

_DAY = 24 * 60


def parse_clock(text: str) -> int:
    """Minutes since midnight of a time of day: `9:05`, `09:05` or `24:00`.

    Raises ValueError for anything else.
    """
    hours, colon, minutes = text.partition(":")
    if not (colon and hours.isdecimal() and minutes.isdecimal() and len(minutes) == 2 and len(hours) <= 2):
        raise ValueError(f"not a time of day: {text!r}")
    total = int(hours) * 60 + int(minutes)
    if int(minutes) >= 60 or total > _DAY:
        raise ValueError(f"not a time of day: {text!r}")
    return total


def free_slots(
    opening: Interval, meetings: Iterable[Interval], minutes: int, *, pause: int = 0
) -> list[Interval]:
    """The stretches inside `opening` that can hold a meeting of `minutes`, in order.

    With a `pause`, every meeting keeps that many minutes free before and after it.
    A stretch is given whole, not cut into meetings. Raises ValueError for `minutes` below 1 or a negative pause.
    """
    if minutes < 1:
        raise ValueError(f"minutes must be at least 1, not {minutes}")
    if pause < 0:
        raise ValueError(f"pause must not be negative, not {pause}")
    busy = [Interval(meeting.start - pause, meeting.end + pause) for meeting in meetings]
    free: list[Interval] = []
    start = opening.start
    for block in IntervalSet(busy):
        end = min(block.start, opening.end)
        if end - start >= minutes:
            free.append(Interval(start, end))
        start = max(start, block.end)
    if opening.end - start >= minutes:
        free.append(Interval(start, opening.end))
    return free
