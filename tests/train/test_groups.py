"""Which groups are in play, and which are handed out: the episodes are toys of known length and reward."""

import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from gym_code.errors import SandboxError
from gym_code.types import Completion, Limits, Reward, Stop, Trajectory, Turn
from train.config import Config, load_config
from train.curriculum import Curriculum
from train.engine.base import EngineError
from train.groups import AsCompleted, Batch, Lockstep, orders_of
from train.rollout import Order

GROUPS, SIZE = 2, 2


def config(**options: Any) -> Config:
    sizes = {"groups": GROUPS, "group_size": SIZE, "steps": 6, "deterministic": False}
    return load_config("tiny", sizes | options)


def number_of(order: Order) -> int:
    step, place, _ = map(int, order.sample_id.split("/"))
    return step * GROUPS + place


class Toys:
    """A roller whose episodes take `ticks(order)` calls of `advance` and earn `reward(order)`."""

    def __init__(
        self,
        reward: Callable[[Order], float | None],
        ticks: Callable[[Order], int] = lambda _: 1,
        parts: Callable[[Order], dict[str, float]] = lambda _: {},
    ) -> None:
        self.reward, self.ticks, self.parts = reward, ticks, parts
        self.left: dict[Order, int] = {}
        self.version = 0
        self.begun: list[int] = []
        self.most = 0
        self.stopped = False

    def start(self, order: Order) -> None:
        self.left[order] = self.ticks(order)
        self.begun.append(number_of(order))
        self.most = max(self.most, len({o.group_id for o in self.left}))

    def stop(self) -> None:
        self.stopped = True

    def advance(self) -> list[tuple[Order, Trajectory]]:
        while self.left and not self.stopped:
            time.sleep(0.001)
            self.left = {order: ticks - 1 for order, ticks in self.left.items()}
            if over := [order for order, ticks in self.left.items() if ticks <= 0]:
                for order in over:
                    del self.left[order]
                return [(order, self.played(order)) for order in over]
        return []

    def play(self, orders: Sequence[Order]) -> list[Trajectory]:
        self.begun += [number_of(order) for order in orders]
        return [self.played(order) for order in orders]

    def played(self, order: Order) -> Trajectory:
        said = Completion(
            token_ids=(1,), logprobs=(-1.0,), text="", finish_reason="stop", policy_version=self.version
        )
        return Trajectory(
            task_id=order.task_id,
            task_digest="",
            suite="procedural",
            agent="policy",
            group_id=order.group_id,
            sample_id=order.sample_id,
            seed=order.seed,
            sampling={},
            backend="toy",
            limits=Limits(),
            turns=(Turn(prompt_token_ids=(0,), completion=said),),
            stop=Stop.SUBMITTED,
            reward=Reward(value=self.reward(order), parts=self.parts(order)),
        )


def mixed(order: Order) -> float:
    """One sample of a group is right, the other wrong."""
    return float(order.sample_id.endswith("/0"))


def flat_if(numbers: set[int]) -> Callable[[Order], float]:
    return lambda order: 1.0 if number_of(order) in numbers else mixed(order)


def lockstep(toys: Toys, **options: Any) -> Lockstep:
    made = config(deterministic=True, **options)
    return Lockstep(made, toys, Curriculum(made))  # type: ignore[arg-type]


def as_completed(toys: Toys, *, concurrent: bool = False, **options: Any) -> AsCompleted:
    made = config(**options)
    return AsCompleted(made, toys, Curriculum(made), concurrent=concurrent)  # type: ignore[arg-type]


def trajectories(batch: Batch) -> list[Trajectory]:
    return [t for group in (*batch.groups, *batch.left_out) for t in group.trajectories]


def test_orders_are_a_function_of_seed_and_number() -> None:
    made = config()
    [first, second] = orders_of(Curriculum(made).draw(5), made)
    assert (first.group_id, first.sample_id, second.sample_id) == ("2/1", "2/1/0", "2/1/1")
    assert first.task_id == second.task_id
    assert len({first.seed, second.seed}) == 2
    assert orders_of(Curriculum(made).draw(5), made)[0].seed == first.seed
    other = config(seed=1)
    assert orders_of(Curriculum(other).draw(5), other)[0].seed != first.seed


