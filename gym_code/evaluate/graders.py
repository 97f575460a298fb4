"""The graders of an evaluation: our clean box, and SWE-bench's own for what has no runner of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gym_code.errors import ConfigError
from gym_code.evaluate.apply import normalised
from gym_code.evaluate.cases import Graded
from gym_code.evaluate.official import OfficialGrader
from gym_code.grading import flags, grade
from gym_code.grading.verdict import GRADER_VERSION
from gym_code.interop.verdicts import accepted
from gym_code.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from gym_code.evaluate.cases import Case, Grader
    from gym_code.sandbox.base import Backend
    from gym_code.task import Suite
    from gym_code.types import Answer, Reward, Task

GRADERS = ("auto", "clean-box", "official")
_NO_RUNNER = "official"
"""The runner of tasks whose tests only SWE-bench's own parsers read."""
_DRIFTED = frozenset({flags.PATCH_DOES_NOT_APPLY, flags.PATCH_UNREADABLE})


class CleanBoxGrader:
    """Runs the tests by id in a clean box and hears of them over a private channel.

    Rows of SWE-bench are judged by its rule (`gym_code.interop.verdicts`), our own tasks by ours: every test
    passes. A patch that does not apply as it is written is tried with what SWE-bench tries, in a box.
    timeout: seconds for one run of all tests, instead of the task's.
    """

    name = "clean-box"

    def __init__(self, backend: Backend, timeout: float | None = None) -> None:
        self._backend, self._timeout = backend, timeout
        self.version = f"{GRADER_VERSION} {backend.name}"

    def grade(self, suite: Suite, case: Case, folder: Path) -> Graded:
        """Grade a patch. Raises what `gym_code.grading.grade` raises; leaves nothing in `folder`."""
        task, answer = suite.task(case.instance_id), suite.answer(case.instance_id)
        patch = case.patch or b""
        reward = self._reward(suite, task, answer, patch)
        if reward.verdict is not None and _DRIFTED.intersection(reward.verdict.flags):
            fitted = normalised(suite, task.id, patch, self._backend)
            if fitted is not None:
                reward = self._reward(suite, task, answer, fitted)
        return _graded(answer, reward)

    def _reward(self, suite: Suite, task: Task, answer: Answer, patch: bytes) -> Reward:
        rule = accepted(answer, runner=task.runner) if task.ids == "swebench" else None
        return grade(
            task, answer, patch, self._backend, suite.start(task.id), timeout=self._timeout, accepted=rule
        )


def _graded(answer: Answer, reward: Reward) -> Graded:
    verdict = reward.verdict
    if verdict is None:
        return Graded(resolved=None, applied=False, reason="the grader gave no verdict")
    outcomes = {test: outcome.value for test, outcome in verdict.report.outcomes.items()}
    found = frozenset(verdict.flags)
    if not verdict.valid or flags.DISBELIEVED & found:
        # What came of a run that cannot be believed is not shown as if it counted.
        outcomes = dict.fromkeys((*answer.fail_to_pass, *answer.pass_to_pass), Outcome.MISSING.value)
    reasons = [str(value) for key, value in verdict.controls.items() if key != "gold" or not verdict.valid]
    return Graded(
        resolved=verdict.resolved if verdict.valid else None,
        applied=not flags.REFUSED & found,
        outcomes=outcomes,
        flags=verdict.flags,
        reason="; ".join(reasons),
        seconds=verdict.report.seconds,
    )


def graders_of(
    suite: Suite, ids: Iterable[str], which: str, backend: Backend, timeout: float | None
) -> dict[str, Grader]:
    """The grader of each instance. which: one of `GRADERS`; `auto` takes our own wherever it has a runner.

    Raises `ConfigError` where our own is asked for and has none, or where SWE-bench's package is needed and
    not installed.
    """
    if which not in GRADERS:
        raise ConfigError("no such grader", where="--grader", expected=" | ".join(GRADERS), found=which)
    names = list(ids)
    without = [name for name in names if suite.task(name).runner == _NO_RUNNER]
    if which == "clean-box" and without:
        raise ConfigError(
            "has no runner of ours", where=without[0], expected="--grader auto or official", found=which
        )
    theirs = frozenset(names if which == "official" else without)
    own: Grader = CleanBoxGrader(backend, timeout)
    official: Grader | None = OfficialGrader(timeout) if theirs else None
    return {name: official if official is not None and name in theirs else own for name in names}
