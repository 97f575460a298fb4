"""The small policy that many tests train, serve or look into: two Qwen2 layers with an adapter."""

from __future__ import annotations

import random
from typing import Any

import torch

from gym_code.types import Segment
from train.model import tiny_config, with_adapter

VOCABULARY = 64


def small_base(vocabulary: int = VOCABULARY) -> Any:
    """A causal language model of 48 / 64 units and two layers; always the same weights."""
    from transformers import Qwen2ForCausalLM

    config = tiny_config(vocabulary)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 48, 64, 2
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Qwen2ForCausalLM(config)


def small_policy(spread: float = 0.0, vocabulary: int = VOCABULARY) -> Any:
    """The base with an adapter of rank 4. `spread`, the deviation of lora_B, makes it do something."""
    with torch.random.fork_rng():
        torch.manual_seed(0)  # lora_A is drawn from the global generator
        model = with_adapter(small_base(vocabulary), rank=4, alpha=8.0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    return model


def sharp_policy(dtype: torch.dtype = torch.float32) -> Any:
    """The policy with wider weights, all drawn here: its distributions are far from even."""
    model = with_adapter(small_base().to(dtype), rank=4, alpha=8.0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + ("norm" in name))
    return model


def batch(model: Any, count: int = 12) -> list[Segment]:
    """Groups of four that begin alike; sampled by a policy whose logprobs are 0.3 nats off, more or less."""
    rng = random.Random(5)
    made = []
    for n in range(count):
        prompt = [rng.randrange(VOCABULARY) for _ in range(6)] if n % 4 == 0 else made[-1].token_ids_T[:6]
        rest = [rng.randrange(VOCABULARY) for _ in range(rng.randrange(6, 14))]
        ids = (*prompt, *made[-1].token_ids_T[6 : 6 + n % 4], *rest) if n % 4 else (*prompt, *rest)
        mask = [0] * 6 + [int(i % 5 != 4) for i in range(len(ids) - 6)]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        logprobs = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
        served = [0.0] + [float(p) + rng.gauss(0, 0.3) for p in logprobs]
        advantage = (0.75, -0.25, -0.25, -0.25)[n % 4]
        made.append(
            Segment(
                task_id="t",
                group_id=str(n // 4),
                token_ids_T=ids,
                action_mask_T=tuple(mask),
                logprobs_T=tuple(p * m for p, m in zip(served, mask, strict=True)),
                advantages_T=tuple(advantage * m for m in mask),
            )
        )
    return made
