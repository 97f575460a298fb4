"""The policy-gradient objective, token by token."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class LossStats:
    """What an update looked like; fractions of 1, over action tokens."""

    clipped: float
    ratio_max: float
    approx_kl: float


def policy_loss(
    logprobs_BT: torch.Tensor,
    old_logprobs_BT: torch.Tensor,
    advantages_BT: torch.Tensor,
    mask_BT: torch.Tensor,
    *,
    clip_low: float,
    clip_high: float,
    normalizer: float,
) -> tuple[torch.Tensor, LossStats]:
    """The clipped surrogate (PPO, Schulman et al. 2017, eq. 7) with an upper clip of its own (DAPO, eq. 10).

    The sum over tokens is divided by a constant (Dr. GRPO): long answers weigh neither less nor more a token.
    All tensors are (B, T); `mask_BT` is 1 on sampled tokens.
    """
    log_ratio = (logprobs_BT - old_logprobs_BT) * mask_BT
    ratio = log_ratio.exp()
    clipped = ratio.clamp(1 - clip_low, 1 + clip_high)
    surrogate = torch.minimum(ratio * advantages_BT, clipped * advantages_BT)
    loss = -(surrogate * mask_BT).sum() / normalizer
    with torch.no_grad():
        count = mask_BT.sum().clamp(min=1)
        cut = (ratio * advantages_BT > clipped * advantages_BT).float() * mask_BT
        stats = LossStats(
            clipped=float(cut.sum() / count),
            ratio_max=float((ratio * mask_BT).max()),
            # k3 of Schulman, "Approximating KL divergence" (2020).
            approx_kl=float(((ratio - 1 - log_ratio) * mask_BT).sum() / count),
        )
    return loss, stats
