"""The last gate: the gold patch scores 1 and the empty patch 0, every time, under the grader agents meet."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gym_code.gitrepo import base_commit
from gym_code.grading import check_task
from gym_code.grading.reward import GOLD_SECONDS
from gym_code.synth.baseline import WORKDIR
from gym_code.synth.cut import Lost
from gym_code.synth.patches import git_patch
from gym_code.types import Answer, StartTree, Task, tree_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gym_code.sandbox.base import Backend
    from gym_code.synth.baseline import Baseline
    from gym_code.synth.cut import Cut
    from gym_code.synth.removal import Function

GOLD_FAILS = "the gold patch does not score 1 every time"
NOOP_PASSES = "the empty patch does not score 0 every time"


@dataclass(frozen=True, slots=True, kw_only=True)
class Valid:
    """A candidate that became a task."""

    cut: Cut
    task: Task
    answer: Answer
    repeats: int
    gold_seconds: float

    @property
    def task_id(self) -> str:
        """The id it is written under."""
        return self.task.id


class OneTask:
    """A suite of the one task being made, in memory."""

    name = "making"

    def __init__(self, task: Task, answer: Answer, start: StartTree) -> None:
        self._task, self._answer, self._start = task, answer, start

    def ids(self) -> Sequence[str]:
        """Its id."""
        return (self._task.id,)

    def task(self, task_id: str) -> Task:
        """The public half."""
        return self._task

    def start(self, task_id: str) -> StartTree:
        """The tree it begins from."""
        return self._start

    def answer(self, task_id: str) -> Answer:
        """The secret half."""
        return self._answer


def validate(base: Baseline, found: Cut, backend: Backend, *, repeats: int) -> Valid | Lost:
    """Grade gold and no-op `repeats` times each. Raises `SandboxError` where a box fails."""
    task, answer = records(base, found)
    start = StartTree(digest=tree_digest(found.start), files=lambda: found.start)
    check = check_task(OneTask(task, answer, start), task.id, backend, runs=repeats)
    if not check.ok:
        gold = all(value == 1.0 for value in check.oracle)
        reason = NOOP_PASSES if gold and any(value != 0.0 for value in check.noop) else GOLD_FAILS
        return Lost(key=found.function.key, reason=reason, detail=check.reasons[0][:300])
    return Valid(cut=found, task=task, answer=answer, repeats=repeats, gold_seconds=check.oracle_seconds)


def records(base: Baseline, found: Cut) -> tuple[Task, Answer]:
    """The task and its answer."""
    full = base.source.files
    task_id = task_name(base.source.name, found.function)
    answer = Answer(
        task_id=task_id,
        fail_to_pass=found.fail_to_pass,
        pass_to_pass=found.pass_to_pass,
        gold_patch=git_patch(found.start, {**found.start, found.function.path: full[found.function.path]}),
        test_patch=git_patch(found.start, {**full, found.function.path: found.start[found.function.path]}),
    )
    task = Task(
        id=task_id,
        instruction=found.statement,
        base_commit=base_commit(found.start),
        workdir=WORKDIR,
        environment=base.environment,
        runner=base.layout.runner,
        visible_tests=found.visible,
        repo=base.source.name,
        family=base.source.name,
        difficulty=found.difficulty,
        limits=base.limits,
        provenance={GOLD_SECONDS: base.suite_seconds},
    )
    return task, answer


def task_name(package: str, function: Function) -> str:
    """`cachetools__lrucache-popitem-3fa2c1`: readable, and unique by a digest of path and name."""
    words = re.sub(r"[^a-z0-9]+", "-", function.qualname.lower()).strip("-")
    return f"{package}__{words}-{hashlib.sha256(function.key.encode()).hexdigest()[:6]}"
