"""How much memory the parts of a run take, reckoned from a model's sizes alone.

Of the trainer everything is counted from the tensors that `train/logprob.py` and peft make, and held against
measured ones (tests/train/test_memory.py). A server's figures are its weights and its cache, which vLLM makes
as large as it is allowed to, and an allowance for the rest.

Sizes: b bytes a number (2 in bf16), T tokens of one forward, C hidden size, Q = heads * head size, H heads,
F width of the MLP, V vocabulary, r rank of the adapter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from train.config import Config
from train.logprob import CHUNK
from train.plan.shapes import Shape

CONTEXT = 1.5e9
"""Bytes that CUDA, its libraries and the allocator's gaps take on a process's GPU, more or less."""
SERVER = 3.0e9
"""Bytes of a vLLM server beside weights and cache: its forward's activations, CUDA graphs, adapter slots."""
ASLEEP = 2.0e9
"""Bytes that a sleeping server keeps on its GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of what a process holds. Of the `passing` ones only the largest is there at a time."""

    name: str
    bytes: float
    how: str
    passing: bool = False


def peak(parts: Sequence[Part]) -> float:
    """The most bytes at a time."""
    return sum(p.bytes for p in parts if not p.passing) + max(
        (p.bytes for p in parts if p.passing), default=0.0
    )


def number_bytes(config: Config) -> int:
    """Bytes of a number of base and forward."""
    return 2 if config.dtype == "bfloat16" else 4


def activation_bytes(shape: Shape, rank: int, size: int) -> int:
    """Bytes that one layer keeps for its backward, for each token.

    The two norms keep their input and a number in fp32: 8C + 8. Every adapter keeps its input and its product
    with A: b(Q + F) and 7br, and b times 2C, or 5C in bf16, where autocast makes each adapter a copy of its
    own. Attention keeps queries, keys, values (repeated to all heads), its result and H sums in fp32: 4bQ +
    4H. The MLP keeps gate, its SiLU and up: 3bF.
    """
    c, q = shape.hidden, shape.heads * shape.head_dim
    inputs = 5 if size == 2 else 2
    numbers = inputs * c + 5 * q + 4 * shape.intermediate + 7 * rank
    return 8 * c + 8 + 4 * shape.heads + size * numbers


def forward_tokens(config: Config) -> int:
    """Most tokens of one forward and backward: a conversation is never cut."""
    whole_step = -(-config.groups * config.group_size // config.minibatches) * config.max_length
    return max(config.forward_tokens or whole_step, config.max_length)


def trainer_parts(shape: Shape, config: Config, ranks: int = 1) -> list[Part]:
    """What one process of the trainer holds during an update; `ranks` processes share a base under fsdp."""
    size, tokens = number_bytes(config), forward_tokens(config)
    adapter = shape.adapter_parameters(config.lora_rank)
    predictions = tokens  # at most: every token sampled
    # In bf16 each layer's A and B are cast for the forward and kept so.
    copies = adapter * 2 if size == 2 else 0
    layer = activation_bytes(shape, config.lora_rank, size)
    kept = size * shape.hidden if config.gradient_checkpointing else layer
    again = layer if config.gradient_checkpointing else 0
    parts = [
        _base(shape, size, ranks if config.sharding == "fsdp" else 1),
        Part(name="adapter", bytes=adapter * 4 + copies, how=f"{adapter:,} numbers, rank {config.lora_rank}"),
        Part(name="its gradients and optimizer", bytes=adapter * 12, how="12 bytes a number (AdamW)"),
        Part(
            name="activations kept",
            bytes=kept * shape.layers * tokens,
            how=f"{tokens:,} tokens, {_checkpointing(config)}",
        ),
        Part(
            name="hidden states and gradients at the head",
            bytes=2.0 * size * shape.hidden * predictions,
            how="at most, if every token was sampled",
        ),
        Part(
            name="one layer's forward and backward",
            # Beside what the layer keeps, four tensors of the MLP's width in bf16, two in fp32.
            bytes=(again + 8 * shape.intermediate) * tokens,
            how="while it passes",
            passing=True,
        ),
        Part(
            name="logits of a chunk",
            # Four tensors in fp32 at a time: the last chunk's two are let go as the next one's are made.
            bytes=16.0 * min(CHUNK, predictions) * shape.vocab,
            how=f"{min(CHUNK, predictions):,} predictions over {shape.vocab:,} tokens, while it passes",
            passing=True,
        ),
    ]
    if config.engine == "torch":
        parts.append(cache_part(shape, config))
    return parts


def _base(shape: Shape, size: int, ranks: int) -> Part:
    layers = shape.layers * sum(i * o for i, o in shape.linears)
    if ranks == 1:
        return Part(name="base", bytes=shape.parameters * size, how=f"{shape.parameters:,} numbers")
    # Embedding and head stay whole; the layer at work and the next one are gathered.
    held = (shape.parameters - layers) + layers / ranks + 2 * layers / shape.layers
    return Part(name="base", bytes=held * size, how=f"layers split over {ranks} GPUs, two gathered")


def _checkpointing(config: Config) -> str:
    return f"gradient checkpointing {'on' if config.gradient_checkpointing else 'off'}"


def conversation_bytes(shape: Shape, config: Config) -> float:
    """Keys and values of one conversation at its longest."""
    return config.max_length * shape.cache_numbers * number_bytes(config)


def cache_part(shape: Shape, config: Config) -> Part:
    """Keys and values of all open conversations at their longest, on one of the replicas."""
    replicas = config.vllm_replicas if config.engine == "vllm" else 1
    seats = -(-config.seats // replicas)
    each = shape.cache_numbers * number_bytes(config)
    return Part(
        name="key-value cache",
        bytes=seats * conversation_bytes(shape, config),
        how=f"{seats} conversations of {config.max_length:,} tokens, {each:,} bytes a token",
    )


def server_parts(shape: Shape, config: Config) -> list[Part]:
    """What a vLLM server holds without its cache."""
    return [
        Part(name="weights", bytes=shape.parameters * number_bytes(config), how=config.dtype),
        Part(name="forward, graphs, adapters", bytes=SERVER, how="an allowance"),
    ]


def resident(parts: Sequence[Part]) -> float:
    """Bytes of a trainer between updates: base, adapter, gradients and optimizer."""
    return sum(part.bytes for part in parts[:3])
