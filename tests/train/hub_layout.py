"""A random model laid out as the hub lays out Qwen2.5: shards with an index, byte-level BPE, chat template.

The template is read from the TRL that the tests compare with; nobody's template lies in this repository.
"""

from __future__ import annotations

import importlib.util
import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import AddedToken, Regex, Tokenizer
from tokenizers.decoders import ByteLevel as ByteLevelDecoder
from tokenizers.models import BPE
from tokenizers.normalizers import NFC
from tokenizers.pre_tokenizers import ByteLevel, Sequence, Split
from tokenizers.trainers import BpeTrainer

ROOT = Path(__file__).parents[2]
CONTROL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>")
"""Special tokens, in Qwen2.5's order; the tokenizer leaves them out of decoded text."""
MARKS = ("<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|repo_name|>")
"""Added tokens that are text: a tool call's tags can be read in what was decoded."""
PIECES = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
VOCABULARY = 1200
PADDED = 1280
"""Rows of the embedding: more than the tokenizer has tokens, as in the real models."""


def qwen_template() -> str:
    """Qwen2.5's chat template. Skips the test where TRL is not installed."""
    spec = importlib.util.find_spec("trl")
    if spec is None or spec.origin is None:
        pytest.skip("TRL is not installed: pip install -e '.[oracle]'")
    return (Path(spec.origin).parent / "chat_templates/qwen2_5.jinja").read_text()


@cache
def qwen_tokenizer() -> Tokenizer:
    """Byte-level BPE as Qwen2.5's, its merges learned from this repository's own sources."""
    tokenizer = Tokenizer(BPE())
    tokenizer.normalizer = NFC()
    tokenizer.pre_tokenizer = Sequence(
        [Split(Regex(PIECES), "isolated"), ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=VOCABULARY - len(CONTROL) - len(MARKS),
        initial_alphabet=ByteLevel.alphabet(),
        show_progress=False,
    )
    sources = [path.read_text() for path in sorted((ROOT / "gym_code").glob("*.py"))]
    tokenizer.train_from_iterator(sources, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in CONTROL])
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in MARKS])
    return tokenizer


def write_hub_layout(path: Path, *, tied: bool = False, layers: int = 2, hidden: int = 64) -> Path:
    """A random Qwen2 in `path`, always the same, in shards of at most 200 kB."""
    from transformers import Qwen2Config, Qwen2ForCausalLM
    from transformers.utils.logging import disable_progress_bar

    tokenizer = qwen_tokenizer()
    end, pad = tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")
    sizes: dict[str, Any] = {
        "vocab_size": PADDED,
        "hidden_size": hidden,
        "intermediate_size": 2 * hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": 2,  # vLLM on a CPU knows no heads smaller than 32
        "num_key_value_heads": 1,
        "max_position_embeddings": 32_768,
        "tie_word_embeddings": tied,
        "bos_token_id": pad,
        "eos_token_id": end,
        "rope_theta": 1_000_000.0,
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(Qwen2Config(**sizes)).to(torch.bfloat16)
    disable_progress_bar()
    model.save_pretrained(path, max_shard_size="200kB")
    # As the older transformers wrote it that the real checkpoints come from.
    older = {"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "torch_dtype": "bfloat16"}
    older |= {"hidden_act": "silu", "rms_norm_eps": 1e-6, "initializer_range": 0.02, "attention_dropout": 0.0}
    older |= {"sliding_window": 131_072, "use_sliding_window": False, "max_window_layers": layers}
    _write(path / "config.json", older | sizes)
    # Qwen2.5's own: a server that reads it would sample from another distribution than the one trained.
    generation = {"do_sample": True, "eos_token_id": [end, pad], "pad_token_id": pad}
    generation |= {"repetition_penalty": 1.1, "temperature": 0.7, "top_k": 20, "top_p": 0.8}
    _write(path / "generation_config.json", generation)
    tokenizer.save(str(path / "tokenizer.json"))
    tokenizer.model.save(str(path))  # vocab.json and merges.txt
    _write(
        path / "tokenizer_config.json",
        {
            "tokenizer_class": "Qwen2Tokenizer",
            "chat_template": qwen_template(),
            "eos_token": "<|im_end|>",
            "pad_token": "<|endoftext|>",
            "additional_special_tokens": list(CONTROL[1:]),
            "model_max_length": 32_768,
            "add_prefix_space": False,
            "clean_up_tokenization_spaces": False,
        },
    )
    return path


def _write(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2))
