"""The objectives, by name. Each is a ratio, a clip, a way to average, and an advantage.

    name     ratio                     clip                averaged over                 advantage
    grpo     token                     0.2, 0.2            tokens, then sequences        group mean, / std
    dr_grpo  token                     0.2, 0.28           sequences * a constant        the others' mean
    dapo     token                     0.2, 0.28           tokens of the batch           group mean, / std
    gspo     sequence, geometric mean  0.0003, 0.0004      sequences                     group mean, / std
    cispo    token, without gradient   none, 4             tokens of the batch           group mean, / std
    rloo     sequence, product         0.2, 0.2            sequences                     the others' mean

Three policies may differ: the one *served* (an engine's kernels, maybe older weights), the *old* one (the
trainer's forward when the step began) and the one being trained. The ratio is trained / old. Where served and
old are told apart, `mismatch_weights` corrects the rest.

Shapes: B sequences, T tokens, right-padded. `mask_BT` is 1 on sampled tokens; elsewhere nothing counts. A
sequence is a `Segment`: a conversation whose history was rewritten is several.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from train.advantages import leave_one_out, standardized


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """What one forward is scored with. `sequences` and `tokens` count the whole optimizer step.

    A step may be several forwards, on several machines: their losses add up to the loss of the step.
    """

    old_BT: Tensor
    advantages_BT: Tensor
    mask_BT: Tensor
    served_BT: Tensor | None = None
    """None: the policy that was served is the old one."""
    reference_BT: Tensor | None = None
    """Logprobs of the base model; needed where `kl_coef` is not 0."""
    sequences: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The numbers of an objective."""

    objective: str
    clip_low: float
    clip_high: float
    length_norm: float = 1.0
    """dr_grpo: the constant number of tokens a sequence is divided by."""
    kl_coef: float = 0.0
    tis_cap: float = 2.0
    geo_mask_low: float = 0.0
    geo_mask_high: float = math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class LossStats:
    """What an update looked like; fractions of 1 and means over sampled tokens, KL in nats a token."""

    clipped: float
    ratio_max: float
    ratio_p01: float
    ratio_p99: float
    approx_kl: float
    masked: float
    """Fraction of the sequences that the geometric mask left out."""
    reference_kl: float


def policy_loss(logprobs_BT: Tensor, batch: Batch, rules: Rules) -> tuple[Tensor, LossStats]:
    """The loss to minimise, and what it looked like."""
    objective, mask_BT = OBJECTIVES[rules.objective], batch.mask_BT
    log_ratio_BT = (logprobs_BT - batch.old_BT) * mask_BT
    terms_BT, clipped_BT = objective.surrogate(log_ratio_BT, logprobs_BT, batch, rules)
    weights_BT, keep_B1 = torch.ones_like(mask_BT), torch.ones_like(mask_BT[:, :1])
    if batch.served_BT is not None:
        weights_BT, keep_B1 = mismatch_weights(batch.old_BT, batch.served_BT, mask_BT, rules)
    losses_BT = -terms_BT * weights_BT * keep_B1
    kl_BT = torch.zeros_like(mask_BT)
    if batch.reference_BT is not None:
        kl_BT = k3((batch.reference_BT - logprobs_BT) * mask_BT)
        losses_BT = losses_BT + rules.kl_coef * kl_BT
    loss = (losses_BT * mask_BT / objective.divisor(batch, rules)).sum()
    with torch.no_grad():
        count = mask_BT.sum().clamp(min=1)
        ratios_N = log_ratio_BT.exp()[mask_BT > 0]
        low, high = torch.quantile(ratios_N[:_QUANTILE_LIMIT], torch.tensor([0.01, 0.99]).to(ratios_N))
        stats = LossStats(
            clipped=float((clipped_BT * mask_BT).sum() / count),
            ratio_max=float(ratios_N.max()),
            ratio_p01=float(low),
            ratio_p99=float(high),
            approx_kl=float((k3(log_ratio_BT) * mask_BT).sum() / count),
            masked=float(1 - keep_B1.mean()),
            reference_kl=float((kl_BT * mask_BT).sum() / count),
        )
    return loss, stats


