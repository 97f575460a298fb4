"""The last gate: the gold patch scores 1 and the empty patch 0, every time, under the grader agents meet."""

from __future__ import annotations

import hashlib
import re
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from gym_code.errors import SandboxError, TaskError
from gym_code.gitrepo import base_commit
from gym_code.grading import check_task, grade
from gym_code.suite import TaskDraft, create_suite, read_tree, write_task, write_tree
from gym_code.synth.baseline import STABLE_RUNS, WORKDIR
from gym_code.synth.cut import Lost
from gym_code.synth.patches import git_patch
from gym_code.types import Answer, Outcome, StartTree, Task, tree_digest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gym_code.grading.check import TaskCheck
    from gym_code.sandbox.base import Backend
    from gym_code.synth.baseline import Baseline
    from gym_code.synth.cut import Cut
    from gym_code.synth.removal import Function

GOLD_FAILS = "the gold patch does not score 1 every time"
NOOP_PASSES = "the empty patch does not score 0 every time"
DISTURBED = "the tests do not fail and pass in the grader's order as they did in the suite's"
KEPT_SHARE = 0.5
"""A task must keep at least this share of the tests that passed without the body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Valid:
    """A candidate that became a task."""

    cut: Cut
    task: Task
    answer: Answer
    repeats: int

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
    """Grade gold and no-op `repeats` times each. Raises `SandboxError` where a box fails.

    Where a test that must keep passing fails beside the failing ones and only there (they leave a changed
    global behind when they end early), it is taken from PASS_TO_PASS and the rest is graded again.
    """
    valid, check = _checked(base, found, backend, repeats)
    if not check.ok:
        kept = _undisturbed(valid, found, backend)
        if KEPT_SHARE * len(found.pass_to_pass) <= len(kept) < len(found.pass_to_pass):
            valid, check = _checked(base, replace(found, pass_to_pass=kept), backend, repeats)
    if check.ok:
        return valid
    gold = all(value == 1.0 for value in check.oracle)
    noop = all(value == 0.0 for value in check.noop)
    reason = GOLD_FAILS if not gold else DISTURBED if noop else NOOP_PASSES
    return Lost(key=found.function.key, reason=reason, detail=check.reasons[0][:300])


def _checked(base: Baseline, found: Cut, backend: Backend, repeats: int) -> tuple[Valid, TaskCheck]:
    task, answer = records(base, found)
    valid = Valid(cut=found, task=task, answer=answer, repeats=repeats)
    check = check_task(OneTask(task, answer, _start(found)), task.id, backend, runs=repeats)
    if None in (*check.oracle, *check.noop):
        raise SandboxError(check.reasons[0])
    return valid, check


def _undisturbed(valid: Valid, found: Cut, backend: Backend) -> tuple[str, ...]:
    """The PASS_TO_PASS tests that pass without the body, in the grader's order, beside all that fail."""
    verdict = grade(valid.task, valid.answer, b"", backend, _start(found)).verdict
    outcomes = verdict.report.outcomes if verdict is not None else {}
    return tuple(name for name in found.pass_to_pass if outcomes.get(name) is Outcome.PASSED)


def _start(found: Cut) -> StartTree:
    return StartTree(digest=tree_digest(found.start), files=lambda: found.start)


def write(out: Path, base: Baseline, made: Valid) -> Path:
    """Write the task into the suite at `out`, whole or not at all; its directory."""
    found, answer = made.cut, made.answer
    limits = {"exec_seconds": base.limits.exec_seconds}
    draft = TaskDraft(
        instance_id=made.task_id,
        source=base.directory,
        instruction=found.statement,
        gold_patch=answer.gold_patch,
        test_patch=answer.test_patch,
        fail_to_pass=found.fail_to_pass,
        pass_to_pass=found.pass_to_pass,
        visible_tests=found.visible,
        runner=base.layout.runner,
        environment=base.environment,
        limits=limits,
        repo=made.task.repo,
        version=base.source.version,
        family=base.source.name,
        removed=(f"{base.layout.module(found.function.path)}.{found.function.qualname}",),
        level="function",
        difficulty=found.difficulty,
        licence=base.source.licence,
        evidence={
            "gold_runs": made.repeats,
            "noop_runs": made.repeats,
            "suite_runs": 1 + STABLE_RUNS,
            "stable_tests_left_out": len(base.stable - {*found.fail_to_pass, *found.pass_to_pass}),
        },
    )
    return write_task(out, draft)


def write_source(out: Path, base: Baseline) -> None:
    """Begin the suite: `sweb.yaml` unless there is one, and the source tree, whole or not at all.

    Raises `TaskError` where another tree lies in its place: the tasks made from it would no longer hold.
    """
    if not (out / "sweb.yaml").exists():
        what = f"Function bodies to write again, made from {base.source.origin}"
        create_suite(out, name=out.resolve().name, description=what)
    target, digest = out / "repos" / base.directory, tree_digest(base.source.files)
    if target.is_dir():
        found = tree_digest(read_tree(target))
        if found != digest:
            raise TaskError("another source tree is there", where=str(target), expected=digest, found=found)
        return
    with tempfile.TemporaryDirectory(prefix=".new-", dir=out) as folder:
        write_tree(Path(folder) / "tree", base.source.files)
        (Path(folder) / "tree").rename(target)


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
        repo=f"{base.source.origin.partition(':')[0]}/{base.source.name}",
        family=base.source.name,
        difficulty=found.difficulty,
        limits=base.limits,
    )
    return task, answer


def task_name(package: str, function: Function) -> str:
    """`cachetools__lrucache-popitem-3fa2c1`: readable, and unique by a digest of path and name."""
    words = re.sub(r"[^a-z0-9]+", "-", function.qualname.lower()).strip("-")
    return f"{package}__{words}-{hashlib.sha256(function.key.encode()).hexdigest()[:6]}"
