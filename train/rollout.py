"""Episodes by the batch: an engine samples, boxes act on a sized executor, rewards come back in order.

Turn-synchronous: all conversations still open are sampled together, then their tool calls run side by side.
A conversation that ends is graded at once, while others go on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import TypeVar

from agents.chat import ChatFormat, parse_calls
from gym_code.episode import Episode
from gym_code.errors import SandboxError
from gym_code.sandbox.base import Backend
from gym_code.task import Suite
from gym_code.types import Completion, Limits, Reward, Stop, ToolResult, Trajectory, Turn, canonical_digest
from train.engine.base import Dropped, Engine, Request, Sampling

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One episode wanted. Samples of one group share `group_id` and the task."""

    task_id: str
    group_id: str
    sample_id: str
    seed: int


@dataclass(slots=True, kw_only=True)
class _Seat:
    """One episode in play."""

    order: Order
    episode: Episode | None
    error: str | None
    tokens: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)


class Roller:
    """Plays orders on one suite and one backend. Use as a context manager; closing ends the executor."""

    def __init__(
        self, suite: Suite, backend: Backend, chat: ChatFormat, *, turns: int, max_length: int, workers: int
    ) -> None:
        self._suite, self._backend, self._chat = suite, backend, chat
        self._turns, self._max_length = turns, max_length
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="rollout")
        self.seconds = {"open": 0.0, "generate": 0.0, "tools": 0.0, "grade": 0.0}
        """Wall seconds spent so far, by part; grading counts only where nothing else went on."""

    def __enter__(self) -> Roller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def play(self, orders: Sequence[Order], engine: Engine, sampling: Sampling) -> list[Trajectory]:
        """One trajectory an order, in order. A fault of ours is a trajectory whose reward is None.

        Raises `SandboxError` when not one episode could be graded: that is no chance, and playing on would
        only burn time.
        """
        engine.release()
        seats = self._timed("open", lambda: list(self._pool.map(self._open, orders)))
        graded: dict[int, Future[Reward]] = {}
        try:
            open_seats = [n for n, seat in enumerate(seats) if seat.episode is not None]
            while open_seats:
                open_seats = self._turn(seats, open_seats, engine, sampling, graded)
            played = self._timed(
                "grade", lambda: [self._record(n, seats[n], graded, sampling) for n in range(len(seats))]
            )
        finally:
            for future in graded.values():
                future.cancel()
            for seat in seats:
                if seat.episode is not None:
                    seat.episode.close()
        if played and all(t.reward is None or t.reward.value is None for t in played):
            first = next((t.error for t in played if t.error), "the gold solution fails too")
            raise SandboxError(f"none of {len(played)} episodes could be graded; the first: {first}")
        return played

    def _open(self, order: Order) -> _Seat:
        task = self._suite.task(order.task_id)
        limits: Limits = replace(task.limits, turns=min(task.limits.turns, self._turns))
        try:
            episode = Episode(self._suite, order.task_id, self._backend, limits)
        except SandboxError as error:
            return _Seat(order=order, episode=None, error=f"{type(error).__name__}: {error}")
        return _Seat(order=order, episode=episode, error=None, tokens=self._chat.start(task.instruction))

    def _turn(
        self,
        seats: Sequence[_Seat],
        playing: Sequence[int],
        engine: Engine,
        sampling: Sampling,
        graded: dict[int, Future[Reward]],
    ) -> list[int]:
        """One turn of all open conversations; the ones that are still open afterwards."""
        requests = [
            Request(
                key=seats[n].order.sample_id,
                prompt_ids=tuple(seats[n].tokens),
                seed=_turn_seed(seats[n].order.seed, len(seats[n].turns)),
            )
            for n in playing
        ]
        completions = self._timed("generate", lambda: engine.generate(requests, sampling))
        acted = self._timed(
            "tools",
            lambda: list(
                self._pool.map(
                    lambda pair: self._act(seats[pair[0]], pair[1]), zip(playing, completions, strict=True)
                )
            ),
        )
        still = []
        for n, results in zip(playing, acted, strict=True):
            seat = seats[n]
            if results is None:
                continue
            seat.tokens += self._chat.observe(seat.turns[-1].completion.token_ids, results)  # type: ignore[union-attr]
            assert seat.episode is not None
            if seat.episode.stop is None and len(seat.tokens) + sampling.max_tokens > self._max_length:
                seat.episode.stop = Stop.TOKENS
            if seat.episode.stop is None:
                still.append(n)
            else:
                graded[n] = self._pool.submit(seat.episode.finish)
        return still

    def _act(self, seat: _Seat, completion: Completion | Dropped) -> list[ToolResult] | None:
        """What the tools say; None for a dropped completion, which ends the episode ungraded."""
        assert seat.episode is not None
        if isinstance(completion, Dropped):
            seat.episode.stop, seat.error = Stop.FAULT, f"completion dropped: {completion.reason}"
            return None
        text = self._chat.decode(completion.token_ids)
        calls = parse_calls(text, len(seat.turns))
        seat.episode.charge(tokens=len(completion.token_ids))
        results = seat.episode.act(calls) if seat.episode.stop is None else []
        seat.turns.append(
            Turn(
                prompt_token_ids=tuple(seat.tokens),
                completion=replace(completion, text=text),
                calls=() if isinstance(calls, str) else calls,
                results=tuple(results),
            )
        )
        seat.tokens += completion.token_ids
        return results

    def _record(
        self, number: int, seat: _Seat, graded: dict[int, Future[Reward]], sampling: Sampling
    ) -> Trajectory:
        order, episode = seat.order, seat.episode
        task = self._suite.task(order.task_id)
        reward = graded[number].result() if number in graded else Reward(value=None)
        return Trajectory(
            task_id=order.task_id,
            task_digest=task.digest,
            suite=self._suite.name,
            agent="policy",
            group_id=order.group_id,
            sample_id=order.sample_id,
            seed=order.seed,
            sampling={"temperature": sampling.temperature, "max_tokens": sampling.max_tokens},
            template_digest=self._chat.digest,
            backend=self._backend.fingerprint(),
            limits=task.limits if episode is None else episode.limits,
            turns=tuple(seat.turns),
            stop=Stop.FAULT if episode is None else episode.stop,
            patch=b"" if episode is None else episode.patch,
            reward=reward,
            error=seat.error if episode is None or seat.error else episode.error,
        )

    def _timed(self, part: str, work: Callable[[], T]) -> T:
        began = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds[part] += time.perf_counter() - began


def _turn_seed(seed: int, turn: int) -> int:
    return int(canonical_digest([seed, turn])[:15], 16)
