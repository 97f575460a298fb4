"""The funnel of making tasks: how many functions reach each stage, and why the others did not."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gym_code.types import JSON

STAGES = {
    "functions": "defined in the package",
    "covered": "run by a test that always passes",
    "non-trivial": "two statements or more, or a branch, a loop, a comprehension",
    "selected": "chosen before anything is cut, from the files and the coverage run alone",
    "tried": "cut, run and graded",
    "accepted": "tasks",
}
"""The stages in order, with what reaching them means."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of the funnel."""

    name: str
    """One of `STAGES`."""
    count: int
    """How many reached it."""
    lost: Mapping[str, int] = field(default_factory=dict)
    """How many of the stage before did not, by reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """The stages of one package. Each stage's count is the one before less what was lost in between.

    functions 155, covered 142 (13 lost), non-trivial 101 (41), selected 86 (15), tried 86, accepted 84 (2)
    """

    stages: tuple[Stage, ...]

    @classmethod
    def begin(cls, functions: int) -> Funnel:
        """A funnel with nothing but its mouth."""
        return cls(stages=(Stage(name=next(iter(STAGES)), count=functions),))

    def then(self, reasons: Iterable[str]) -> Funnel:
        """One stage more, which one function a reason did not reach."""
        lost = Counter(reasons)
        name = list(STAGES)[len(self.stages)]
        left = self.stages[-1].count - lost.total()
        return Funnel(stages=(*self.stages, Stage(name=name, count=left, lost=dict(sorted(lost.items())))))

    def count(self, name: str) -> int:
        """How many reached a stage."""
        return next(stage.count for stage in self.stages if stage.name == name)

    def lost(self, name: str) -> Mapping[str, int]:
        """What was lost on the way to a stage, by reason."""
        return next(stage.lost for stage in self.stages if stage.name == name)

    def share(self, name: str, of: str) -> float | None:
        """The part of stage `of` that reached stage `name`, 0 to 1; None where `of` is empty."""
        whole = self.count(of)
        return round(self.count(name) / whole, 3) if whole else None

    def to_json(self) -> list[JSON]:
        """The stages as JSON objects, in order."""
        return [{"stage": s.name, "count": s.count, "lost": dict(s.lost)} for s in self.stages]
