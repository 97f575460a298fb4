"""From tasks to groups that can teach: what is in play, what is handed out, what is played instead.

A group is G samples of one task. It comes back when its last sample is graded, whatever other groups do.

    window       at most (staleness + 1) batches are in play or ready: a batch that is taken makes room
    staleness    a group begun under version v is handed out for the update of version v + staleness at the
                 latest: `take` waits for it, so that slow groups are neither lost nor older than agreed
    refill       a group whose rewards are all the same says nothing: it is left out and another one begun, at
                 most `refill` times the batch (dynamic sampling; DAPO, Yu et al. 2025, section 3.2)

With staleness 0 every batch is played by the weights that it updates.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from gym_code.errors import SandboxClosed
from gym_code.types import JSON, Trajectory, canonical_digest
from train.advantages import weighted_reward
from train.config import Config
from train.curriculum import Curriculum, Draw
from train.engine.base import Sampling
from train.rollout import Order, Roller, insist_on_grades

ROUNDS = 3
"""How often a round in lockstep is played again because something of ours failed in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Samples of one task, all of them graded or known to be ungraded."""

    draw: Draw
    trajectories: tuple[Trajectory, ...]
    version: int
    """The oldest version of the policy that sampled in it."""

    @property
    def rewards(self) -> list[float | None]:
        """The reward of each sample, None where it is ungraded."""
        return [None if t.reward is None else t.reward.value for t in self.trajectories]

    def flat(self, weights: Mapping[str, float]) -> bool:
        """Whether its rewards tell no sample from another: fewer than two valid ones, or all the same.

        weights: as in `weighted_reward`, so that it is the rewards learned from that are compared.
        """
        rewards = [weighted_reward(t.reward, weights) for t in self.trajectories]
        valid = [value for value in rewards if value is not None]
        return len(valid) < 2 or len(set(valid)) == 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What an update learns from, and the flat groups that others were played for."""

    groups: tuple[Group, ...]
    left_out: tuple[Group, ...] = ()


class Rollouts(Protocol):
    """Hands out batches of groups."""

    def take(self, version: int) -> Batch:
        """The batch for the update of the policy of this version (0, 1, ... in order).

        Raises `SandboxError` when not one episode of it could be graded, and what the engine raises.
        """

    def play(self, orders: Sequence[Order]) -> list[Trajectory]:
        """Episodes beside the batches, for an evaluation: one trajectory an order, in order."""

    def state(self) -> dict[str, JSON]:
        """What a checkpoint has to hold; what is in play is not part of it and lost."""

    def restore(self, state: dict[str, JSON]) -> None:
        """Go on from a `state`, before the first `take`."""

    def close(self) -> None:
        """Stop playing."""


def open_rollouts(config: Config, roller: Roller, curriculum: Curriculum, *, concurrent: bool) -> Rollouts:
    """The rollouts of a configuration; `concurrent` where the engine samples while the trainer computes."""
    if config.deterministic:
        return Lockstep(config, roller, curriculum)
    return AsCompleted(config, roller, curriculum, concurrent=concurrent)


