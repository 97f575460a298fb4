"""Logprobs of sampled tokens under the present weights, with gradient.

The head runs on the positions that predict a sampled token, a chunk at a time: the full (tokens, vocabulary)
tensor of logits, the largest of a training step by far, never exists.

Shapes: N predictions, C hidden size, V vocabulary, B segments of at most T tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from gym_code.types import Segment
from train.attention import by_segments
from train.pack import Packed, attends, pack

CHUNK = 1024
"""Predictions a time. With a vocabulary of 152,000 a chunk's logits take 0.6 GB in fp32."""


def pad(rows: Sequence[Sequence[float]], dtype: torch.dtype) -> Tensor:
    """Right-pad rows with zeros to one (B, T) tensor."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], dtype=dtype)


def token_logprobs(model: Any, segments: Sequence[Segment], temperature: float) -> tuple[Tensor, Tensor]:
    """`packed_logprobs` with a row for each segment."""
    return packed_logprobs(model, pack(segments), temperature)


def packed_logprobs(
    model: Any, packed: Packed, temperature: float, *, chunk: int = CHUNK
) -> tuple[Tensor, Tensor]:
    """Logprobs (B, T) of the sampled tokens, 0 elsewhere, and their distributions' mean entropy in nats.

    Logits are divided by the temperature, and their softmax is in fp32 whatever the model computes in.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    weight_VC = base.lm_head.weight
    device = weight_VC.device
    with torch.autocast(device.type, weight_VC.dtype, enabled=weight_VC.dtype == torch.bfloat16):
        inputs = _layout(packed, base)
        moved = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in inputs.items()}
        hidden_RLC = base.model(**moved, use_cache=False).last_hidden_state
    hidden_NC = hidden_RLC.flatten(0, 1)[packed.predictor_N.to(device)]
    logprobs_N, entropy_N = ChunkedLogprobs.apply(
        hidden_NC, weight_VC, packed.target_N.to(device), temperature, chunk
    )
    mask_BT = packed.mask_BT.to(device)
    logprobs_BT = torch.where(mask_BT, logprobs_N[packed.place_BT.to(device)], 0.0)
    entropy = (entropy_N[packed.place_BT.to(device)] * mask_BT).sum() / mask_BT.sum()
    return logprobs_BT, entropy


def _layout(packed: Packed, model: Any) -> dict[str, Any]:
    """What the model needs to know of the rows."""
    if packed.parents_RL is None:
        return {"input_ids": packed.ids_RL}
    if packed.lengths is not None and by_segments(model):
        return {
            "input_ids": packed.ids_RL.view(1, -1),
            "position_ids": packed.positions_RL.view(1, -1),
            "segment_lengths": packed.lengths,
        }
    return {
        "input_ids": packed.ids_RL,
        "position_ids": packed.positions_RL,
        "attention_mask": attends(packed.parents_RL),
    }


class ChunkedLogprobs(torch.autograd.Function):  # type: ignore[misc]  # torch comes untyped here
    """log softmax(W h / temperature) at one target a row, and the entropy (without gradient), chunk by chunk.

    The gradient by h of a logprob is (W[target] - softmax W) / temperature. It does not depend on what comes
    after, so each chunk's is computed while its logits are there, and (N, C) is all that is kept: the
    backward neither stores nor recomputes logits. W is taken as frozen, as it is under an adapter.
    """

    @staticmethod
    def forward(  # noqa: D102
        ctx: Any, hidden_NC: Tensor, weight_VC: Tensor, target_N: Tensor, temperature: float, chunk: int
    ) -> tuple[Tensor, Tensor]:
        logprobs, entropies, jacobians = [], [], []
        for start in range(0, len(hidden_NC), chunk):
            rows, target = hidden_NC[start : start + chunk], target_N[start : start + chunk, None]
            all_logprobs = torch.log_softmax((rows @ weight_VC.T).float() / temperature, dim=-1)
            probs = all_logprobs.exp()
            logprobs.append(all_logprobs.gather(1, target)[:, 0])
            entropies.append(-(probs * all_logprobs).sum(-1))
            if ctx.needs_input_grad[0]:
                # Subtracted in fp32: at a token that is nearly certain the two almost cancel.
                gap = probs.neg_().scatter_add_(1, target, torch.ones_like(target, dtype=probs.dtype))
                jacobians.append((gap / temperature).to(weight_VC.dtype) @ weight_VC)
        if jacobians:
            ctx.save_for_backward(torch.cat(jacobians))
        entropy_N = torch.cat(entropies)
        ctx.mark_non_differentiable(entropy_N)
        return torch.cat(logprobs), entropy_N

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:  # noqa: D102
        (jacobian_NC,) = ctx.saved_tensors
        return (gradients[0][:, None] * jacobian_NC).to(jacobian_NC.dtype), None, None, None, None
