"""What an evaluation found: one result for each sample of each instance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Status = Literal["resolved", "unresolved", "empty", "infrastructure", "incomplete"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One sample of one instance."""

    instance_id: str
    sample: int = 0
    model: str = ""
    repo: str = ""
    difficulty: str | None = None
    """A label (`15 min - 1 hour`) or a number as text; None where the data set has none."""
    patch: bytes | None = None
    status: Status
    """`empty`: the patch changes nothing or is none; `incomplete`: no prediction, or not graded yet."""
    resolved: bool | None
    """None where a fault of ours left no verdict, and where nothing was graded yet. False where there is
    no patch or no prediction."""
    applied: bool = False
    outcomes: Mapping[str, str] = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    reason: str = ""
    fail_to_pass: tuple[str, ...] = ()
    pass_to_pass: tuple[str, ...] = ()
    runner: str = "pytest"
    gradings: tuple[bool, ...] = ()
    """The verdicts of all gradings of this patch that have one, in order: those that differ are flakes."""
    attempts: int = 0
    seconds: float = 0.0
    """What the tests of the grading that counts took."""
    turns: int | None = None
    tokens: int | None = None
    cost: float | None = None
    agent_seconds: float | None = None
    grader: str = ""
    """Name and version; empty where nothing was graded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """One run: `results` has `samples` for each instance, sorted by (instance_id, sample)."""

    name: str
    model: str
    dataset: str
    """What was asked for."""
    dataset_digest: str
    """SHA-256 (hex) over the digests of its tasks: two runs with the same one were asked the same."""
    samples: int
    results: tuple[Result, ...]
    chosen: Mapping[str, int] = field(default_factory=dict)
    """Best of n: the sample chosen for an instance, without a look at the hidden tests."""
    selector: str = ""
    """How it was chosen; empty where nothing was."""
