"""Attention over packed segments, each by itself, without a mask.

A mask over a row of L tokens costs L * L of memory and of work, most of it for pairs that may not see each
other. The segments of a row cut apart cost the sum of their squares, and each is plain causal attention, for
which there are fast kernels on every device.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from gym_code.errors import ConfigError

NAME = "segments"


def use_segment_attention(model: Any) -> None:
    """Make a model attend by segments where `segment_lengths` is given, by SDPA as before elsewhere."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)
    model.set_attn_implementation(NAME)


def by_segments(model: Any) -> bool:
    """Whether the model takes `segment_lengths`."""
    return bool(model.config._attn_implementation == NAME)


def _attend(
    module: Any,
    query_BHTD: Tensor,
    key_BHTD: Tensor,
    value_BHTD: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    segment_lengths: list[int] | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    if segment_lengths is None:
        out, _ = sdpa_attention_forward(
            module,
            query_BHTD,
            key_BHTD,
            value_BHTD,
            attention_mask,
            dropout=dropout,
            scaling=scaling,
            **options,
        )
        return out, None
    if options.get("sliding_window") is not None:
        raise ConfigError(
            "packed rows need full attention",
            where="pack_length",
            expected="0 for this model",
            found=f"a sliding window of {options['sliding_window']} tokens",
        )
    groups = getattr(module, "num_key_value_groups", 1)
    # Flash attention reads each key-value head for its whole group, in half precision. In fp32, the kernels
    # of a GPU that need no quadratic memory want the heads repeated.
    grouped = groups > 1 and query_BHTD.dtype in (torch.bfloat16, torch.float16)
    if not grouped:
        key_BHTD, value_BHTD = repeat_kv(key_BHTD, groups), repeat_kv(value_BHTD, groups)
    split = [x.split(segment_lengths, dim=2) for x in (query_BHTD, key_BHTD, value_BHTD)]
    parts = [
        torch.nn.functional.scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped
        )
        for q, k, v in zip(*split, strict=True)
    ]
    return torch.cat(parts, dim=2).transpose(1, 2).contiguous(), None
