"""Where a model comes from: the committed tiny base, a directory, or (for users) a hub id."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gym_code.errors import ConfigError

if TYPE_CHECKING:
    import torch

TINY = Path(__file__).parent / "tiny"
"""The committed base: weights, tokenizer, recipe and training log."""


def tiny_config(vocab_size: int) -> Any:
    """The Qwen2 configuration of the tiny model (about 2 M parameters)."""
    from transformers import Qwen2Config

    return Qwen2Config(
        vocab_size=vocab_size,
        hidden_size=192,
        intermediate_size=576,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=3,
        max_position_embeddings=1024,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
        attention_dropout=0.0,
        bos_token_id=None,
        eos_token_id=1,
        pad_token_id=0,
    )


def load_base(model: str, dtype: torch.dtype) -> tuple[Any, Path]:
    """The base model by name (`tiny`), directory or hub id, and the directory its tokenizer lies in.

    Raises `ConfigError` when nothing is there.
    """
    from transformers import AutoModelForCausalLM

    path = TINY if model == "tiny" else Path(model)
    if not (path / "config.json").is_file():
        raise ConfigError(
            "no model here",
            where=str(path),
            expected="a directory with config.json and safetensors",
            found="none",
        )
    return AutoModelForCausalLM.from_pretrained(str(path), dtype=dtype, attn_implementation="sdpa"), path


def weights_digest(path: Path) -> str:
    """SHA-256 (hex) over the safetensors files of a model directory, in name order."""
    sha = hashlib.sha256()
    for file in sorted(path.glob("*.safetensors")):
        sha.update(file.read_bytes())
    return sha.hexdigest()
