import random

import pytest

from gym_code.errors import ConfigError
from gym_code.types import Reward
from train.advantages import leave_one_out, shuffled, standardized, weighted_reward


def test_each_sample_is_compared_with_the_others() -> None:
    assert leave_one_out([1.0, 0.0, 0.0, 1.0]) == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])


def test_standardized_rewards_have_mean_0_and_deviation_1() -> None:
    # Mean 2, deviation of the sample sqrt((1 + 0 + 1) / 2) = 1.
    assert standardized([1.0, 2.0, 3.0]) == pytest.approx([-1.0, 0.0, 1.0])
    # Mean 0.25, deviation sqrt((0.75^2 + 3 * 0.25^2) / 3) = 0.5.
    assert standardized([1.0, 0.0, 0.0, 0.0]) == pytest.approx([1.5, -0.5, -0.5, -0.5])


def test_law_3_an_ungraded_sample_leaves_the_group_and_never_counts_as_zero() -> None:
    # With the None as 0 the second sample would get 0 - 1/2.
    assert leave_one_out([1.0, 0.0, None]) == [1.0, -1.0, 0.0]
    assert standardized([3.0, None, 1.0, 2.0]) == pytest.approx([1.0, 0.0, -1.0, 0.0])


@pytest.mark.parametrize("advantages", [leave_one_out, standardized])
@pytest.mark.parametrize("rewards", [[1.0, 1.0, 1.0], [0.0, 0.0], [1.0, None, None], [None, None], [1.0]])
def test_no_variance_or_fewer_than_two_valid_samples_give_no_gradient(
    rewards: list[float | None], advantages: type
) -> None:
    assert advantages(rewards) == [0.0] * len(rewards)


def test_named_parts_are_weighed() -> None:
    reward = Reward(value=1.0, parts={"shaped": 0.5, "fail_to_pass": 0.25})
    assert weighted_reward(reward, {}) == 1.0
    assert weighted_reward(reward, {"resolved": 1.0, "shaped": 0.2}) == pytest.approx(1.1)
    assert weighted_reward(reward, {"fail_to_pass": 2.0}) == pytest.approx(0.5)


def test_law_3_an_ungraded_reward_stays_ungraded_whatever_the_weights() -> None:
    assert weighted_reward(Reward(value=None, parts={"shaped": 0.5}), {"shaped": 1.0}) is None
    assert weighted_reward(None, {"shaped": 1.0}) is None


def test_a_misspelt_part_is_an_error_and_never_0() -> None:
    with pytest.raises(
        ConfigError, match=r"shapd: the reward has no such part .expected resolved shaped, found shapd"
    ):
        weighted_reward(Reward(value=1.0, parts={"shaped": 0.5}), {"shapd": 1.0})


def test_the_control_deals_out_the_same_advantages() -> None:
    dealt = shuffled([1.0, 2.0, 3.0, 4.0, 5.0], random.Random(3))
    assert sorted(dealt) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert dealt != [1.0, 2.0, 3.0, 4.0, 5.0]
