"""Play a recorded episode again in a fresh box and name the first thing that differs (law 10).

Every observation and every state digest is compared. Durations are the only values declared volatile: in an
observation, `1.25s` and `1.31s` are the same text. Limits that count the clock, tokens or cost do not run in
a replay; a last turn that the clock cut short is played but not compared.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from gym_code.episode import Episode
from gym_code.errors import RecordError
from gym_code.types import Reward, Stop, Trajectory, Turn

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend
    from gym_code.task import Suite

DURATION = re.compile(
    r"\b\d+(?:\.\d+)? ?(?:[mµu]?s|sec(?:ond)?s?|min(?:ute)?s?)\b|\b\d+:\d\d:\d\d(?:\.\d+)?\b"
)

_ERROR = "Error: "


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first difference: in which turn (from 1), in what, and the two values."""

    turn: int
    what: Literal["observation", "state digest", "stop", "patch", "reward"]
    recorded: str
    replayed: str

    def __str__(self) -> str:
        at = _first_difference(self.recorded, self.replayed)
        place = f" from character {at}" if at else ""
        before, after = _excerpt(self.recorded, at), _excerpt(self.replayed, at)
        return f"turn {self.turn}: {self.what} differs{place}: recorded {before}, replayed {after}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """How far a replay agreed. `divergence` is None when all of it did."""

    turns: int
    """Turns played."""
    divergence: Divergence | None = None
    reward: Reward | None = None
    """The new reward, where grading was asked for."""


def replay(trajectory: Trajectory, suite: Suite, backend: Backend, *, grade: bool = False) -> ReplayReport:
    """Re-execute a trajectory's calls, stopping at the first difference.

    grade: also grade the final patch again and compare patch and reward. Raises `RecordError` when the task
    is no longer the one recorded, `TaskError` when it is not there and `SandboxError` when no box opens.
    """
    task = suite.task(trajectory.task_id)
    if task.digest != trajectory.task_digest:
        raise RecordError(
            "the task has changed since the episode was recorded",
            where=trajectory.task_id,
            expected=f"task digest {trajectory.task_digest}",
            found=task.digest or "none",
        )
    limits = replace(trajectory.limits, episode_seconds=None, tokens=None, cost=None)
    with Episode(suite, trajectory.task_id, backend, limits) as episode:
        for number, turn in enumerate(trajectory.turns, start=1):
            if episode.stop is not None:
                found = Divergence(turn=number, what="stop", recorded="none", replayed=episode.stop.value)
                return ReplayReport(turns=number - 1, divergence=found)
            cut_short = trajectory.stop is Stop.SECONDS and number == len(trajectory.turns)
            difference = _play_turn(episode, number, turn)
            if difference is not None and not cut_short:
                return ReplayReport(turns=number, divergence=difference)
        reward, difference = _end(trajectory, episode, grade)
    return ReplayReport(turns=len(trajectory.turns), divergence=difference, reward=reward)


def _play_turn(episode: Episode, number: int, turn: Turn) -> Divergence | None:
    """One turn again; what differs first, an observation before the state."""
    results = episode.act(turn.calls or _problem(turn))
    recorded = [result.content for result in turn.results]
    replayed = [result.content for result in results]
    for before, after in zip(recorded, replayed, strict=False):
        if not same_observation(before, after):
            return Divergence(turn=number, what="observation", recorded=before, replayed=after)
    if len(recorded) != len(replayed):
        counts = f"{len(recorded)} results", f"{len(replayed)} results"
        return Divergence(turn=number, what="observation", recorded=counts[0], replayed=counts[1])
    if turn.state_digest and (digest := episode.state_digest()) != turn.state_digest:
        return Divergence(turn=number, what="state digest", recorded=turn.state_digest, replayed=digest)
    return None


def _end(trajectory: Trajectory, episode: Episode, grade: bool) -> tuple[Reward | None, Divergence | None]:
    """How the episode ends: a stop that the calls decide, and, where asked for, patch and reward."""
    last, decided = len(trajectory.turns), (Stop.SUBMITTED, Stop.TURNS)
    stops = [stop if stop in decided else None for stop in (trajectory.stop, episode.stop)]
    if stops[0] is not stops[1]:
        names = [stop.value if stop else "none" for stop in (trajectory.stop, episode.stop)]
        return None, Divergence(turn=last, what="stop", recorded=names[0], replayed=names[1])
    if not grade:
        return None, None
    reward = episode.finish(trajectory.stop or Stop.GAVE_UP)
    if episode.patch != trajectory.patch:
        patches = trajectory.patch.decode(errors="replace"), episode.patch.decode(errors="replace")
        return reward, Divergence(turn=last, what="patch", recorded=patches[0], replayed=patches[1])
    recorded = trajectory.reward.value if trajectory.reward else None
    if recorded != reward.value:
        values = str(recorded), str(reward.value)
        return reward, Divergence(turn=last, what="reward", recorded=values[0], replayed=values[1])
    return reward, None


def same_observation(recorded: str, replayed: str) -> bool:
    """Whether two observations are equal up to durations."""
    return recorded == replayed or DURATION.sub("*", recorded) == DURATION.sub("*", replayed)


def _problem(turn: Turn) -> str:
    """What a turn without calls was told: it came from the policy and so stands only in the result."""
    return turn.results[0].content.removeprefix(_ERROR) if turn.results else ""


def _first_difference(left: str, right: str) -> int:
    shorter = min(len(left), len(right))
    return next((at for at in range(shorter) if left[at] != right[at]), shorter)


def _excerpt(text: str, at: int) -> str:
    piece = text[at : at + 60]
    return repr(piece + ("..." if len(text) > at + 60 else ""))
