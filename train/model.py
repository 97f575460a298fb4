"""A model in memory: the frozen base on its device, and the adapter that is trained on top of it."""

from __future__ import annotations

import hashlib
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gym_code.errors import ConfigError
from train.attention import use_segment_attention
from train.hub import TINY as TINY
from train.hub import locate

if TYPE_CHECKING:
    import torch


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


def device_of(wanted: str) -> torch.device:
    """The device that `auto`, `cuda` or `cpu` means here; under torchrun the process's own GPU.

    Raises `ConfigError` for `cuda` where torch finds no GPU.
    """
    import torch

    found = torch.cuda.is_available()
    if wanted == "cuda" and not found:
        raise ConfigError(
            "torch finds no GPU here", where="device", expected="a CUDA GPU, or device=cpu", found="none"
        )
    if not found or wanted == "cpu":
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))


def load_base(model: str, dtype: torch.dtype, device: str = "auto") -> tuple[Any, Path]:
    """The base model by name (`tiny`), directory or hub id, and the directory its tokenizer lies in.

    Raises `ConfigError` when nothing is there, when its weights do not fit its `config.json`, or when there
    is no such device.
    """
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    target = device_of(device)
    path = locate(model)
    made, loading = AutoModelForCausalLM.from_pretrained(
        str(path),
        dtype=dtype,
        attn_implementation="sdpa",
        # Shard by shard to where they stay: the whole model never lies in the host's memory.
        device_map={"": target} if target.type == "cuda" else None,
        output_loading_info=True,
    )
    if lacking := sorted(loading["missing_keys"]):
        raise ConfigError(
            "weights are missing: they would be random numbers",
            where=str(path),
            expected=f"{lacking[0]} and {len(lacking) - 1} more",
            found="none",
        )
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
