"""What follows from a model's sizes, held against the real classes."""

from typing import Any

import pytest
import torch

from gym_code.errors import ConfigError
from train.model import with_adapter
from train.plan.shapes import KNOWN, Shape, read_shape


def config_of(shape: Shape, kind: str = "Qwen2") -> Any:
    import transformers

    return getattr(transformers, f"{kind}Config")(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        intermediate_size=shape.intermediate,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        tie_word_embeddings=shape.tied,
        architectures=[f"{kind}ForCausalLM"],
    )


def model_of(config: Any) -> Any:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


# Total parameters as the models' pages state them.
@pytest.mark.parametrize(
    ("size", "parameters"),
    [
        ("0.5B", 494_032_768),
        ("1.5B", 1_543_714_304),
        ("7B", 7_615_616_512),
        ("14B", 14_770_033_664),
        ("32B", 32_763_876_352),
    ],
)
def test_the_known_models_have_as_many_parameters_as_the_real_class(size: str, parameters: int) -> None:
    shape = KNOWN[f"Qwen/Qwen2.5-Coder-{size}-Instruct"]
    model = model_of(config_of(shape))
    assert shape.parameters == sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("size", ["0.5B", "7B"])
def test_the_adapter_has_as_many_parameters_as_peft_makes(size: str) -> None:
    shape = KNOWN[f"Qwen/Qwen2.5-Coder-{size}-Instruct"]
    policy = with_adapter(model_of(config_of(shape)), rank=16, alpha=32.0)
    trained = {name: p.numel() for name, p in policy.named_parameters() if p.requires_grad}
    assert shape.adapter_parameters(16) == sum(trained.values())
    assert not any("lm_head" in name or "embed" in name for name in trained)


@pytest.mark.parametrize("kind", ["Qwen2", "Qwen3", "Llama"])
def test_a_models_config_is_read(kind: str) -> None:
    shape = Shape(
        hidden=64,
        layers=3,
        heads=4,
        kv_heads=2,
        intermediate=96,
        vocab=100,
        tied=kind == "Llama",
        head_dim=24,
    )
    config = config_of(shape, kind)
    read = read_shape(config.to_dict(), "here")
    assert read.parameters == sum(p.numel() for p in model_of(config).parameters())
    assert (read.hidden, read.layers, read.kv_heads, read.head_dim) == (64, 3, 2, 24)


def test_the_forward_of_a_token_costs_two_operations_a_weight_and_the_attention() -> None:
    shape = Shape(hidden=4, layers=2, heads=2, kv_heads=1, intermediate=8, vocab=10, tied=True, head_dim=2)
    # Weights of a layer: 16 + 8 + 8 + 16 + 3 * 32 = 144. Attention to 10 tokens: 4 * 4 * 10 = 160.
    assert shape.forward_flops(0) == 2 * 2 * 144
    assert shape.forward_flops(10) == 2 * (2 * 144 + 160)
    assert shape.cache_numbers == 2 * 2 * 1 * 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"architectures": ["MambaForCausalLM"]}, "here: the sizes .* found MambaForCausalLM"),
        ({}, "here: the sizes .* found none"),
        ({"architectures": ["Qwen2ForCausalLM"]}, "here: hidden_size: no size .expected int, found None"),
    ],
)
def test_another_architecture_and_a_missing_size_are_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_shape(config, "here")