class Lockstep:
    """Batches that are a function of seed and weights: a batch begins when the one before is used up.

    A round in which something of ours failed (a box, say) is played again as a whole, because what else was
    sampled beside it is part of every number.
    """

    def __init__(self, config: Config, roller: Roller, curriculum: Curriculum) -> None:
        self._config, self._roller, self._curriculum = config, roller, curriculum
        self._next = 0

    def take(self, version: int) -> Batch:
        """See `Rollouts`."""
        groups: list[Group] = []
        left_out: list[Group] = []
        refills = int(self._config.refill * self._config.groups)
        weights = dict(self._config.reward_weights)
        while wanted := self._config.groups - len(groups):
            for group in self._round(wanted, version):
                if group.flat(weights) and len(left_out) < refills:
                    left_out.append(group)
                else:
                    groups.append(group)
        return Batch(groups=tuple(groups), left_out=tuple(left_out))

    def play(self, orders: Sequence[Order]) -> list[Trajectory]:
        """See `Rollouts`. Here, too, a fault has all of it played again."""
        for _ in range(ROUNDS):
            played = self._roller.play(orders)
            if all(t.reward is not None and t.reward.value is not None for t in played):
                break
        insist_on_grades(played)
        return played

    def state(self) -> dict[str, JSON]:
        """See `Rollouts`."""
        return {"next": self._next, "curriculum": self._curriculum.state()}

    def restore(self, state: dict[str, JSON]) -> None:
        """See `Rollouts`."""
        self._next = state["next"]
        self._curriculum.restore(state["curriculum"])

    def close(self) -> None:
        """Nothing is in play."""

    def _round(self, count: int, version: int) -> list[Group]:
        draws = [self._curriculum.draw(self._next + number) for number in range(count)]
        orders = [order for draw in draws for order in orders_of(draw, self._config)]
        played = self.play(orders)
        size = self._config.group_size
        groups = [
            group_of(draw, played[number * size : (number + 1) * size], version)
            for number, draw in enumerate(draws)
        ]
        self._next += count
        for group in groups:
            self._curriculum.record(group.draw, group.rewards)
        return groups


@dataclass(slots=True, kw_only=True)
class _Open:
    """A group in play."""

    draw: Draw
    begun: int
    """The version that was asked for last when it began."""
    trajectories: dict[str, Trajectory] = field(default_factory=dict)


