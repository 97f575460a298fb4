import pytest

from gym_code.errors import InputError
from gym_code.stats import mean_interval, paired_gain, pass_at_k


def test_pass_at_k_against_the_closed_form() -> None:
    # 10 samples, 3 correct: 1 - C(7,2)/C(10,2) = 1 - 21/45.
    assert pass_at_k(10, 3, 2) == pytest.approx(24 / 45)
    assert pass_at_k(4, 1, 1) == 0.25
    assert pass_at_k(4, 0, 4) == 0.0
    assert pass_at_k(4, 1, 4) == 1.0


def test_impossible_counts_are_refused() -> None:
    with pytest.raises(InputError, match="found n=2 correct=3 k=1"):
        pass_at_k(2, 3, 1)


def test_the_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = [0.0, 1.0] * 200
    low, high = mean_interval(values, seed=1)
    # 0.5 +- 1.96 * 0.5 / sqrt(400)
    assert low == pytest.approx(0.451, abs=0.006)
    assert high == pytest.approx(0.549, abs=0.006)


def test_a_paired_gain_is_tight_where_tasks_move_together() -> None:
    before = [0.0, 0.5, 1.0, 0.25] * 10
    gain, (low, high) = paired_gain(before, [b + 0.1 for b in before])
    assert gain == pytest.approx(0.1)
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_unpaired_results_are_refused() -> None:
    with pytest.raises(InputError, match="found 1 and 2"):
        paired_gain([1.0], [1.0, 0.0])
