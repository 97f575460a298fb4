"""The sizes of a decoder model, and what follows from them without a weight being read.

Shapes: C hidden size, Q = heads * head size, K = key-value heads * head size, F width of the MLP.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gym_code.errors import ConfigError
from gym_code.types import JSON

ARCHITECTURES = ("Qwen2ForCausalLM", "Qwen3ForCausalLM", "LlamaForCausalLM")
"""Dense decoders with gated MLPs; they differ in biases and in norms of queries and keys."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The sizes of one model."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int
    tied: bool
    """The head is the embedding, transposed."""
    head_dim: int
    biased: bool = True
    """Queries, keys and values have biases (Qwen2)."""
    normed: bool = False
    """Queries and keys have norms of their own (Qwen3)."""

    @property
    def linears(self) -> tuple[tuple[int, int], ...]:
        """(inputs, outputs) of the linear layers of one layer: q, k, v, o, gate, up, down."""
        c, q, k, f = self.hidden, self.heads * self.head_dim, self.kv_heads * self.head_dim, self.intermediate
        return ((c, q), (c, k), (c, k), (q, c), (c, f), (c, f), (f, c))

    @property
    def parameters(self) -> int:
        """All parameters; a tied head counts once."""
        query_key_value = self.linears[:3]
        layer = sum(i * o for i, o in self.linears) + 2 * self.hidden
        layer += sum(o for _, o in query_key_value) if self.biased else 0
        layer += 2 * self.head_dim if self.normed else 0
        embeddings = (1 if self.tied else 2) * self.vocab * self.hidden
        return self.layers * layer + embeddings + self.hidden

    def adapter_parameters(self, rank: int) -> int:
        """Of a LoRA adapter on every linear layer but the head (Hu et al. 2021, section 4.1)."""
        return self.layers * rank * sum(i + o for i, o in self.linears)

    @property
    def cache_numbers(self) -> int:
        """Numbers in the key-value cache for one token."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    def forward_flops(self, context: float) -> float:
        """Floating-point operations of a token's forward after `context` others, the head left out.

        Two for each weight (Kaplan et al. 2020, section 2.1), and the products with keys and with values.
        """
        weights = sum(i * o for i, o in self.linears)
        return self.layers * (2.0 * weights + 4.0 * self.heads * self.head_dim * context)


def _qwen(
    hidden: int, layers: int, heads: int, kv_heads: int, intermediate: int, *, tied: bool = False
) -> Shape:
    return Shape(
        hidden=hidden,
        layers=layers,
        heads=heads,
        kv_heads=kv_heads,
        intermediate=intermediate,
        # The rows beyond the tokenizer's are padding; the larger models have some more.
        vocab=151_936 if tied else 152_064,
        tied=tied,
        head_dim=hidden // heads,
    )


KNOWN = {
    "Qwen/Qwen2.5-Coder-0.5B-Instruct": _qwen(896, 24, 14, 2, 4_864, tied=True),
    "Qwen/Qwen2.5-Coder-1.5B-Instruct": _qwen(1_536, 28, 12, 2, 8_960, tied=True),
    "Qwen/Qwen2.5-Coder-7B-Instruct": _qwen(3_584, 28, 28, 4, 18_944),
    "Qwen/Qwen2.5-Coder-14B-Instruct": _qwen(5_120, 48, 40, 8, 13_824),
    "Qwen/Qwen2.5-Coder-32B-Instruct": _qwen(5_120, 64, 40, 8, 27_648),
}
"""Hui et al. 2024, "Qwen2.5-Coder Technical Report", table 1, and the models' config.json."""


def read_shape(config: Mapping[str, JSON], where: str) -> Shape:
    """The shape that a model's `config.json` describes.

    Raises `ConfigError` for an architecture that is not of `ARCHITECTURES` and for a size that is missing.
    """
    named = config.get("architectures") or ["none"]
    if named[0] not in ARCHITECTURES:
        raise ConfigError(
            "the sizes of this architecture are not known",
            where=where,
            expected=" or ".join(ARCHITECTURES),
            found=named[0],
        )
    sizes = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
    for key in sizes:
        if type(config.get(key)) is not int:
            raise ConfigError("no size", where=f"{where}: {key}", expected="int", found=repr(config.get(key)))
    heads = config["num_attention_heads"]
    return Shape(
        hidden=config["hidden_size"],
        layers=config["num_hidden_layers"],
        heads=heads,
        kv_heads=config.get("num_key_value_heads") or heads,
        intermediate=config["intermediate_size"],
        vocab=config["vocab_size"],
        tied=bool(config.get("tie_word_embeddings", False)),
        head_dim=config.get("head_dim") or config["hidden_size"] // heads,
        biased=named[0] == "Qwen2ForCausalLM",
        normed=named[0] == "Qwen3ForCausalLM",
    )
