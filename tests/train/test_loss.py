"""Every objective on one toy batch, computed by hand.

sequence 1    P     a     a     -        ratios 1.5 and 0.5, advantage  2
sequence 2    P     a     -     -        ratio  0.5,         advantage -1

Where the mask is 0 stands rubbish, which must not matter.
"""

import math

import pytest
import torch

from train.loss import OBJECTIVES, Batch, LossStats, Rules, k3, policy_loss

RATIOS = [[7.0, 1.5, 0.5, 9.0], [0.1, 0.5, 4.0, 3.0]]
PROBS = [[0.5, 0.3, 0.1, 0.5], [0.5, 0.2, 0.5, 0.5]]
MASK = [[0, 1, 1, 0], [0, 1, 0, 0]]
ADVANTAGES = [[5.0, 2.0, 2.0, 5.0], [5.0, -1.0, 5.0, 5.0]]


def toy(rules: Rules, **more: torch.Tensor) -> tuple[float, list[list[float]], LossStats]:
    """Loss, gradients by the logprobs, statistics."""
    logprobs_BT = torch.tensor(PROBS).log().requires_grad_()
    batch = Batch(
        old_BT=(torch.tensor(PROBS) / torch.tensor(RATIOS)).log(),
        advantages_BT=torch.tensor(ADVANTAGES),
        mask_BT=torch.tensor(MASK, dtype=torch.float32),
        sequences=2,
        tokens=3,
        **more,
    )
    loss, stats = policy_loss(logprobs_BT, batch, rules)
    loss.backward()
    assert logprobs_BT.grad is not None
    return float(loss.detach()), logprobs_BT.grad.tolist(), stats


HALF = math.sqrt(1.5 * 0.5)


@pytest.mark.parametrize(
    ("rules", "loss", "gradients"),
    [
        (
            # min(1.5, 1.2) * 2 = 2.4 and flat; min(0.5 * 2, 0.8 * 2) = 1; min(-0.5, -0.8) = -0.8 and flat.
            Rules(objective="grpo", clip_low=0.2, clip_high=0.2),
            -((2.4 + 1.0) / 2 - 0.8) / 2,
            [0.0, -0.5 * 2 / 2 / 2, 0.0],
        ),
        (
            # The same with 1.28 * 2 = 2.56 above, divided by 10 tokens a sequence.
            Rules(objective="dr_grpo", clip_low=0.2, clip_high=0.28, length_norm=10.0),
            -(2.56 + 1.0 - 0.8) / 20,
            [0.0, -1.0 / 20, 0.0],
        ),
        (
            # The same, divided by the 3 tokens there are.
            Rules(objective="dapo", clip_low=0.2, clip_high=0.28),
            -(2.56 + 1.0 - 0.8) / 3,
            [0.0, -1.0 / 3, 0.0],
        ),
        (
            # sqrt(1.5 * 0.5) * 2 is under (1 - 0.0003) * 2; min(-0.5, -0.9997) = -0.9997 and flat.
            Rules(objective="gspo", clip_low=3e-4, clip_high=4e-4),
            -(2 * HALF - 0.9997) / 2,
            [-2 * HALF / 2 / 2, -2 * HALF / 2 / 2, 0.0],
        ),
        (
            # Weights 1.5, 0.5, 0.5 on A log p.
            Rules(objective="cispo", clip_low=1.0, clip_high=4.0),
            -(1.5 * 2 * math.log(0.3) + 0.5 * 2 * math.log(0.1) - 0.5 * math.log(0.2)) / 3,
            [-1.5 * 2 / 3, -0.5 * 2 / 3, 0.5 / 3],
        ),
        (
            # A weight over the cap is 1.28: the token keeps its gradient.
            Rules(objective="cispo", clip_low=1.0, clip_high=0.28),
            -(1.28 * 2 * math.log(0.3) + 0.5 * 2 * math.log(0.1) - 0.5 * math.log(0.2)) / 3,
            [-1.28 * 2 / 3, -0.5 * 2 / 3, 0.5 / 3],
        ),
        (
            # 1.5 * 0.5 * 2 = 1.5 is under 0.8 * 2; min(-0.5, -0.8) = -0.8 and flat.
            Rules(objective="rloo", clip_low=0.2, clip_high=0.2),
            -(1.5 - 0.8) / 2,
            [-1.5 / 2, -1.5 / 2, 0.0],
        ),
    ],
    ids=["grpo", "dr_grpo", "dapo", "gspo", "cispo", "cispo capped", "rloo"],
)
def test_loss_and_gradients_by_hand(rules: Rules, loss: float, gradients: list[float]) -> None:
    got, gradient_BT, _ = toy(rules)
    assert got == pytest.approx(loss, abs=1e-6)
    assert [gradient_BT[0][1], gradient_BT[0][2], gradient_BT[1][1]] == pytest.approx(gradients, abs=1e-6)
    assert [gradient_BT[b][t] for b, t in ((0, 0), (0, 3), (1, 0), (1, 2), (1, 3))] == [0.0] * 5


