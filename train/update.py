"""What a batch of segments does to the policy: optimizer steps, each of a few forwards on every rank."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from gym_code.errors import GymCodeError
from gym_code.types import Segment
from train.config import Config
from train.distributed import Ranks, shares
from train.logprob import packed_logprobs, pad
from train.loss import Batch, Rules, k3, policy_loss
from train.pack import Packed, pack

LARGEST = ("ratio_max", "mismatch")
"""Of these the largest over the forwards of an optimizer step is reported, of all others the mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Forward:
    """Segments that go through the model together. `old_BT` None: the policy as it stands is the old one."""

    segments: Sequence[Segment]
    packed: Packed
    counts: bool
    """False: another rank learns from these; this one goes along because it has fewer forwards."""
    old_BT: Tensor | None = None
    reference_BT: Tensor | None = None


def rules_of(config: Config) -> Rules:
    """The numbers of the configured objective."""
    return Rules(
        objective=config.objective,
        clip_low=config.clip_low,
        clip_high=config.clip_high,
        length_norm=config.length_norm,
        kl_coef=config.kl_coef,
        tis_cap=config.tis_cap,
        geo_mask_low=config.geo_mask_low,
        geo_mask_high=config.geo_mask_high,
    )


def update(
    model: Any,
    optimizer: torch.optim.Optimizer,
    segments: Sequence[Segment],
    config: Config,
    step: int,
    *,
    ranks: Ranks | None = None,
) -> dict[str, float]:
    """Learn from the segments in `minibatches` steps of the optimizer; how the updates looked.

    Every rank is given all segments, takes its share of each minibatch, and ends with the same policy.
    """
    ranks = ranks or Ranks()
    rate = config.learning_rate * min(1.0, (step + 1) / max(config.warmup_steps, 1))
    for group in optimizer.param_groups:
        group["lr"] = rate
    order = list(segments)
    random.Random(f"{config.seed}/{step}/minibatches").shuffle(order)
    parts = list(filter(None, (order[n :: config.minibatches] for n in range(config.minibatches))))
    model.train()
    # What is asked of the policy as the step begins is asked before its first update.
    steps = [
        [
            _prepared(model, some, config, first=n == 0, counts=counts)
            for some, counts in shares(
                part, ranks, tokens=config.forward_tokens, whole_groups=config.shared_prefix
            )
        ]
        for n, part in enumerate(parts)
    ]
    rows = [
        _optimizer_step(model, optimizer, forwards, part, config, ranks)
        for forwards, part in zip(steps, parts, strict=True)
    ]
    if not rows:
        return {}
    made = {key: sum(row[key] for row in rows) / len(rows) for key in rows[0]}
    # Before the first update the trained policy is the one that sampled: a gap is an engine's error.
    return made | {key: rows[0][key] for key in ("mismatch", "mismatch_kl")}


def _prepared(
    model: Any, segments: Sequence[Segment], config: Config, *, first: bool, counts: bool
) -> _Forward:
    packed = pack(segments, length=config.pack_length, shared=config.shared_prefix)
    old_BT = reference_BT = None
    with torch.no_grad():
        if config.old_policy == "recomputed" and not first:
            old_BT, _ = packed_logprobs(model, packed, config.temperature)
        if config.kl_coef:
            with model.disable_adapter():  # the base alone, which is where the policy began
                reference_BT, _ = packed_logprobs(model, packed, config.temperature)
    return _Forward(segments=segments, packed=packed, counts=counts, old_BT=old_BT, reference_BT=reference_BT)


def _optimizer_step(
    model: Any,
    optimizer: torch.optim.Optimizer,
    forwards: Sequence[_Forward],
    part: Sequence[Segment],
    config: Config,
    ranks: Ranks,
) -> dict[str, float]:
    """One step on `part`, of which `forwards` are this rank's share."""
    tokens = sum(sum(segment.action_mask_T) for segment in part)
    optimizer.zero_grad(set_to_none=True)
    made_here = [_backward(model, forward, config, len(part), tokens) for forward in forwards]
    norm = apply_gradients(model, optimizer, config, ranks)
    rows = [row for row in ranks.gather(made_here) if row]
    made = {key: sum(row[key] * row["tokens"] for row in rows) / tokens for key in rows[0]}
    made |= {key: max(row[key] for row in rows) for key in LARGEST}
    del made["tokens"]
    return made | {"loss": sum(row["loss"] for row in rows), "grad_norm": norm}


def apply_gradients(model: Any, optimizer: torch.optim.Optimizer, config: Config, ranks: Ranks) -> float:
    """Sum the gradients over all ranks, clip them, take the optimizer's step; their norm before clipping.

    Raises `GymCodeError` where they are no numbers: the policy would be none either, from then on.
    """
    trained = [p for p in model.parameters() if p.requires_grad]
    ranks.add([p.grad for p in trained])
    norm = float(torch.nn.utils.clip_grad_norm_(trained, config.max_grad_norm))
    if not math.isfinite(norm):
        raise GymCodeError(
            "the gradient is infinite or no number; the last checkpoint is unharmed. A lower learning_rate "
            "or dtype float32 may mend it"
        )
    optimizer.step()
    return norm


def _backward(model: Any, forward: _Forward, config: Config, sequences: int, tokens: int) -> dict[str, float]:
    """Add a forward's gradients; what it looked like, and nothing for one that does not count."""
    logprobs_BT, entropy = packed_logprobs(model, forward.packed, config.temperature)
    if not forward.counts:
        (0.0 * logprobs_BT.sum()).backward()
        return {}
    device = logprobs_BT.device
    served_BT = pad([s.logprobs_T for s in forward.segments], torch.float32).to(device)
    mask_BT = forward.packed.mask_BT.to(logprobs_BT)
    recomputed = config.old_policy == "recomputed"
    old_BT = logprobs_BT.detach() if forward.old_BT is None else forward.old_BT
    batch = Batch(
        old_BT=old_BT if recomputed else served_BT,
        served_BT=served_BT if recomputed else None,
        reference_BT=forward.reference_BT,
        advantages_BT=pad([s.advantages_T for s in forward.segments], torch.float32).to(device),
        mask_BT=mask_BT,
        sequences=sequences,
        tokens=tokens,
    )
    loss, stats = policy_loss(logprobs_BT, batch, rules_of(config))
    loss.backward()
    gap_BT = (logprobs_BT.detach() - served_BT).double() * mask_BT
    return {
        "tokens": float(mask_BT.sum()),
        "loss": float(loss.detach()),
        "entropy": float(entropy),
        "mismatch": float(gap_BT.abs().max()),
        # KL(served || trained) in nats a token, from tokens of the served policy.
        "mismatch_kl": float(k3(gap_BT).sum() / mask_BT.sum()),
        **asdict(stats),
    }
