"""Results by instance, and the kinds that a report counts them by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gym_code.evaluate.results import Result

KINDS = ("resolved", "unresolved", "empty", "no_prediction", "infrastructure", "not_graded")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One instance and the verdicts of its samples that have one."""

    instance_id: str
    repo: str
    difficulty: str | None
    runner: str
    verdicts: tuple[bool, ...]

    @property
    def rate(self) -> float:
        """The share of its graded samples that are resolved; there is at least one."""
        return sum(self.verdicts) / len(self.verdicts)


def by_instance(results: Sequence[Result]) -> list[Instance]:
    """Every instance, in the order of the results."""
    samples: dict[str, list[Result]] = {}
    for result in results:
        samples.setdefault(result.instance_id, []).append(result)
    return [
        Instance(
            instance_id=name,
            repo=of[0].repo,
            difficulty=of[0].difficulty,
            runner=of[0].runner,
            verdicts=tuple(result.resolved for result in of if result.resolved is not None),
        )
        for name, of in samples.items()
    ]


def kind(result: Result) -> str:
    """One of `KINDS`: the status, with the two ways to be incomplete told apart (failed, unknown as yet)."""
    if result.status != "incomplete":
        return result.status
    return "not_graded" if result.resolved is None else "no_prediction"
