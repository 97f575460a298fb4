"""Episodes of the last step, to be read by a person: the best one, the worst one, one that was not graded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from gym_code.errors import InputError
from gym_code.records import read
from gym_code.task import load_suite
from gym_code.types import Trajectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An episode, why it is shown, and what its task asks for ("" where that is not at hand)."""

    why: str
    trajectory: Trajectory
    instruction: str


def samples_of(directory: Path) -> list[Sample]:
    """Samples from the newest file of a run's trajectories; none where there is none."""
    files = sorted(directory.glob("step-*.jsonl"))
    trajectories = read(files[-1]).trajectories if files else ()
    graded = [t for t in trajectories if t.reward is not None and t.reward.value is not None]
    picked = [("not graded", t) for t in trajectories if t not in graded][:1]
    if graded:
        best = max(graded, key=_value)
        worst = min((t for t in graded if t is not best), key=_value, default=None)
        picked = [("best", best), *([("worst", worst)] if worst else []), *picked]
    return [Sample(why=why, trajectory=t, instruction=_instruction(t)) for why, t in picked]


def _value(trajectory: Trajectory) -> float:
    assert trajectory.reward is not None
    assert trajectory.reward.value is not None
    return trajectory.reward.value


def _instruction(trajectory: Trajectory) -> str:
    """From the suite, which a trajectory names: policies see tokens, and these are not stored as text."""
    try:
        return load_suite(trajectory.suite).task(trajectory.task_id).instruction
    except InputError:
        return ""
