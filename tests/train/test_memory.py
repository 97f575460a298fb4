"""The plan's arithmetic against what tensors really take."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from gym_code.types import Segment
from train.attention import use_segment_attention
from train.config import load_config
from train.logprob import packed_logprobs
from train.model import checkpoint_activations, with_adapter
from train.pack import pack
from train.plan.memory import activation_bytes, forward_tokens, peak, trainer_parts
from train.plan.shapes import KNOWN, Shape

RANK = 4


class Live(TorchDispatchMode):
    """Counts the bytes of every storage that is made while it is on, until it is freed."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._there = [p.untyped_storage() for p in model.parameters()]
        self._known = {storage._cdata: 0 for storage in self._there}

    def __torch_dispatch__(self, work: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = work(*args, **(kwargs or {}))
        for tensor in tree_iter(out):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in self._known:
                    self._known[storage._cdata] = storage.nbytes()
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._freed, storage._cdata)
        self.peak = max(self.peak, self.now)
        return out

    def _freed(self, key: int) -> None:
        self.now -= self._known.pop(key)


def policy(shape: Shape, dtype: torch.dtype, *, checkpointing: bool) -> Any:
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        tie_word_embeddings=True,
    )
    base = Qwen2ForCausalLM(config).to(dtype)
    use_segment_attention(base)
    made = with_adapter(base, RANK, 8.0)
    if checkpointing:
        checkpoint_activations(made)
    return made.train()


def shape_of(layers: int, width: int, vocab: int) -> Shape:
    return Shape(
        hidden=128,
        layers=layers,
        heads=4,
        kv_heads=2,
        intermediate=width,
        vocab=vocab,
        tied=True,
        head_dim=32,
    )


def segments(tokens: int) -> list[Segment]:
    length = tokens // 4
    return [
        Segment(
            task_id="",
            group_id=str(number),
            token_ids_T=(1,) * length,
            action_mask_T=(0, *(1,) * (length - 1)),
            logprobs_T=(0.0,) * length,
            advantages_T=(1.0,) * length,
        )
        for number in range(4)
    ]


# A wide MLP makes the layer the peak, a large vocabulary the head.
@pytest.mark.parametrize(("width", "vocab"), [(512, 256), (160, 8192)])
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_peak_of_an_update_is_as_reckoned(
    dtype: str, checkpointing: bool, width: int, vocab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.plan.memory.CHUNK", 256)
    tokens, shape = 1024, shape_of(4, width, vocab)
    model = policy(shape, getattr(torch, dtype), checkpointing=checkpointing)
    packed = pack(segments(tokens), length=tokens)
    with Live(model) as live:
        logprobs_BT, _ = packed_logprobs(model, packed, 1.0, chunk=256)
        logprobs_BT.sum().backward()
    options = {"forward_tokens": tokens, "max_length": 256, "lora_rank": RANK, "engine": "vllm"}
    config = load_config("tiny", options | {"dtype": dtype, "gradient_checkpointing": checkpointing})
    activations = peak(trainer_parts(shape, config)[3:])
    assert live.peak == pytest.approx(activations, rel=0.06)


def test_what_a_layer_keeps() -> None:
    # By hand, bf16: norms 8 * 128 + 8, adapters 2 * (5 * 128 + 128 + 512 + 7 * 4), attention 2 * 4 * 128 +
    # 4 * 4, MLP 2 * 3 * 512.
    assert activation_bytes(shape_of(1, 512, 64), RANK, 2) == 1032 + 2616 + 1040 + 3072


def test_the_adapter_and_its_optimizer_take_what_torch_allocates() -> None:
    shape = shape_of(2, 160, 64)
    model = policy(shape, torch.float32, checkpointing=False)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    for parameter in trained:
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    moments = [t for state in optimizer.state.values() for t in state.values() if t.numel() > 1]
    held = sum(t.nbytes for t in [*(p.grad for p in trained), *moments])
    base, adapter, rest = trainer_parts(shape, load_config("tiny", {"lora_rank": RANK}))[:3]
    assert (adapter.bytes, rest.bytes) == (sum(p.nbytes for p in trained), held)
    assert base.bytes == sum(p.nbytes for p in model.parameters() if not p.requires_grad)


def test_a_sharded_base_keeps_its_part_and_what_is_gathered() -> None:
    shape = KNOWN["Qwen/Qwen2.5-Coder-32B-Instruct"]
    config = load_config("qwen-32b", {"sharding": "fsdp"})
    whole, shared = trainer_parts(shape, config)[0], trainer_parts(shape, config, 4)[0]
    assert whole.bytes == 2 * shape.parameters
    # Of the weights of 64 layers a quarter, two layers gathered; embedding, head, biases and norms whole.
    layers = 64 * 487_587_840
    assert shared.bytes == 2 * (shape.parameters - layers + layers / 4 + 2 * 487_587_840)


@pytest.mark.parametrize(
    ("options", "tokens"),
    [
        ({"forward_tokens": 4096, "max_length": 512}, 4096),
        ({"forward_tokens": 256, "max_length": 512}, 512),
        # 16 groups of 8 in 2 steps of the optimizer: 64 conversations of 512.
        ({"forward_tokens": 0, "max_length": 512}, 64 * 512),
    ],
)
def test_the_tokens_of_a_forward(options: dict[str, int], tokens: int) -> None:
    assert forward_tokens(load_config("tiny", options)) == tokens
