"""Episodes side by side: an engine samples, boxes act on a sized executor, and whoever is ready goes on.

No episode waits for another: while one runs its tests, the others sample. In lockstep, which a run that must
end with the same bits takes, every turn waits for all, so that the engine's batches follow from the tokens
alone.
"""

from __future__ import annotations

import queue
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from types import TracebackType

from agents.chat import Chat
from gym_code.episode import Episode
from gym_code.errors import SandboxError
from gym_code.sandbox.base import Backend
from gym_code.task import Suite
from gym_code.tools import openai_tools
from gym_code.types import Completion, Limits, Reward, Stop, Task, Trajectory, Turn, canonical_digest
from train.curriculum import reference
from train.engine.base import Dropped, Engine, Request, Sampling

_TICK = 0.5
"""Seconds between two looks at the deadlines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One episode wanted. Samples of one group share `group_id` and the task; `sample_id` is its own.

    limits: instead of the task's own. hold: called with the task's id; entered while the episode is played.
    """

    suite: Suite
    task_id: str
    group_id: str
    sample_id: str
    seed: int
    sampling: Sampling
    limits: Limits | None = None
    hold: Callable[[str], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """What ends an episode beside its task's own limits. turns; max_length in tokens.

    tool_seconds: what its boxes may take (0: the task's limit alone). wait_seconds: what may be spent waiting
    for completions, which is no fault of the agent: beyond it the episode is ungraded (0: no bound).
    """

    turns: int
    max_length: int
    tool_seconds: float = 0.0
    wait_seconds: float = 0.0


class _Clock:
    """Seconds during which tools ran: what an engine takes is not counted against the agent."""

    def __init__(self) -> None:
        self._spent = 0.0
        self._since: float | None = None

    def __call__(self) -> float:
        return self._spent + (0.0 if self._since is None else time.monotonic() - self._since)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._since = time.monotonic()
        try:
            yield
        finally:
            self._spent, self._since = self(), None


@dataclass(slots=True, kw_only=True, eq=False)
class _Seat:
    """One episode in play. One thread at a time has it: the executor's, or the one that plays."""

    number: int
    order: Order
    clock: _Clock = field(default_factory=_Clock)
    began: float = field(default_factory=time.monotonic)
    episode: Episode | None = None
    held: ExitStack = field(default_factory=ExitStack)
    error: str | None = None
    tokens: list[int] = field(default_factory=list)
    turns: list[Turn] = field(default_factory=list)
    reward: Reward | None = Reward(value=None)  # noqa: RUF009 (frozen)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def waited(self) -> float:
        """Seconds that were not the tools'."""
        return time.monotonic() - self.began - self.clock()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Event:
    """A piece of work in a box is done: `part` is open, tools or grade."""

    seat: _Seat
    part: str
    seconds: float
    error: BaseException | None


class Roller:
    """Plays orders with one engine in the boxes of one backend, at most `seats` at a time.

    At most `workers` boxes are opened or graded at a time. Tools may wait for seconds, so they run in all
    boxes that have something to do; in lockstep, whose time limits a load must not reach, in `workers`.

    grades: without it patches are exported only, and rewards are None.

    Use it from one thread at a time, as a context manager: leaving it closes boxes and ends threads.
    """

    def __init__(
        self,
        backend: Backend,
        chat: Chat,
        engine: Engine,
        bounds: Bounds,
        *,
        workers: int,
        seats: int,
        lockstep: bool = False,
        grades: bool = True,
    ) -> None:
        self._grades = grades
        self._backend, self._chat, self._engine, self._bounds = backend, chat, engine, bounds
        self._most, self._lockstep = seats, lockstep
        self._pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="rollout")
        self._tools = ThreadPoolExecutor(
            max_workers=workers if lockstep else seats, thread_name_prefix="tools"
        )
        self._orders: deque[Order] = deque()
        self._seats: dict[str, _Seat] = {}
        self._asked: set[str] = set()
        """Who waits for a completion."""
        self._acting, self._grading = 0, 0
        """Boxes at work. Those that grade hold up nobody."""
        self._done: queue.SimpleQueue[_Event | None] = queue.SimpleQueue()
        """What boxes have done; None has a waiting `advance` return."""
        self._stopped = False
        self._count = 0
        self.seconds = {"open": 0.0, "generate": 0.0, "tools": 0.0, "grade": 0.0}
        """Seconds so far: `generate` of the wall, the others summed over boxes, which work side by side."""

    def __enter__(self) -> Roller:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        for pool in (self._pool, self._tools):
            pool.shutdown(wait=False, cancel_futures=True)
        for seat in self._seats.values():
            if seat.episode is not None:
                seat.episode.close()
        for pool in (self._pool, self._tools):
            pool.shutdown(wait=True)
        for seat in self._seats.values():
            seat.held.close()

    def start(self, order: Order) -> None:
        """Have an episode played as soon as there is a seat."""
        self._orders.append(order)

    def stop(self) -> None:
        """Have `advance` return, now and from now on, whatever is in play. May be called from any thread."""
        self._stopped = True
        self._done.put(None)
        self._engine.wake()

    def advance(self) -> list[tuple[Order, Trajectory]]:
        """Play on until an episode is over and graded; empty when nothing is left to play.

        A fault of ours is a trajectory whose reward is None.
        """
        finished: list[tuple[Order, Trajectory]] = []
        while not finished and not self._stopped and (self._seats or self._orders):
            self._fill()
            for event in self._events():
                if (seat := self._handle(event)) is not None:
                    finished.append((seat.order, self._record(seat)))
            if self._asked:
                self._sample()
            if self._bounds.wait_seconds:
                self._give_up()
        return finished

    def play(self, orders: Sequence[Order]) -> list[Trajectory]:
        """One trajectory an order, in order; nothing else may be in play."""
        for order in orders:
            self.start(order)
        made: dict[str, Trajectory] = {}
        while finished := self.advance():
            made |= {order.sample_id: trajectory for order, trajectory in finished}
        return [made[order.sample_id] for order in orders]

    def _fill(self) -> None:
        if self._lockstep and self._seats:
            return  # when a seat gets free depends on the boxes
        while self._orders and len(self._seats) < self._most:
            seat = _Seat(number=self._count, order=self._orders.popleft())
            self._count += 1
            self._seats[seat.order.sample_id] = seat
            self._job("open", seat, self._open)

    def _job(self, part: str, seat: _Seat, work: Callable[[_Seat], None]) -> None:
        def run() -> None:
            began, error = time.perf_counter(), None
            try:
                work(seat)
            except BaseException as caught:  # raised again by `_handle`, in the thread that plays
                error = caught
            self._done.put(_Event(seat=seat, part=part, seconds=time.perf_counter() - began, error=error))
            if not self._lockstep:
                self._engine.wake()

        if part == "grade":
            self._grading += 1
        else:
            self._acting += 1
        # What only ends needs no turn among the boxes that open: it may be what they are waiting for.
        beside = part == "tools" or (part == "grade" and not self._grades)
        (self._tools if beside else self._pool).submit(run)

    def _events(self) -> list[_Event]:
        """What boxes have done. Waits for one where nobody can sample, in lockstep for all that act."""
        events: list[_Event] = []
        while self._acting or self._grading:
            hold = True if self._lockstep and self._acting else not (self._asked or events)
            try:
                event = self._done.get(block=hold, timeout=_TICK if self._bounds.wait_seconds else None)
            except queue.Empty:
                break
            if event is None:
                break
            if event.part == "grade":
                self._grading -= 1
            else:
                self._acting -= 1
            events.append(event)
        return sorted(events, key=lambda event: event.seat.number)

    def _handle(self, event: _Event) -> _Seat | None:
        """Have an episode go on after a piece of work; the seat if it is over."""
        seat = event.seat
        self.seconds[event.part] += event.seconds
        if event.error is not None:
            raise event.error
        if event.part == "grade" or seat.episode is None:
            del self._seats[seat.order.sample_id]
            self._engine.forget(seat.order.sample_id)
            return seat
        if seat.episode.stop is None:
            self._ask(seat)
        else:
            self._job("grade", seat, self._end)
        return None

    def _ask(self, seat: _Seat) -> None:
        request = Request(
            key=seat.order.sample_id,
            prompt_ids=tuple(seat.tokens),
            seed=turn_seed(seat.order.seed, len(seat.turns)),
        )
        self._engine.submit(request, seat.order.sampling)
        self._asked.add(request.key)

    def _sample(self) -> None:
        """Take what the engine has completed; in lockstep, all that was asked for."""
        began = time.perf_counter()
        completed = self._engine.collect(_TICK if self._bounds.wait_seconds else None)
        while self._lockstep and len(completed) < len(self._asked):
            completed += self._engine.collect()
        self.seconds["generate"] += time.perf_counter() - began
        for key, completion in sorted(completed, key=lambda pair: self._seats[pair[0]].number):
            self._asked.remove(key)
            seat = self._seats[key]
            if isinstance(completion, Dropped):
                self._fail(seat, f"completion dropped: {completion.reason}")
            else:
                self._job("tools", seat, lambda seat, said=completion: self._act(seat, said))  # type: ignore[misc]

    def _give_up(self) -> None:
        """End the episodes that have waited for completions too long."""
        for key in tuple(self._asked):
            if (seat := self._seats[key]).waited > self._bounds.wait_seconds:
                self._engine.forget(key)
                self._asked.remove(key)
                self._fail(seat, f"waited {seat.waited:.0f} s for completions")

    def _fail(self, seat: _Seat, error: str) -> None:
        """A fault of ours: the episode ends ungraded."""
        assert seat.episode is not None
        seat.episode.stop, seat.error = Stop.FAULT, error
        self._job("grade", seat, self._end)

    def _open(self, seat: _Seat) -> None:
        order, bounds = seat.order, self._bounds
        task = order.suite.task(order.task_id)
        given = order.limits or task.limits
        seconds = [s for s in (given.episode_seconds, bounds.tool_seconds) if s]
        limits = replace(
            given,
            turns=min(given.turns, bounds.turns),
            episode_seconds=min(seconds) if seconds else None,
        )
        try:
            seat.held.enter_context(order.hold(order.task_id))
            seat.episode = Episode(order.suite, order.task_id, self._backend, limits, clock=seat.clock)
        except SandboxError as error:
            seat.error = f"{type(error).__name__}: {error}"
            seat.held.close()
            return
        seat.tokens = self._chat.start(task, openai_tools(seat.episode.tools))
        self._check_room(seat, seat.order.sampling)

    def _act(self, seat: _Seat, completion: Completion) -> None:
        """Carry out what a completion calls for, and append what the tools say to the tokens."""
        episode = seat.episode
        assert episode is not None
        text = self._chat.decode(completion.token_ids)
        calls = self._chat.parse(text, len(seat.turns))
        with seat.clock.running():
            results = episode.act(calls)
        used = len(seat.tokens) + len(completion.token_ids)
        episode.charge(tokens=used)
        seat.turns.append(
            Turn(
                prompt_token_ids=tuple(seat.tokens),
                completion=replace(completion, text=text),
                calls=() if isinstance(calls, str) else calls,
                results=tuple(results),
                tokens=used,
            )
        )
        seat.tokens += [*completion.token_ids, *self._chat.observe(completion.token_ids, results)]
        self._check_room(seat, seat.order.sampling)

    def _check_room(self, seat: _Seat, sampling: Sampling) -> None:
        assert seat.episode is not None
        if seat.episode.stop is None and len(seat.tokens) + sampling.max_tokens > self._bounds.max_length:
            seat.episode.stop = Stop.TOKENS

    def _end(self, seat: _Seat) -> None:
        """Grade what an episode leaves, or only export it."""
        assert seat.episode is not None
        seat.seconds = {"policy_seconds": seat.waited, "tool_seconds": seat.clock()}
        if self._grades:
            seat.reward = seat.episode.finish()
        else:
            seat.episode.export()
            seat.reward = None
        seat.held.close()

    def _record(self, seat: _Seat) -> Trajectory:
        order, episode = seat.order, seat.episode
        task: Task = order.suite.task(order.task_id)
        return Trajectory(
            task_id=order.task_id,
            task_digest=task.digest,
            suite=reference(order.suite),
            agent="policy",
            group_id=order.group_id,
            sample_id=order.sample_id,
            seed=order.seed,
            sampling={"temperature": order.sampling.temperature, "max_tokens": order.sampling.max_tokens},
            template_digest=self._chat.digest,
            backend=self._backend.fingerprint(),
            limits=task.limits if episode is None else episode.limits,
            turns=tuple(seat.turns),
            stop=Stop.FAULT if episode is None else episode.stop,
            patch=b"" if episode is None else episode.patch,
            reward=seat.reward,
            error=seat.error if episode is None or seat.error else episode.error,
            timings=seat.seconds,
        )


def insist_on_grades(trajectories: Sequence[Trajectory]) -> None:
    """Raise `SandboxError` when not one of them could be graded: that is no chance, and playing on would only
    burn time.
    """
    if trajectories and all(t.reward is None or t.reward.value is None for t in trajectories):
        first = next((t.error for t in trajectories if t.error), "the gold solution fails too")
        raise SandboxError(f"none of {len(trajectories)} episodes could be graded; the first: {first}")


def turn_seed(seed: int, turn: int) -> int:
    """The seed of an episode's turn, from the episode's own."""
    return int(canonical_digest([seed, turn])[:15], 16)
