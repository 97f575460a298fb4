"""Where a model comes from: the committed tiny base, a directory, or (for users) a hub id."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gym_code.errors import ConfigError
from train.attention import use_segment_attention

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
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    path = TINY if model == "tiny" else Path(model)
    if not (path / "config.json").is_file():
        raise ConfigError(
            "no model here",
            where=str(path),
            expected="a directory with config.json and safetensors",
            found="none",
        )
    made = AutoModelForCausalLM.from_pretrained(str(path), dtype=dtype, attn_implementation="sdpa")
    use_segment_attention(made)
    return made, path


def with_adapter(base: Any, rank: int, alpha: float) -> Any:
    """The base with a fresh LoRA adapter on every linear layer: the policy it starts as is the base."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(
        r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with warnings.catch_warnings():
        # peft asks transformers for a name that transformers 5 has given up; nobody here can mend it.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`", category=FutureWarning)
        return get_peft_model(base, lora)


def checkpoint_activations(model: Any) -> None:
    """Keep only each layer's input in a training forward and compute the rest again in the backward."""
    # transformers is giving up the older name.
    newer = getattr(model, "activation_checkpointing_enable", None)
    (newer or model.gradient_checkpointing_enable)({"use_reentrant": False})


def load_adapter(model: Any, path: Path) -> None:
    """Load the weights of an adapter directory. Raises `ConfigError` when none is there."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    file = path / "adapter_model.safetensors"
    if not file.is_file():
        raise ConfigError(
            "no adapter here", where=str(path), expected="adapter_model.safetensors", found="none"
        )
    set_peft_model_state_dict(model, load_file(str(file)))


def weights_digest(path: Path) -> str:
    """SHA-256 (hex) over the safetensors files of a model directory, in name order."""
    sha = hashlib.sha256()
    for file in sorted(path.glob("*.safetensors")):
        sha.update(file.read_bytes())
    return sha.hexdigest()
