"""All that is wrong with a file of rows, told together: one look at the message, one round of mending."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gym_code.errors import InputError
from gym_code.suite.fields import Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_SHOWN = 20
_SHOWN = 100


class DataError(InputError):
    """A file of rows or predictions is wrong. `problems` are the first `MOST_SHOWN`, `total` counts all.

    >>> lost = Problem(file="rows.jsonl", line=3, field="FAIL_TO_PASS", expected="a list", found="nothing")
    >>> print(DataError([lost], 1))
    rows.jsonl:3: FAIL_TO_PASS: expected a list, found nothing
    """

    def __init__(self, problems: Sequence[Problem], total: int) -> None:
        self.problems, self.total = tuple(problems), total
        lines = [str(problem) for problem in problems]
        if total > 1:
            lines.insert(0, f"{total} problems:")
        if total > len(problems):
            lines.append(f"and {total - len(problems)} more")
        super().__init__("\n".join(lines))


class Problems:
    """Gathers what is wrong with one file; `raise_any` tells it."""

    def __init__(self) -> None:
        self.found: list[Problem] = []
        self.total = 0

    def add(self, where: tuple[str, int], field: str, expected: str, found: object) -> None:
        """Note a problem at (file, line); line 0 where there is none."""
        self.total += 1
        if len(self.found) < MOST_SHOWN:
            file, line = where
            self.found.append(
                Problem(file=file, line=line, field=field, expected=expected, found=shown(found))
            )

    def raise_any(self) -> None:
        """Raise `DataError` if anything was noted."""
        if self.total:
            raise DataError(self.found, self.total)


def fail(where: tuple[str, int], field: str, expected: str, found: object) -> DataError:
    """An error of one problem, after which a file cannot be read further."""
    file, line = where
    return DataError([Problem(file=file, line=line, field=field, expected=expected, found=shown(found))], 1)


def shown(value: object) -> str:
    """A value as a message shows it: short; words (an exception's, ours) are given as they are."""
    text = value if isinstance(value, str) else str(value) if isinstance(value, Exception) else repr(value)
    text = " ".join(text.split())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def kind(value: object) -> str:
    """What JSON calls the type of a value."""
    names = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return "null" if value is None else names.get(type(value), "an object")
