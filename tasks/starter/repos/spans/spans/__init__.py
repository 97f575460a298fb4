"""Half-open intervals of integers or dates, sets of them, and recurring days."""

from spans.agenda import free_slots, parse_clock
from spans.interval import Interval
from spans.intervalset import IntervalSet
from spans.recurrence import Recurrence

__all__ = ["Interval", "IntervalSet", "Recurrence", "free_slots", "parse_clock"]