def test_flat_groups_are_left_out_and_played_instead_up_to_the_refill() -> None:
    toys = Toys(flat_if({0, 2, 3}))
    rollouts = lockstep(toys, refill=1.0)
    batch = rollouts.take(0)
    # 0 is flat and 1 is not; 2, for 0, is flat again; 3 is flat, and the refill of two groups is used up.
    assert [g.draw.number for g in batch.groups] == [1, 3]
    assert [g.draw.number for g in batch.left_out] == [0, 2]
    assert [g.draw.number for g in rollouts.take(1).groups] == [4, 5]


def test_without_refill_flat_groups_are_handed_out() -> None:
    batch = lockstep(Toys(flat_if({0, 1}))).take(0)
    assert [g.draw.number for g in batch.groups] == [0, 1]
    assert [g.flat({}) for g in batch.groups] == [True, True]
    assert batch.left_out == ()


def test_groups_that_differ_in_what_is_weighted_are_not_flat() -> None:
    """Nothing is solved, and the shaped parts say which sample came nearer."""
    shaped = {"/0": {"shaped": 0.5}, "/1": {"shaped": 0.0}}
    for made in (lockstep, as_completed):
        toys = Toys(lambda _: 0.0, parts=lambda order: shaped[order.sample_id[-2:]])
        weights = {"resolved": 1.0, "shaped": 0.2}
        batch = made(toys, refill=1.0, reward_weights=weights).take(0)
        assert [g.draw.number for g in batch.groups] == [0, 1]
        assert batch.left_out == ()


def test_law_11_in_lockstep_a_round_with_a_fault_is_played_again_whole() -> None:
    faults = iter([None])

    def reward(order: Order) -> float | None:
        return next(faults, mixed(order)) if order.sample_id == "0/1/0" else mixed(order)

    toys = Toys(reward)
    batch = lockstep(toys).take(0)
    assert toys.begun == [0, 0, 1, 1] * 2
    assert [g.rewards for g in batch.groups] == [[1.0, 0.0]] * 2


def test_law_11_in_lockstep_a_round_that_lost_every_box_is_played_again() -> None:
    faults = iter([None] * GROUPS * SIZE)
    toys = Toys(lambda order: next(faults, mixed(order)))
    assert [g.rewards for g in lockstep(toys).take(0).groups] == [[1.0, 0.0]] * 2
    assert toys.begun == [0, 0, 1, 1] * 2


def test_law_11_in_lockstep_an_evaluation_with_a_fault_is_played_again_whole() -> None:
    faults = iter([None])
    toys = Toys(lambda order: next(faults, mixed(order)))
    made = config()
    played = lockstep(toys).play(orders_of(Curriculum(made).draw(0), made))
    assert [t.reward and t.reward.value for t in played] == [1.0, 0.0]
    assert toys.begun == [0, 0] * 2


def test_law_3_a_round_in_which_nothing_can_be_graded_ends_the_run() -> None:
    toys = Toys(lambda _: None)
    with pytest.raises(SandboxError, match="none of 4 episodes could be graded"):
        lockstep(toys).take(0)
    assert toys.begun == [0, 0, 1, 1] * 3


def test_law_3_a_lasting_fault_is_handed_out_as_ungraded() -> None:
    toys = Toys(lambda order: None if order.sample_id == "0/1/0" else mixed(order))
    batch = lockstep(toys).take(0)
    assert toys.begun == [0, 0, 1, 1] * 3
    assert [g.rewards for g in batch.groups] == [[1.0, 0.0], [None, 0.0]]
    assert [g.flat({}) for g in batch.groups] == [False, True]


def test_law_11_a_resumed_lockstep_draws_what_the_whole_run_draws() -> None:
    whole = lockstep(Toys(flat_if({0, 5})), refill=0.5)
    batches = [trajectories(whole.take(version)) for version in range(4)]
    first = lockstep(Toys(flat_if({0, 5})), refill=0.5)
    for version in range(2):
        first.take(version)
    second = lockstep(Toys(flat_if({0, 5})), refill=0.5)
    second.restore(first.state())
    assert [trajectories(second.take(version)) for version in (2, 3)] == batches[2:]