def one(ratio: float, advantage: float) -> tuple[float, float]:
    """Loss and gradient of dr_grpo on a single token, divided by 10."""
    logprobs_BT = torch.tensor([[math.log(ratio)]], requires_grad=True)
    batch = Batch(
        old_BT=torch.zeros(1, 1),
        advantages_BT=torch.tensor([[advantage]]),
        mask_BT=torch.ones(1, 1),
        sequences=1,
        tokens=1,
    )
    rules = Rules(objective="dr_grpo", clip_low=0.2, clip_high=0.28, length_norm=10.0)
    loss, _ = policy_loss(logprobs_BT, batch, rules)
    loss.backward()
    assert logprobs_BT.grad is not None
    return float(loss.detach()), float(logprobs_BT.grad)


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        (1.0, 0.5, -0.05, -0.05),  # on-policy the gradient is minus the advantage
        (1.5, 2.0, -0.256, 0.0),  # above the upper clip nothing more is earned
        (0.5, -2.0, 0.16, 0.0),  # below the lower one nothing more is punished
        (1.5, -2.0, 0.3, 0.3),  # a bad move made likelier is still unlearned
        (0.5, 2.0, -0.1, -0.1),  # a good move made unlikely is still learned
    ],
)
def test_the_clip_holds_on_one_side_only(
    ratio: float, advantage: float, loss: float, gradient: float
) -> None:
    assert one(ratio, advantage) == pytest.approx((loss, gradient), abs=1e-7)


PLAIN = Rules(objective="dapo", clip_low=0.2, clip_high=0.28, tis_cap=2.0)


def test_truncated_weights_correct_for_the_served_policy() -> None:
    # old / served = 4, 0.5 and 1: weights 2 (the cap), 0.5 and 1 on the terms 2.56, 1.0 and -0.8.
    old_BT = (torch.tensor(PROBS) / torch.tensor(RATIOS)).log()
    served_BT = old_BT - torch.tensor([[3.0, 4.0, 0.5, 3.0], [3.0, 1.0, 3.0, 3.0]]).log()
    loss, gradient_BT, stats = toy(PLAIN, served_BT=served_BT)
    assert loss == pytest.approx(-(2 * 2.56 + 0.5 * 1.0 - 0.8) / 3, abs=1e-6)
    assert gradient_BT[0][2] == pytest.approx(-0.5 / 3, abs=1e-6)
    assert stats.masked == 0.0


@pytest.mark.parametrize(("low", "high"), [(0.9, 1.3), (0.9, 1.1)])
def test_a_sequence_far_from_the_served_policy_is_left_out(low: float, high: float) -> None:
    # Geometric means of old / served: sqrt(3 * 0.5) = 1.22 and 0.8.
    old_BT = (torch.tensor(PROBS) / torch.tensor(RATIOS)).log()
    served_BT = old_BT - torch.tensor([[3.0, 3.0, 0.5, 3.0], [3.0, 0.8, 3.0, 3.0]]).log()
    rules = Rules(
        objective="dapo", clip_low=0.2, clip_high=0.28, tis_cap=2.0, geo_mask_low=low, geo_mask_high=high
    )
    loss, gradient_BT, stats = toy(rules, served_BT=served_BT)
    first = 2 * 2.56 + 0.5 * 1.0 if high > 1.22 else 0.0
    assert loss == pytest.approx(-first / 3, abs=1e-6)
    assert gradient_BT[1] == [0.0] * 4
    assert stats.masked == (0.5 if high > 1.22 else 1.0)


