from dataclasses import replace

import pytest

from gym_code.synth.procedural import ProceduralSuite
from gym_code.types import Completion, Reward, Stop, Trajectory, Turn
from train.config import load_config
from train.curriculum import Draw
from train.groups import Group
from train.grpo import learn_from
from train.segments import segments_of


def turn(prompt: list[int], said: list[int]) -> Turn:
    return Turn(
        prompt_token_ids=tuple(prompt),
        completion=Completion(
            token_ids=tuple(said), logprobs=tuple(-float(t) for t in said), text="", finish_reason="stop"
        ),
    )


def trajectory(*turns: Turn, stop: Stop = Stop.SUBMITTED) -> Trajectory:
    return Trajectory(task_id="t", task_digest="", group_id="g", turns=turns, stop=stop)


def test_law_2_a_prompt_that_extends_the_stored_tokens_continues_the_segment() -> None:
    made = segments_of(trajectory(turn([1, 2], [3, 4]), turn([1, 2, 3, 4, 9], [5])), 0.5)
    #           P  P  a  a  E  a
    assert [s.token_ids_T for s in made] == [(1, 2, 3, 4, 9, 5)]
    assert made[0].action_mask_T == (0, 0, 1, 1, 0, 1)
    assert made[0].logprobs_T == (0.0, 0.0, -3.0, -4.0, 0.0, -5.0)
    assert made[0].advantages_T == (0.0, 0.0, 0.5, 0.5, 0.0, 0.5)


def test_law_2_a_prompt_that_rewrites_history_starts_a_new_segment() -> None:
    made = segments_of(trajectory(turn([1, 2], [3]), turn([1, 7, 3, 9], [5])), -1.0)
    assert [s.token_ids_T for s in made] == [(1, 2, 3), (1, 7, 3, 9, 5)]
    assert made[1].action_mask_T == (0, 0, 0, 0, 1)


@pytest.mark.parametrize("kl_coef", [0.0, 0.1])
def test_learning_from_a_group(kl_coef: float) -> None:
    """Rewards 1, 0.5, 0 and ungraded; the second is average, and trained only where a KL term acts on it."""
    parts = [{"shaped": 1.0}, {"shaped": 0.5}, {"shaped": 0.0}, {}]
    group = [
        replace(
            trajectory(turn([1, 2], [3 + n])),
            reward=Reward(value=None if n == 3 else float(n == 0), parts=part),
        )
        for n, part in enumerate(parts)
    ]
    options = {"group_size": 4, "kl_coef": kl_coef, "reward_weights": {"shaped": 1.0}}
    draw = Draw(number=0, suite=ProceduralSuite(), task_id="t", unit="t")
    groups = [Group(draw=draw, trajectories=tuple(group), version=0)]
    segments, advantages = learn_from(groups, load_config("tiny", options), step=0)
    assert advantages == [0.75, 0.0, -0.75, 0.0]
    assert [s.token_ids_T[-1] for s in segments] == ([3, 4, 5] if kl_coef else [3, 5])
    segments, advantages = learn_from(groups, load_config("tiny", options | {"objective": "grpo"}), step=0)
    assert advantages == [1.0, 0.0, -1.0, 0.0]


def test_law_3_the_control_deals_nothing_to_an_ungraded_sample() -> None:
    rewards = [1.0, 0.0, None, 0.0, 1.0, 0.0, None, 1.0]
    played = [replace(trajectory(turn([1, 2], [3])), reward=Reward(value=value)) for value in rewards]
    draw = Draw(number=0, suite=ProceduralSuite(), task_id="t", unit="t")
    groups = [Group(draw=draw, trajectories=tuple(played), version=0)]
    for step in range(5):
        _, dealt = learn_from(groups, load_config("tiny", {"control": "shuffled"}), step)
        assert (dealt[2], dealt[6]) == (0.0, 0.0)
        assert sorted(dealt) == pytest.approx([-0.6] * 3 + [0.0] * 2 + [0.6] * 3)


def test_a_trajectory_cut_off_by_a_limit_is_masked_out() -> None:
    assert segments_of(trajectory(turn([1], [2]), stop=Stop.TURNS), 1.0) == []
