"""Ids of which each may stand for several tests: one outcome for each, told when the last of its tests ends.

SWE-bench's ids are what its log parsers read on a console, and a console shows some tests under one name: two
with the same docstring in Django, parameters that differ behind a space. All tests of a name must pass.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from typing import Any

UNSEEN = ("skipped", "xpassed")
"""Ends that leave no line behind which a parser reads, so that the others of a name speak for it."""
GOOD = ("passed", "xfailed")


class Printed:
    """Gathers how the tests of each id end; `outcome(index, name, message)` is called once for an id."""

    def __init__(self, outcome: Callable[[int, str, str], None]) -> None:
        self._outcome = outcome
        self._ends: dict[int, dict[Any, tuple[str, str] | None]] = {}
        self._indices: dict[Any, list[int]] = {}
        self._told: set[int] = set()

    def add(self, index: int, test: Hashable) -> None:
        """Say that the id with this index stands for this test, beside others."""
        self._ends.setdefault(index, {})[test] = None
        self._indices.setdefault(test, []).append(index)

    def __contains__(self, test: Hashable) -> bool:
        """Whether an id stands for this test."""
        return test in self._indices

    def end(self, test: Hashable, name: str, message: str) -> None:
        """Note how a test ended; the first word on it counts."""
        for index in self._indices.get(test, ()):
            ends = self._ends[index]
            if ends[test] is None:
                ends[test] = (name, message)
                told = [end for end in ends.values() if end is not None]
                if len(told) == len(ends):
                    self.tell(index, *combined(told))

    def tell(self, index: int, name: str, message: str) -> None:
        """Report an id, unless it was reported before."""
        if index not in self._told:
            self._told.add(index)
            self._outcome(index, name, message)


def combined(ends: list[tuple[str, str]]) -> tuple[str, str]:
    """The end of several tests in one: the first bad one, else passed where one passed."""
    seen = [end for end in ends if end[0] not in UNSEEN] or ends
    bad = [end for end in seen if end[0] not in GOOD]
    return bad[0] if bad else max(seen, key=lambda end: end[0] == "passed")