_QUANTILE_LIMIT = 1_000_000
"""torch.quantile takes at most 16 million values; a million say the same."""


def k3(log_ratio: Tensor) -> Tensor:
    """An estimate of KL(p || q) from log(q / p) at samples of p: never negative, unbiased, of low variance.

    Schulman, "Approximating KL divergence" (2020): k3 = (r - 1) - log r. GRPO (Shao et al. 2024), eq. 4.
    """
    return log_ratio.exp() - 1 - log_ratio


def mismatch_weights(
    old_BT: Tensor, served_BT: Tensor, mask_BT: Tensor, rules: Rules
) -> tuple[Tensor, Tensor]:
    """Weights (B, T) and sequences kept (B, 1): what corrects for sampling from another policy.

    Token-level truncated importance weights, min(old / served, cap) (Yao et al. 2025, "Your efficient RL
    framework secretly brings you off-policy RL training"): beyond the cap a single token would decide the
    step. Geometric sequence masking (Liu et al. 2025, "When speed kills stability"): a sequence whose
    geometric mean of old / served leaves [low, high] is left out. The divisor stays: the other sequences
    weigh no more for it.
    """
    log_weight_BT = (old_BT - served_BT) * mask_BT
    geometric_B1 = (log_weight_BT.sum(1, keepdim=True) / lengths(mask_BT)).exp()
    keep_B1 = (geometric_B1 >= rules.geo_mask_low) & (geometric_B1 <= rules.geo_mask_high)
    return log_weight_BT.exp().clamp(max=rules.tis_cap), keep_B1.to(mask_BT.dtype)


def lengths(mask_BT: Tensor) -> Tensor:
    """Sampled tokens of each sequence (B, 1), at least 1."""
    return mask_BT.sum(1, keepdim=True).clamp(min=1)


_LARGEST = 20.0
"""Log of the largest ratio that counts (5e8), far beyond any clip; fp32 overflows at 88."""

# Surrogates: what is to be made large, token by token (B, T), and where it was clipped.
# A quantity of a whole sequence stands at each of its tokens.


def token_clipped(log_ratio_BT: Tensor, _: Tensor, batch: Batch, rules: Rules) -> tuple[Tensor, Tensor]:
    """min(r A, clip(r, 1 - low, 1 + high) A) with r of a token.

    PPO (Schulman et al. 2017), eq. 7; with an upper clip of its own, DAPO (Yu et al. 2025), eq. 10: what is
    unlikely may grow further than what is likely may shrink.
    """
    return _clipped(_ratio(log_ratio_BT), batch.advantages_BT, rules)


def geometric_clipped(log_ratio_BT: Tensor, _: Tensor, batch: Batch, rules: Rules) -> tuple[Tensor, Tensor]:
    """The same with one ratio a sequence: the geometric mean of its tokens' ratios.

    GSPO (Zheng et al. 2025), eq. 5 and 7. The mean varies little, so the clip is narrow (section 5.1).
    """
    ratio_B1 = _ratio(log_ratio_BT.sum(1, keepdim=True) / lengths(batch.mask_BT))
    return _clipped(ratio_B1, batch.advantages_BT, rules)


def product_clipped(log_ratio_BT: Tensor, _: Tensor, batch: Batch, rules: Rules) -> tuple[Tensor, Tensor]:
    """The same with the ratio of the whole sequence, the product of its tokens' ratios.

    RLOO (Ahmadian et al. 2024) takes a completion as one action. On-policy its gradient is A * grad log
    p(sequence), the paper's REINFORCE; the ratio and its clip are PPO's, for the later steps on one batch.
    """
    return _clipped(_ratio(log_ratio_BT.sum(1, keepdim=True)), batch.advantages_BT, rules)


