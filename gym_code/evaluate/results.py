"""What an evaluation found: one result for each sample of each instance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from gym_code.errors import InputError
from gym_code.evaluate.cases import is_empty
from gym_code.evaluate.store import (
    CHOSEN,
    SUITE,
    content_key,
    read_asked,
    read_attempts,
    read_choices,
    read_samples,
)
from gym_code.task import load_suite
from gym_code.types import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from gym_code.evaluate.store import Asked, Attempt, Choice
    from gym_code.interop import Prediction
    from gym_code.task import Suite
    from gym_code.types import Answer, Task

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


def load_evaluation(directory: Path) -> Evaluation:
    """The evaluation in a run's directory, as far as it has come.

    Raises `InputError` where there is none, and where its instances changed since; `RecordError` for a file
    that was altered.
    """
    asked = read_asked(directory)
    suite = suite_of(asked, directory)
    if (digest := dataset_digest(suite, asked.instances)) != asked.dataset_digest:
        raise InputError(
            "the instances changed since the run",
            where=asked.dataset,
            expected=asked.dataset_digest,
            found=digest,
        )
    samples = read_samples(directory, asked.samples)
    choices = []
    if (directory / CHOSEN).is_file():
        choices = read_choices(directory / CHOSEN, dict.fromkeys(asked.instances, asked.samples))
    return collect(suite, asked, samples, read_attempts(directory), choices)


def suite_of(asked: Asked, directory: Path) -> Suite:
    """The suite a run was asked about. Raises `TaskError` where it is gone."""
    return load_suite(str(directory / SUITE) if asked.suite == SUITE else asked.suite)


def dataset_digest(suite: Suite, instances: Sequence[str]) -> str:
    """SHA-256 (hex) over the ids and digests of these tasks, whatever the suite is called."""
    return canonical_digest([[name, suite.task(name).digest] for name in sorted(instances)])


def collect(
    suite: Suite,
    asked: Asked,
    samples: Sequence[Mapping[str, Prediction]],
    attempts: Sequence[Attempt],
    choices: Sequence[Choice] = (),
) -> Evaluation:
    """What the attempts say of the predictions; the first verdict of the newest cycle counts."""
    by_key: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        by_key.setdefault(attempt.key, []).append(attempt)
    results = [
        _result(suite.task(name), suite.answer(name), sample, predictions.get(name), asked, by_key)
        for name in sorted(asked.instances)
        for sample, predictions in enumerate(samples)
    ]
    return Evaluation(
        name=asked.name,
        model=asked.model,
        dataset=asked.dataset,
        dataset_digest=asked.dataset_digest,
        samples=asked.samples,
        results=tuple(results),
        chosen={choice.instance_id: choice.sample for choice in choices},
        selector=asked.selector,
    )


def _result(
    task: Task,
    answer: Answer,
    sample: int,
    prediction: Prediction | None,
    asked: Asked,
    by_key: Mapping[str, Sequence[Attempt]],
) -> Result:
    common: dict[str, Any] = {
        "instance_id": task.id,
        "sample": sample,
        "model": prediction.model if prediction else asked.model,
        "repo": task.repo,
        "difficulty": _difficulty(task),
        "fail_to_pass": answer.fail_to_pass,
        "pass_to_pass": answer.pass_to_pass,
        "runner": task.runner,
    }
    if prediction is None:
        return Result(**common, status="incomplete", resolved=False, reason="no prediction")
    patch, about = patch_of(prediction), _about(prediction)
    common |= {"patch": patch} | _spent(about)
    if is_empty(patch):
        if error := about.get("error"):
            return Result(**common, status="infrastructure", resolved=None, reason=str(error))
        return Result(**common, status="empty", resolved=False, reason="no patch" if patch is None else "")
    name, _, version = asked.graders[task.id].partition(" ")
    key = content_key(task, patch or b"", name, version, asked.timeout)
    return _graded(common, by_key.get(key, ()), asked)


def _graded(common: dict[str, Any], attempts: Sequence[Attempt], asked: Asked) -> Result:
    """The result of a patch from all attempts at it."""
    verdicts = [attempt for attempt in attempts if attempt.graded.resolved is not None]
    current = [attempt for attempt in attempts if attempt.cycle == asked.cycle]
    common |= {"attempts": len(attempts), "gradings": tuple(bool(each.graded.resolved) for each in verdicts)}
    counts = [attempt for attempt in verdicts if attempt.cycle == asked.cycle]
    if not counts:
        if not current:
            return Result(**common, status="incomplete", resolved=None, reason="not graded yet")
        graded = current[-1].graded
        return Result(
            **common, status="infrastructure", resolved=None, reason=graded.reason, flags=graded.flags
        )
    first = counts[0]
    return Result(
        **common,
        status="resolved" if first.graded.resolved else "unresolved",
        resolved=first.graded.resolved,
        applied=first.graded.applied,
        outcomes=first.graded.outcomes,
        flags=first.graded.flags,
        reason=first.graded.reason,
        seconds=first.graded.seconds,
        grader=first.grader,
    )


def patch_of(prediction: Prediction) -> bytes | None:
    """The bytes of a predicted patch."""
    return None if prediction.patch is None else prediction.patch.encode("utf-8", "surrogateescape")


def _about(prediction: Prediction) -> Mapping[str, Any]:
    """What our agents say of how a prediction came about."""
    about = prediction.extra.get("gym")
    return about if isinstance(about, dict) else {}


def _spent(about: Mapping[str, Any]) -> dict[str, Any]:
    """Turns, tokens, money and seconds, where they are numbers."""
    wanted: dict[str, tuple[str, Any]] = {
        "turns": ("turns", int),
        "tokens": ("tokens", int),
        "cost": ("cost", float),
        "agent_seconds": ("seconds", float),
    }
    spent = {}
    for name, (key, kind) in wanted.items():
        value = about.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf:
            spent[name] = kind(value)
    return spent


def _difficulty(task: Task) -> str | None:
    """The label the data set gives, or the quarter a number lies in."""
    label = task.provenance.get("difficulty")
    if isinstance(label, str):
        return label
    if task.difficulty is None:
        return None
    low = min(math.floor(task.difficulty * 4), 3) / 4
    return f"{low:.2f}-{low + 0.25:.2f}"
