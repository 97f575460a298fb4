"""Logprobs of sampled tokens under the present weights, with gradient."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from gym_code.types import Segment


def pad(rows: Sequence[Sequence[float]], dtype: torch.dtype) -> torch.Tensor:
    """Right-pad rows with zeros to one (B, T) tensor."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], dtype=dtype)


def token_logprobs(
    model: Any, segments: Sequence[Segment], temperature: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logprobs (B, T) of the action tokens, 0 elsewhere, and the mean entropy of their distributions in nats.

    The LM head runs on the positions that predict an action token only: never a full (B, T, V) tensor.
    """
    ids_BT = pad([s.token_ids_T for s in segments], torch.long)
    mask_BT = pad([s.action_mask_T for s in segments], torch.long).bool()
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    hidden_BTC = base.model(input_ids=ids_BT, use_cache=False).last_hidden_state
    predicts_BT = mask_BT[:, 1:]
    logits_NV = base.lm_head(hidden_BTC[:, :-1][predicts_BT]).float() / temperature
    all_logprobs_NV = torch.log_softmax(logits_NV, dim=-1)
    chosen_N = all_logprobs_NV.gather(1, ids_BT[:, 1:][predicts_BT][:, None])[:, 0]
    logprobs_BT = torch.zeros(ids_BT.shape, dtype=chosen_N.dtype)
    entropy = -(all_logprobs_NV.detach().exp() * all_logprobs_NV.detach()).sum(-1).mean()
    return logprobs_BT.masked_scatter(mask_BT, chosen_N), entropy