def weighted_logprob(
    log_ratio_BT: Tensor, logprobs_BT: Tensor, batch: Batch, rules: Rules
) -> tuple[Tensor, Tensor]:
    """stopgrad(min(r, 1 + high)) A log p: the weight is clipped, so no token loses its gradient.

    CISPO (MiniMax-M1, 2025), eq. 4 and 5, without a lower bound as there.
    """
    ratio_BT = log_ratio_BT.detach().exp()
    cap = 1 + rules.clip_high
    return ratio_BT.clamp(max=cap) * batch.advantages_BT * logprobs_BT, ratio_BT > cap


def _ratio(log_ratio: Tensor) -> Tensor:
    """exp, held where it would overflow: an infinite ratio that is clipped has no number for a gradient."""
    return log_ratio.clamp(max=_LARGEST).exp()


def _clipped(ratio: Tensor, advantages_BT: Tensor, rules: Rules) -> tuple[Tensor, Tensor]:
    free_BT = ratio * advantages_BT
    held_BT = ratio.clamp(1 - rules.clip_low, 1 + rules.clip_high) * advantages_BT
    return torch.minimum(free_BT, held_BT), free_BT > held_BT


# Divisors: what each token's loss is divided by before all are summed.


def by_sequence(batch: Batch, _: Rules) -> Tensor:
    """The length of its sequence, times the number of sequences: GRPO (Shao et al. 2024), eq. 3."""
    return lengths(batch.mask_BT) * batch.sequences


def by_token(batch: Batch, _: Rules) -> float:
    """The number of tokens: each weighs the same, in a short and a long answer. DAPO (Yu 2025), eq. 12."""
    return max(batch.tokens, 1)


def by_constant(batch: Batch, rules: Rules) -> float:
    """A constant number of tokens a sequence, times the number of sequences.

    Dr. GRPO (Liu et al. 2025), section 3: dividing by a sequence's own length favours long wrong answers.
    """
    return batch.sequences * rules.length_norm


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """How an objective is put together; the clips are what a configuration gets that names none."""

    surrogate: Callable[[Tensor, Tensor, Batch, Rules], tuple[Tensor, Tensor]]
    divisor: Callable[[Batch, Rules], Tensor | float]
    advantages: Callable[[Sequence[float | None]], list[float]]
    clip_low: float
    clip_high: float


OBJECTIVES = {
    # Shao et al. 2024, "DeepSeekMath".
    "grpo": Objective(
        surrogate=token_clipped, divisor=by_sequence, advantages=standardized, clip_low=0.2, clip_high=0.2
    ),
    # Liu et al. 2025, "Understanding R1-Zero-like training", with DAPO's upper clip and RLOO's baseline: the
    # paper subtracts the mean of the whole group, which is the same up to the factor G / (G - 1).
    "dr_grpo": Objective(
        surrogate=token_clipped, divisor=by_constant, advantages=leave_one_out, clip_low=0.2, clip_high=0.28
    ),
    # Yu et al. 2025; its dynamic sampling is the rollout's business, its overlong filtering
    # `train/segments.py`'s.
    "dapo": Objective(
        surrogate=token_clipped, divisor=by_token, advantages=standardized, clip_low=0.2, clip_high=0.28
    ),
    # Zheng et al. 2025, "Group sequence policy optimization".
    "gspo": Objective(
        surrogate=geometric_clipped,
        divisor=by_sequence,
        advantages=standardized,
        clip_low=3e-4,
        clip_high=4e-4,
    ),
    # MiniMax 2025, "MiniMax-M1"; weights up to 5 as in ScaleRL (Khatri et al. 2025).
    "cispo": Objective(
        surrogate=weighted_logprob, divisor=by_token, advantages=standardized, clip_low=1.0, clip_high=4.0
    ),
    # Ahmadian et al. 2024, "Back to basics".
    "rloo": Objective(
        surrogate=product_clipped, divisor=by_sequence, advantages=leave_one_out, clip_low=0.2, clip_high=0.2
    ),
}
