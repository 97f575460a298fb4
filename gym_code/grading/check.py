"""Law 4 for one task: the oracle scores 1, the no-op 0, every time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gym_code.grading.reward import grade
from gym_code.types import Outcome

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend
    from gym_code.task import Suite
    from gym_code.types import Reward


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskCheck:
    """What checking a task found. `oracle` and `noop` hold one reward value a run (None: ungraded)."""

    task_id: str
    oracle: tuple[float | None, ...]
    noop: tuple[float | None, ...]
    reasons: tuple[str, ...] = ()
    """Why the task is not sound; empty where it is."""
    oracle_seconds: float = 0.0
    """The longest run of the gold patch's tests."""

    @property
    def ok(self) -> bool:
        """Whether the oracle scored 1 and the no-op 0 in every run."""
        return not self.reasons


def check_task(suite: Suite, task_id: str, backend: Backend, runs: int = 3) -> TaskCheck:
    """Grade the gold patch and the empty patch `runs` times each. Raises what `grade` raises."""
    task, answer, start = suite.task(task_id), suite.answer(task_id), suite.start(task_id)
    oracle = [grade(task, answer, answer.gold_patch, backend, start) for _ in range(runs)]
    noop = [grade(task, answer, b"", backend, start) for _ in range(runs)]
    reasons = [*_wrong("oracle", oracle, 1.0), *_wrong("no-op", noop, 0.0)]
    reasons += _flags("oracle", oracle)
    if noop and noop[0].verdict is not None:
        outcomes = noop[0].verdict.report.outcomes
        early = [test for test in answer.fail_to_pass if outcomes[test] is Outcome.PASSED]
        broken = [test for test in answer.pass_to_pass if outcomes[test] is not Outcome.PASSED]
        reasons += [f"FAIL_TO_PASS passes without the patch: {test}" for test in early[:3]]
        reasons += [f"PASS_TO_PASS fails without the patch: {test}" for test in broken[:3]]
    return TaskCheck(
        task_id=task_id,
        oracle=tuple(reward.value for reward in oracle),
        noop=tuple(reward.value for reward in noop),
        reasons=tuple(reasons),
        oracle_seconds=max((r.verdict.report.seconds for r in oracle if r.verdict is not None), default=0.0),
    )


def _wrong(who: str, rewards: list[Reward], expected: float) -> list[str]:
    reasons = []
    for number, reward in enumerate(rewards, 1):
        if reward.value == expected:
            continue
        text = f"{who}, run {number}: expected {expected}, found {reward.value}"
        if reward.verdict is not None:
            bad = [
                f"{t} {o.value}" for t, o in reward.verdict.report.outcomes.items() if o is not Outcome.PASSED
            ]
            text += "".join(f"; {part}" for part in [*reward.verdict.flags, *bad[:3]])
            text += "".join(f"; {key}: {value}" for key, value in reward.verdict.controls.items())
        reasons.append(text)
    return reasons


def _flags(who: str, rewards: list[Reward]) -> list[str]:
    found = {
        flag for reward in rewards if reward.value == 1.0 and reward.verdict for flag in reward.verdict.flags
    }
    return [f"{who} is flagged: {flag}" for flag in sorted(found)]
