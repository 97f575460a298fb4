"""Floating point operations of a training step, and what fraction of a device's peak they are.

A matrix of P entries costs 2 P operations a token forward, 2 P for the gradient of its input and 2 P for its
own. Under LoRA the base is frozen: 4 a token and entry, and 6 of the adapter's. Attention makes two products
(queries with keys, weights with values) forward and four backward: 12 times heads times head size a layer
for each pair of tokens. Model FLOPs utilization (MFU; Chowdhery et al. 2022, "PaLM", appendix B) counts
what the model needs and nothing that is computed twice; with what recomputation adds it is hardware
FLOPs utilization (HFU; Korthikanti et al. 2022, "Reducing activation recomputation", section 5).

Two forms of MFU:

    ours        the pairs that causal attention computes, t + 1 over 2 a token, with the model's head size
    prime-rl's  all pairs, with hidden size over heads for the head size (which Qwen3 does not have: its heads
                are larger): `src/prime_rl/trainer/perf.py`, so that its published figures can be compared

Not counted in either: that the first layer's input takes no gradient, norms, rotations, the softmax.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

PEAKS = (
    # bf16, dense, in FLOP/s, by what the device's name contains (the first match), from NVIDIA's data sheets.
    ("H100 NVL", 835e12),
    ("H200 NVL", 835e12),
    ("H100 PCIe", 756e12),
    ("H100", 989e12),
    ("H200", 989e12),
    ("A100", 312e12),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrices:
    """Entries of the matrices that every token is multiplied with, and the size of attention."""

    layers: int
    """In all layers, the base's."""
    head: int
    """The language model head's; the embedding is looked up, not multiplied."""
    adapter: int
    attention: int
    """Layers times heads times head size."""
    attention_prime_rl: int
    """Layers times the hidden size, rounded down to heads."""


def matrices_of(model: Any) -> Matrices:
    """Counted on a PEFT model with a LoRA adapter and no bias terms (a bias is added, not multiplied)."""
    config = model.config
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    named = {name: p for name, p in model.named_parameters() if p.ndim == 2 and "embed_tokens" not in name}
    adapter = sum(p.numel() for name, p in named.items() if "lora_" in name)
    head = config.vocab_size * config.hidden_size
    tied = not any("lm_head" in name for name in named)
    return Matrices(
        layers=sum(p.numel() for p in named.values()) - adapter - (0 if tied else head),
        head=head,
        adapter=adapter,
        attention=config.num_hidden_layers * heads * size,
        attention_prime_rl=config.num_hidden_layers * heads * (config.hidden_size // heads),
    )


def trained_flops(matrices: Matrices, lengths: Sequence[int]) -> float:
    """Operations of a forward and a backward over segments of these lengths, each token computed once."""
    linear = 4 * (matrices.layers + matrices.head) + 6 * matrices.adapter
    return float(linear * sum(lengths) + 12 * matrices.attention * _pairs(lengths))


def recomputed_flops(matrices: Matrices, lengths: Sequence[int]) -> float:
    """What full recomputation adds: the forward of all layers once more (the head's is not repeated)."""
    linear = 2 * (matrices.layers + matrices.adapter)
    return float(linear * sum(lengths) + 4 * matrices.attention * _pairs(lengths))


def prime_rl_flops(matrices: Matrices, lengths: Sequence[int]) -> float:
    """As `trained_flops`, in prime-rl's form."""
    linear = 4 * (matrices.layers + matrices.head) + 6 * matrices.adapter
    squares = sum(length**2 for length in lengths)
    return float(linear * sum(lengths) + 12 * matrices.attention_prime_rl * squares)


def peak_flops(device_name: str) -> float | None:
    """Peak of a device by its name, None where it is not known: then no utilization is stated."""
    return next((peak for part, peak in PEAKS if part in device_name), None)


def utilization(
    matrices: Matrices, lengths: Sequence[int], seconds: float, device_name: str
) -> dict[str, float]:
    """MFU, HFU under full recomputation, MFU in prime-rl's form (fractions of 1); nothing without a peak."""
    peak = peak_flops(device_name)
    if peak is None:
        return {}
    needed = trained_flops(matrices, lengths)
    flops = {
        "mfu": needed,
        "hfu": needed + recomputed_flops(matrices, lengths),
        "mfu_prime_rl": prime_rl_flops(matrices, lengths),
    }
    return {name: round(count / seconds / peak, 4) for name, count in flops.items()}


def _pairs(lengths: Sequence[int]) -> float:
    """Pairs of a token and one it attends to, itself among them."""
    return sum(length * (length + 1) / 2 for length in lengths)
