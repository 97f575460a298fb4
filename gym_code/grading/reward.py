"""From a verdict to a reward, and the whole way there: `grade`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gym_code.errors import EnvironmentBuildError, SandboxError, SandboxUnavailable
from gym_code.grading import verdict as verdicts
from gym_code.grading.confirm import confirmed
from gym_code.grading.plan import Refused, make_plan
from gym_code.grading.run import counts, run_in_new_box
from gym_code.types import Outcome, Reward

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gym_code.grading.run import Accepted, Plan, Run
    from gym_code.sandbox.base import Backend
    from gym_code.types import Answer, File, StartTree, Task, Verdict

GOLD_SECONDS = "gold_seconds"
"""Key of `Task.provenance`: how long the gold patch's tests took when the task was made, in seconds."""
PATIENCE = 10.0
"""A run may take this many times as long as the gold patch's did."""


def grade(
    task: Task,
    answer: Answer,
    patch: bytes,
    backend: Backend,
    start: StartTree,
    *,
    timeout: float | None = None,
    accepted: Accepted | None = None,
) -> Reward:
    """The reward for `patch`: 1.0 when all FAIL_TO_PASS and PASS_TO_PASS tests pass in a clean box, else 0.0.

    None (ungraded) only with proof that the fault is ours: the sandbox failed in two boxes, or the run
    ended abnormally and the gold patch fails under the same conditions. timeout: seconds for one run of
    all tests, default `default_timeout(task)`. accepted: which outcomes count as passed, by test id, where
    that is not PASSED alone (evaluation by another benchmark's rules); it decides what is run again, whether
    the control holds, and the verdict. Parts, logged beside the value and never in it: `fail_to_pass` and
    `pass_to_pass`, the fractions that passed, and `shaped`, the first where the second is 1 and 0 elsewhere.

    Raises `SandboxUnavailable` where the backend cannot run here at all, `EnvironmentBuildError` where it
    cannot make what the task runs in, `TaskError` or `PatchError` for
    a task that cannot be graded (unknown runner, hidden tests that do not fit its start tree).
    """
    seconds = default_timeout(task) if timeout is None else timeout
    base, accepted = start.files(), accepted or {}
    plan = make_plan(task, answer, base, patch, accepted)
    if isinstance(plan, Refused):
        return reward_for(answer, accepted, verdicts.refused(answer, plan))
    try:
        run = _run(task, plan, backend, start, seconds)
        gold = None
        if run.abnormal:
            gold = _run(task, _gold_plan(task, answer, base, accepted), backend, start, seconds)
    except (SandboxUnavailable, EnvironmentBuildError):
        raise
    except SandboxError as error:
        return reward_for(answer, accepted, verdicts.sandbox_fault(answer, error))
    return reward_for(answer, accepted, verdicts.judged(answer, accepted, run, gold))


def default_timeout(task: Task) -> float:
    """Seconds for one run of a task's tests: a command's limit, or more where the gold patch needed long."""
    gold = task.provenance.get(GOLD_SECONDS)
    needed = PATIENCE * float(gold) if isinstance(gold, int | float) else 0.0
    return max(task.limits.exec_seconds, needed)


def reward_for(answer: Answer, accepted: Accepted, verdict: Verdict) -> Reward:
    """The reward a verdict is worth."""
    if not verdict.valid:
        return Reward(value=None, verdict=verdict)
    outcomes = verdict.report.outcomes
    parts = {
        "fail_to_pass": _fraction(accepted, outcomes, answer.fail_to_pass),
        "pass_to_pass": _fraction(accepted, outcomes, answer.pass_to_pass),
    }
    parts["shaped"] = parts["fail_to_pass"] if parts["pass_to_pass"] == 1.0 else 0.0
    return Reward(value=1.0 if verdict.resolved else 0.0, parts=parts, verdict=verdict)


def _run(task: Task, plan: Plan, backend: Backend, start: StartTree, seconds: float) -> Run:
    """Carry out a plan, and run what failed among others and passed alone once more, each in a clean box."""

    def carry_out(part: Plan, limit: float) -> Run:
        return _in_new_box(task, part, backend, start, limit)

    return confirmed(plan, carry_out(plan, seconds), carry_out, seconds)


def _in_new_box(task: Task, plan: Plan, backend: Backend, start: StartTree, seconds: float) -> Run:
    """Carry out a plan; once more, in another box, where the first failed."""
    try:
        return run_in_new_box(task, plan, backend, start, timeout=seconds)
    except (SandboxUnavailable, EnvironmentBuildError):
        raise
    except SandboxError:
        return run_in_new_box(task, plan, backend, start, timeout=seconds)


def _gold_plan(task: Task, answer: Answer, base: Mapping[str, File], accepted: Accepted) -> Plan:
    plan = make_plan(task, answer, base, answer.gold_patch, accepted)
    if isinstance(plan, Refused):
        from gym_code.errors import PatchError

        raise PatchError(
            "the gold patch does not apply", where=task.id, expected="to apply", found=plan.reason
        )
    return plan


def _fraction(accepted: Accepted, outcomes: Mapping[str, Outcome], ids: Sequence[str]) -> float:
    passed = sum(counts(accepted, i, outcomes.get(i, Outcome.MISSING)) for i in ids)
    return passed / len(ids) if ids else 1.0
