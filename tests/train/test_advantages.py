import random

import pytest

from train.advantages import leave_one_out, shuffled


def test_each_sample_is_compared_with_the_others() -> None:
    assert leave_one_out([1.0, 0.0, 0.0, 1.0]) == pytest.approx([2 / 3, -2 / 3, -2 / 3, 2 / 3])


def test_law_3_an_ungraded_sample_leaves_the_group_and_never_counts_as_zero() -> None:
    # With the None as 0 the second sample would get 0 - 1/2.
    assert leave_one_out([1.0, 0.0, None]) == [1.0, -1.0, 0.0]


@pytest.mark.parametrize("rewards", [[1.0, 1.0, 1.0], [0.0, 0.0], [1.0, None, None], [None, None], [1.0]])
def test_no_variance_or_fewer_than_two_valid_samples_give_no_gradient(rewards: list[float | None]) -> None:
    assert leave_one_out(rewards) == [0.0] * len(rewards)


def test_the_control_deals_out_the_same_advantages() -> None:
    dealt = shuffled([1.0, 2.0, 3.0, 4.0, 5.0], random.Random(3))
    assert sorted(dealt) == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert dealt != [1.0, 2.0, 3.0, 4.0, 5.0]
