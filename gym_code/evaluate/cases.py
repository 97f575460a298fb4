"""What is graded, and what a grader is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    from gym_code.task import Suite


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One patch for one instance."""

    instance_id: str
    patch: bytes | None
    """None: the agent gave none; b"": it changed nothing."""
    sample: int = 0
    """Which of the predictions files it came from: k files are k samples of each instance."""
    model: str = ""
    """The prediction's `model_name_or_path`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graded:
    """What one attempt at grading found."""

    resolved: bool | None
    """None: a fault of ours. It is tried again, and never counts as failed."""
    applied: bool = True
    outcomes: Mapping[str, str] = field(default_factory=dict)
    """`Outcome` values by test id; empty where no test ran."""
    flags: tuple[str, ...] = ()
    reason: str = ""
    """Why there is no verdict, or no test ran."""
    seconds: float = 0.0
    """What the tests took."""


class Grader(Protocol):
    """Gives verdicts. `name` and `version` are part of the key under which a verdict is kept."""

    name: str
    version: str

    def grade(self, suite: Suite, case: Case, folder: Path) -> Graded:
        """Grade a patch that is not empty; logs of this attempt may go into `folder`, which exists.

        May be called from several threads at once. A `SandboxError` is a fault of ours, like `resolved` of
        None; `SandboxUnavailable` says that nothing can be graded here at all.
        """


def is_empty(patch: bytes | None) -> bool:
    """Whether a patch changes nothing: it is not graded, and resolves nothing."""
    return patch is None or not patch.strip()
