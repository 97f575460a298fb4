"""Models of published shapes with random weights: speed does not depend on the weights' values.

The numbers are those of the models' `config.json`; nothing is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from gym_code.errors import ConfigError
from train.attention import use_segment_attention

_QWEN3: Mapping[str, Any] = {
    "model_type": "qwen3",
    "vocab_size": 151_936,
    "head_dim": 128,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "Qwen3-0.6B": {
        **_QWEN3,
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "max_position_embeddings": 40_960,
        "rope_theta": 1e6,
    },
    "Qwen3-4B": {
        **_QWEN3,
        "hidden_size": 2560,
        "intermediate_size": 9728,
        "num_hidden_layers": 36,
        "num_attention_heads": 32,
        "max_position_embeddings": 262_144,
        "rope_theta": 5e6,
    },
    "Qwen2.5-7B": {
        "model_type": "qwen2",
        "vocab_size": 152_064,
        "hidden_size": 3584,
        "intermediate_size": 18_944,
        "num_hidden_layers": 28,
        "num_attention_heads": 28,
        "num_key_value_heads": 4,
        "max_position_embeddings": 131_072,
        "rope_theta": 1e6,
        "rms_norm_eps": 1e-6,
        "tie_word_embeddings": False,
    },
}
TOY: Mapping[str, Mapping[str, Any]] = {
    # The two architectures above, small enough for a CPU; head_dim is not hidden_size / heads, as in Qwen3.
    "toy Qwen3": {
        **_QWEN3,
        "vocab_size": 512,
        "head_dim": 16,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    "toy Qwen2": {
        "model_type": "qwen2",
        "vocab_size": 512,
        "hidden_size": 48,
        "intermediate_size": 80,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
    },
}


def shape(name: str) -> Any:
    """The transformers configuration of a shape. Raises `ConfigError` for a name that is not known."""
    from transformers import AutoConfig

    values = {**SHAPES, **TOY}.get(name)
    if values is None:
        raise ConfigError("no such shape", where="--models", expected=", ".join(SHAPES), found=name)
    return AutoConfig.for_model(**values)


def build(name: str, device: torch.device, dtype: torch.dtype) -> Any:
    """A model of that shape, made on the device, with the attention the trainer uses."""
    from transformers import AutoModelForCausalLM

    with torch.device(device):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(shape(name), dtype=dtype, attn_implementation="sdpa")
    use_segment_attention(model)
    return model