class AsCompleted:
    """Batches of whatever groups are complete, while others go on.

    Where the engine samples while the trainer computes, a thread of its own plays on during updates;
    otherwise play goes on inside `take`.
    """

    def __init__(self, config: Config, roller: Roller, curriculum: Curriculum, *, concurrent: bool) -> None:
        self._config, self._roller, self._curriculum = config, roller, curriculum
        self._version = 0
        self._next = 0
        self._credit = 0
        """Groups that may still be begun."""
        self._begun = False
        self._refills = 0
        self._open: dict[str, _Open] = {}
        self._ready: list[tuple[_Open, Group]] = []
        self._left_out: list[Group] = []
        self._changed = threading.Condition()
        self._paused, self._resting, self._closed = False, False, False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="rollouts") if concurrent else None
        self._started = False

    def take(self, version: int) -> Batch:
        """See `Rollouts`. Groups begun longest ago come first, then others in the order they completed."""
        with self._changed:
            self._version = version
            # Of the last batches none is begun that no update would take.
            left = self._config.steps - version
            window = self._config.staleness + 1
            batches = min(window, left) if not self._begun else int(left >= window)
            self._begun = True
            self._credit += batches * self._config.groups
            self._refills = int(self._config.refill * self._config.groups)
            self._changed.notify_all()
        self._until(lambda: len(self._ready) >= self._config.groups and not self._overdue())
        with self._changed:
            self._ready.sort(key=lambda pair: pair[0].begun > version - self._config.staleness)
            taken, self._ready = self._ready[: self._config.groups], self._ready[self._config.groups :]
            left_out, self._left_out = self._left_out, []
        batch = Batch(groups=tuple(group for _, group in taken), left_out=tuple(left_out))
        insist_on_grades([t for group in batch.groups for t in group.trajectories])
        return batch

    def play(self, orders: Sequence[Order]) -> list[Trajectory]:
        """See `Rollouts`. Training episodes in play go on meanwhile; none are begun."""
        made: dict[str, Trajectory] = {}
        wanted = {order.sample_id for order in orders}
        with self._alone():
            for order in orders:
                self._roller.start(order)
            while len(made) < len(wanted):
                if not (finished := self._roller.advance()):
                    raise SandboxClosed("the rollouts were closed")
                made |= {order.sample_id: t for order, t in finished if order.sample_id in wanted}
                self._file([(order, t) for order, t in finished if order.sample_id not in wanted])
        played = [made[order.sample_id] for order in orders]
        insist_on_grades(played)
        return played

    def state(self) -> dict[str, JSON]:
        """See `Rollouts`."""
        with self._changed:
            return {"next": self._next, "curriculum": self._curriculum.state()}

    def restore(self, state: dict[str, JSON]) -> None:
        """See `Rollouts`."""
        self._next = state["next"]
        self._curriculum.restore(state["curriculum"])

    def close(self) -> None:
        """Stop the thread, and the roller with it, which closes the boxes of episodes in play."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._roller.stop()
        if self._started and self._thread is not None:
            self._thread.join()

    def _overdue(self) -> bool:
        """Whether a group in play would be too old for the next update."""
        return any(group.begun <= self._version - self._config.staleness for group in self._open.values())

    def _until(self, reached: Callable[[], bool]) -> None:
        if self._thread is None:
            while not reached():
                self._play_on()
            return
        if not self._started:
            self._started = True
            self._thread.start()
        with self._changed:
            self._changed.wait_for(lambda: reached() or self._error is not None)
            if self._error is not None:
                raise self._error

    def _run(self) -> None:
        try:
            while True:
                with self._changed:
                    while not self._closed and (self._paused or not (self._credit or self._open)):
                        self._resting = True
                        self._changed.notify_all()
                        self._changed.wait()
                    self._resting = False
                    if self._closed:
                        return
                self._play_on()
        except BaseException as error:  # raised again in the thread that takes
            with self._changed:
                self._error, self._resting = error, True
                self._changed.notify_all()

    def _play_on(self) -> None:
        """Begin the groups that there is room for, and play until an episode is over."""
        with self._changed:
            while self._credit:
                draw = self._curriculum.draw(self._next)
                self._next, self._credit = self._next + 1, self._credit - 1
                orders = orders_of(draw, self._config)
                self._open[orders[0].group_id] = _Open(draw=draw, begun=self._version)
                for order in orders:
                    self._roller.start(order)
        self._file(self._roller.advance())

    def _file(self, finished: Sequence[tuple[Order, Trajectory]]) -> None:
        with self._changed:
            for order, trajectory in finished:
                group = self._open[order.group_id]
                group.trajectories[order.sample_id] = trajectory
                if len(group.trajectories) == self._config.group_size:
                    del self._open[order.group_id]
                    self._complete(group)
            self._changed.notify_all()

    def _complete(self, group: _Open) -> None:
        trajectories = [group.trajectories[o.sample_id] for o in orders_of(group.draw, self._config)]
        made = group_of(group.draw, trajectories, self._version)
        self._curriculum.record(made.draw, made.rewards)
        if self._refills and made.flat(dict(self._config.reward_weights)):
            self._refills, self._credit = self._refills - 1, self._credit + 1
            self._left_out.append(made)
        else:
            self._ready.append((group, made))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Have the thread rest, so that this one may play."""
        with self._changed:
            self._paused = True
            if self._started:
                self._changed.wait_for(lambda: self._resting)
            if self._error is not None:
                raise self._error
        try:
            yield
        finally:
            with self._changed:
                self._paused = False
                self._changed.notify_all()


def orders_of(draw: Draw, config: Config) -> list[Order]:
    """The episodes of a group; their seeds follow from the run's seed and the number of the draw."""
    step, place = divmod(draw.number, config.groups)
    sampling = Sampling(temperature=config.temperature, max_tokens=config.max_tokens)
    return [
        Order(
            suite=draw.suite,
            task_id=draw.task_id,
            group_id=f"{step}/{place}",
            sample_id=f"{step}/{place}/{sample}",
            seed=int(canonical_digest([config.seed, step, place, sample])[:15], 16),
            sampling=sampling,
        )
        for sample in range(config.group_size)
    ]


def group_of(draw: Draw, trajectories: Sequence[Trajectory], version: int) -> Group:
    """A complete group; `version` stands where nothing was sampled in it."""
    versions = [turn.completion.policy_version for t in trajectories for turn in t.turns if turn.completion]
    return Group(draw=draw, trajectories=tuple(trajectories), version=min(versions, default=version))
