"""Steps whose tools wait: real boxes and grader, a scripted policy that speaks at once.

In every turn of an episode a coin with the weight `share` decides whether its command sleeps `nap` seconds or
ends at once; the last turn submits. The trainer's update is a sleep, too. So it is known what a step can take
at best: the naps of its slowest episode, and with staleness 1 not even the update on top.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass

from agents.chat import Chat
from gym_code.sandbox import Backend
from gym_code.types import Completion, ToolCall, Trajectory
from train.config import Config
from train.curriculum import Curriculum
from train.engine.base import Dropped, Request, Sampling
from train.groups import open_rollouts
from train.rollout import Bounds, Roller


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """What the episodes do. nap and update in seconds."""

    nap: float = 5.0
    share: float = 0.35
    turns: int = 6
    """Of an episode, the one that submits included."""
    update: float = 8.0

    def naps(self, sample_id: str) -> list[bool]:
        """Which turns of an episode sleep: a function of its name."""
        rng = random.Random(sample_id)
        return [rng.random() < self.share for _ in range(self.turns - 1)]

    def seconds(self, sample_id: str) -> float:
        """What the tools of an episode take at least."""
        return self.nap * sum(self.naps(sample_id))


class Scripted:
    """An engine that says at once what the workload has an episode say."""

    concurrent = True

    def __init__(self, chat: Chat, workload: Workload) -> None:
        self._chat, self._workload = chat, workload
        self._turns: dict[str, int] = {}
        self._asked: list[str] = []
        self._woken = threading.Event()

    def submit(self, request: Request, sampling: Sampling) -> None:
        """Note who asks."""
        self._asked.append(request.key)

    def collect(self, timeout: float | None = None) -> list[tuple[str, Completion | Dropped]]:
        """The next turn of all who asked."""
        if not self._asked:
            self._woken.wait(timeout)
        self._woken.clear()
        asked, self._asked = self._asked, []
        return [(key, self._say(key)) for key in asked]

    def wake(self) -> None:
        """Have a waiting `collect` return."""
        self._woken.set()

    def forget(self, key: str) -> None:
        """An episode is over."""
        self._turns.pop(key, None)

    def set_version(self, version: int) -> None:
        """A script does not learn."""

    def resting(self) -> AbstractContextManager[None]:
        """It shares no memory."""
        return nullcontext()

    def take_metrics(self) -> dict[str, float]:
        """Nothing to tell."""
        return {}

    def close(self) -> None:
        """Nothing was started."""

    def _say(self, key: str) -> Completion:
        turn = self._turns.get(key, 0)
        self._turns[key] = turn + 1
        naps = self._workload.naps(key)
        call = ToolCall(id=str(turn), name="submit", arguments={})
        if turn < len(naps):
            command = f"sleep {self._workload.nap}" if naps[turn] else "true"
            call = ToolCall(id=str(turn), name="bash", arguments={"command": command})
        ids = tuple(self._chat.assistant([call]))
        return Completion(token_ids=ids, logprobs=(-0.5,) * len(ids), text="", finish_reason="stop")


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """How a run of some steps went, in seconds."""

    wall: float
    """From the first `take` to the end of the last update."""
    slowest: tuple[float, ...]
    """The naps of the slowest episode of each step."""
    naps: float
    """Of all episodes, one after the other."""
    update: float
    """Of all steps."""


def play(config: Config, workload: Workload, backend: Backend, chat: Chat) -> Steps:
    """Take every batch of a run, and sleep for each update."""
    bounds = Bounds(turns=workload.turns, max_length=4096)
    engine = Scripted(chat, workload)
    with (
        Roller(
            backend, chat, engine, bounds,
            workers=config.workers, seats=config.seats, lockstep=config.deterministic,
        ) as roller,
        closing(open_rollouts(config, roller, Curriculum(config), concurrent=True)) as rollouts,
    ):  # fmt: skip
        taken: list[list[Trajectory]] = []
        began = time.perf_counter()
        for step in range(config.steps):
            taken.append([t for group in rollouts.take(step).groups for t in group.trajectories])
            time.sleep(workload.update)
        wall = time.perf_counter() - began
    return steps_of(taken, workload, wall)


def steps_of(taken: Sequence[Sequence[Trajectory]], workload: Workload, wall: float) -> Steps:
    """What the batches that were taken had to wait for."""
    naps = [[workload.seconds(t.sample_id) for t in batch] for batch in taken]
    return Steps(
        wall=wall,
        slowest=tuple(max(batch) for batch in naps),
        naps=sum(map(sum, naps)),
        update=workload.update * len(taken),
    )
