import math

import pytest
import torch

from train.loss import policy_loss


def loss_of(
    log_ratio: list[float], advantages: list[float], mask: list[int]
) -> tuple[torch.Tensor, torch.Tensor]:
    logprobs_BT = torch.tensor([log_ratio], requires_grad=True)
    loss, _ = policy_loss(
        logprobs_BT,
        torch.zeros(1, len(mask)),
        torch.tensor([advantages]),
        torch.tensor([mask], dtype=torch.float32),
        clip_low=0.2,
        clip_high=0.28,
        normalizer=10.0,
    )
    loss.backward()
    assert logprobs_BT.grad is not None
    return loss.detach(), logprobs_BT.grad[0]


def test_on_policy_the_gradient_is_minus_the_advantage() -> None:
    #              P  a    E  a
    loss, gradient = loss_of([0.0, 0.0, 0.0, 0.0], [0.0, 0.5, 0.0, -1.0], [0, 1, 0, 1])
    assert float(loss) == pytest.approx(-(0.5 - 1.0) / 10)
    assert gradient.tolist() == pytest.approx([0.0, -0.05, 0.0, 0.1])


def test_a_ratio_above_the_upper_clip_earns_no_more() -> None:
    # ratio 1.5, advantage 2: the surrogate is 1.28 * 2, and flat.
    loss, gradient = loss_of([math.log(1.5)], [2.0], [1])
    assert float(loss) == pytest.approx(-1.28 * 2 / 10)
    assert gradient.tolist() == [0.0]


def test_a_ratio_below_the_lower_clip_is_punished_no_more() -> None:
    # ratio 0.5, advantage -2: min(-1.0, 0.8 * -2) = -1.6, and flat.
    loss, gradient = loss_of([math.log(0.5)], [-2.0], [1])
    assert float(loss) == pytest.approx(1.6 / 10)
    assert gradient.tolist() == [0.0]


def test_a_bad_move_made_likelier_is_still_unlearned() -> None:
    # ratio 1.5, advantage -2: min(-3.0, -2.56) = -3.0: no clip on this side.
    loss, gradient = loss_of([math.log(1.5)], [-2.0], [1])
    assert float(loss) == pytest.approx(3.0 / 10)
    assert gradient.tolist() == pytest.approx([0.3])


def test_statistics_count_action_tokens_only() -> None:
    _, stats = policy_loss(
        torch.tensor([[5.0, math.log(1.5), 0.0]]),
        torch.zeros(1, 3),
        torch.tensor([[1.0, 1.0, 1.0]]),
        torch.tensor([[0.0, 1.0, 1.0]]),
        clip_low=0.2,
        clip_high=0.28,
        normalizer=1.0,
    )
    assert stats.clipped == 0.5
    assert stats.ratio_max == pytest.approx(1.5)
    assert stats.approx_kl == pytest.approx((0.5 - math.log(1.5)) / 2)