@pytest.mark.parametrize("concurrent", [False, True])
@pytest.mark.parametrize("staleness", [0, 1, 2])
def test_groups_are_as_stale_as_agreed_and_none_is_lost(staleness: int, concurrent: bool) -> None:
    rng = random.Random(3)
    length = {n: rng.choice([1, 2, 30]) for n in range(40)}
    toys = Toys(mixed, lambda order: length[number_of(order)])
    rollouts = as_completed(toys, staleness=staleness, concurrent=concurrent)
    handed: list[int] = []
    stale = []
    for version in range(6):
        batch = rollouts.take(version)
        stale += [version - group.version for group in batch.groups]
        handed += [group.draw.number for group in batch.groups]
        time.sleep(0.01)  # the update
        toys.version = version + 1
    rollouts.close()
    assert sorted(handed) == list(range(6 * GROUPS)), "every group once, and none that nobody would take"
    assert max(stale) == staleness
    assert min(stale) >= 0
    assert toys.most <= (staleness + 1) * GROUPS
    assert sorted(set(toys.begun)) == sorted(handed)


def test_groups_come_as_they_complete() -> None:
    toys = Toys(mixed, lambda order: {0: 50}.get(number_of(order), 1))
    rollouts = as_completed(toys, staleness=1)
    first = [group.draw.number for group in rollouts.take(0).groups]
    assert 0 not in first
    assert 0 in [group.draw.number for group in rollouts.take(1).groups], "waited for, or it would be too old"


def test_flat_groups_make_room_as_they_complete() -> None:
    toys = Toys(flat_if({1, 2}))
    rollouts = as_completed(toys, refill=1.0)
    batch = rollouts.take(0)
    assert [g.draw.number for g in batch.groups] == [0, 3]
    assert [g.draw.number for g in batch.left_out] == [1, 2]


def test_nothing_is_begun_during_an_update_without_staleness() -> None:
    toys = Toys(mixed)
    rollouts = as_completed(toys, concurrent=True)
    rollouts.take(0)
    time.sleep(0.05)
    assert sorted(set(toys.begun)) == [0, 1]
    rollouts.close()


def test_the_thread_plays_on_during_an_update() -> None:
    toys = Toys(mixed)
    rollouts = as_completed(toys, concurrent=True, staleness=1)
    rollouts.take(0)
    deadline = time.monotonic() + 10
    while sorted(set(toys.begun)) != [0, 1, 2, 3] or toys.left:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    rollouts.close()


@pytest.mark.parametrize("concurrent", [False, True])
def test_an_evaluation_leaves_the_training_groups_alone(concurrent: bool) -> None:
    toys = Toys(mixed, lambda order: 20)
    rollouts = as_completed(toys, staleness=1, concurrent=concurrent)
    rollouts.take(0)
    made = config(seed=9)
    orders = orders_of(Curriculum(made).draw(2001), made)
    assert [t.sample_id for t in rollouts.play(orders)] == [o.sample_id for o in orders]
    assert sorted(g.draw.number for g in rollouts.take(1).groups) == [2, 3]
    rollouts.close()


@pytest.mark.parametrize("concurrent", [False, True])
def test_what_ends_the_rollouts_ends_the_run(concurrent: bool) -> None:
    class Broken(Toys):
        def advance(self) -> list[tuple[Order, Trajectory]]:
            raise EngineError("no vLLM server is left")

    rollouts = as_completed(Broken(mixed), concurrent=concurrent)
    with pytest.raises(EngineError, match="no vLLM server is left"):
        rollouts.take(0)
    rollouts.close()
    assert "rollouts" not in {thread.name for thread in threading.enumerate()}


def test_law_3_a_batch_that_cannot_be_graded_at_all_stops_the_run() -> None:
    with pytest.raises(SandboxError, match="none of 4 episodes could be graded"):
        as_completed(Toys(lambda _: None)).take(0)


def test_closing_does_not_wait_for_episodes_in_play() -> None:
    rollouts = as_completed(
        Toys(mixed, lambda order: 1 if number_of(order) < 2 else 10**9), concurrent=True, staleness=1
    )
    rollouts.take(0)
    began = time.monotonic()
    rollouts.close()
    assert time.monotonic() - began < 5