def test_kl_to_the_reference_is_added_token_by_token() -> None:
    # reference / trained = 2, 1 and 0.5: k3 = 2 - 1 - log 2, 0 and 0.5 - 1 + log 2, together 0.5.
    reference_BT = (
        torch.tensor(PROBS).log() + torch.tensor([[9.0, 2.0, 1.0, 9.0], [9.0, 0.5, 9.0, 9.0]]).log()
    )
    rules = Rules(objective="dapo", clip_low=0.2, clip_high=0.28, kl_coef=0.1)
    loss, gradient_BT, stats = toy(rules, reference_BT=reference_BT)
    assert loss == pytest.approx(-(2.56 + 1.0 - 0.8) / 3 + 0.1 * 0.5 / 3, abs=1e-6)
    # The derivative of k3 by the trained logprob is 1 - r.
    assert gradient_BT[0][1] == pytest.approx(0.1 * (1 - 2) / 3, abs=1e-6)
    assert gradient_BT[1][1] == pytest.approx(0.1 * (1 - 0.5) / 3, abs=1e-6)
    assert stats.reference_kl == pytest.approx(0.5 / 3, abs=1e-6)


def test_k3_is_zero_for_equals_and_positive_otherwise() -> None:
    assert k3(torch.tensor([0.0, math.log(2), -math.log(2)])).tolist() == pytest.approx(
        [0.0, 1 - math.log(2), -0.5 + math.log(2)]
    )


def test_statistics_count_sampled_tokens_only() -> None:
    _, _, stats = toy(PLAIN)
    assert stats.clipped == pytest.approx(2 / 3)  # 1.5 with a good advantage, 0.5 with a bad one
    assert stats.ratio_max == pytest.approx(1.5)
    assert (stats.ratio_p01, stats.ratio_p99) == pytest.approx((0.5, 1.48))  # 0.98 of the way from 0.5 to 1.5
    assert stats.approx_kl == pytest.approx((0.5 - math.log(1.5) + 2 * (-0.5 - math.log(0.5))) / 3)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_forwards_of_a_step_add_up(name: str) -> None:
    rules = Rules(objective=name, clip_low=0.2, clip_high=0.28, length_norm=10.0)
    whole, _, _ = toy(rules)
    parts = []
    for b in range(2):
        batch = Batch(
            old_BT=(torch.tensor(PROBS) / torch.tensor(RATIOS)).log()[b : b + 1],
            advantages_BT=torch.tensor(ADVANTAGES)[b : b + 1],
            mask_BT=torch.tensor(MASK, dtype=torch.float32)[b : b + 1],
            sequences=2,
            tokens=3,
        )
        parts.append(float(policy_loss(torch.tensor(PROBS).log()[b : b + 1], batch, rules)[0]))
    assert sum(parts) == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("advantage", [1.0, -1.0])
def test_a_ratio_beyond_all_numbers_leaves_the_gradient_one(objective: str, advantage: float) -> None:
    # Three tokens, each e^100 times as likely as it was: clipped where the advantage is positive.
    logprobs_BT = torch.zeros(1, 3, requires_grad=True)
    batch = Batch(
        old_BT=torch.full((1, 3), -100.0),
        advantages_BT=torch.full((1, 3), advantage),
        mask_BT=torch.ones(1, 3),
        sequences=1,
        tokens=3,
    )
    loss, _ = policy_loss(logprobs_BT, batch, Rules(objective=objective, clip_low=0.2, clip_high=0.28))
    loss.backward()
    assert logprobs_BT.grad is not None
    assert torch.isfinite(loss)
    assert torch.isfinite(logprobs_BT.grad).all()
    if advantage > 0 and objective != "cispo":
        assert not logprobs_BT.grad.any()
