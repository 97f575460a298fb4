import json
from pathlib import Path

import pytest

from gym_code.errors import ConfigError
from gym_code.synth.families import BY_NAME
from gym_code.synth.packages import chosen, real_packages
from train.config import load_config, parse_settings, to_toml
from train.plan.shapes import KNOWN


def test_a_config_written_is_read_back_the_same(tmp_path: Path) -> None:
    weights = {"resolved": 1, "shaped": 0.2}
    options = {"pack_length": 64, "shared_prefix": True, "reward_weights": weights}
    config = load_config("tiny", {"seed": 3, "control": "shuffled"} | options)
    assert config.reward_weights == (("resolved", 1.0), ("shaped", 0.2))
    (tmp_path / "config.toml").write_text(to_toml(config))
    assert load_config(str(tmp_path / "config.toml"), {}) == config


def test_the_digest_changes_with_any_value() -> None:
    assert load_config("tiny", {}).digest != load_config("tiny", {"learning_rate": 2e-3}).digest


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('model = "tiny"\nsteps = "many"\n', "steps: wrong type .expected int, found 'many'"),
        ('model = "tiny"\nstep = 3\n', "step: unknown field"),
        ("steps = 3\n", "model: missing field"),
        ('model = "tiny"\ngroup_size = 1\n', "group_size: too small .expected >= 2, found 1"),
        ('model = "tiny"\ncontrol = "maybe"\n', "control: unknown control .expected none or shuffled"),
        (
            'model = "tiny"\nobjective = "ppo"\n',
            "objective: unknown objective .expected grpo or dr_grpo or dapo",
        ),
        ('model = "tiny"\nold_policy = "new"\n', "unknown old_policy .expected recomputed or served"),
        ('model = "tiny"\ndtype = "fp8"\n', "unknown dtype .expected float32 or bfloat16, found fp8"),
        ('model = "tiny"\nclip_low = -0.1\n', "clip_low: too small .expected >= 0.0, found -0.1"),
        ('model = "tiny"\nshared_prefix = 1\n', "shared_prefix: wrong type .expected bool, found 1"),
        (
            'model = "tiny"\nshared_prefix = true\n',
            "shared_prefix: rows can share .* .expected pack_length > 0",
        ),
        ('model = "tiny"\nreward_weights = ["shaped"]\n', "reward_weights: wrong type .expected a table"),
        ('model = "tiny"\nlevels = ["a"]\n', "levels: wrong type .expected list of int"),
        ('model = "tiny"\nlevels = []\n', "levels: no level"),
        ('model = "tiny"\ntemperature = 0\n', "temperature: too small .expected > 0, found 0.0"),
        ('model = "tiny"\ncheckpoint_every = 0\n', "checkpoint_every: too small .expected >= 1"),
        ('model = "tiny"\nmax_tokens = 512\n', "max_tokens: a completion leaves no room .* less than max_le"),
        (
            'model = "tiny"\nheld_out_families = ["gap", "gapp"]\n',
            "held_out_families: unknown family .expected some of .*, found gapp",
        ),
        ("model = [", "not valid TOML"),
    ],
)
def test_a_bad_config_says_where_and_what(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(str(path), {})
    assert str(path) in str(caught.value)


def test_a_family_is_left_to_train_on() -> None:
    with pytest.raises(ConfigError, match="held_out_families: no family is left to train on"):
        load_config("tiny", {"held_out_families": list(BY_NAME)})


@pytest.mark.parametrize(
    ("objective", "low", "high"),
    [("dr_grpo", 0.2, 0.28), ("grpo", 0.2, 0.2), ("gspo", 3e-4, 4e-4), ("cispo", 1.0, 4.0)],
)
def test_a_file_that_names_no_clip_gets_its_objectives(objective: str, low: float, high: float) -> None:
    config = load_config("tiny", {"objective": objective})
    assert (config.clip_low, config.clip_high) == (low, high)
    config = load_config("tiny", {"objective": objective, "clip_high": 0.5})
    assert (config.clip_low, config.clip_high) == (low, 0.5)


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    shipped = "qwen-0.5b qwen-1.5b qwen-14b qwen-32b qwen-7b tiny"
    with pytest.raises(
        ConfigError, match=f"expected {shipped}, a .toml file, a model's directory or its hub"
    ):
        load_config("huge", {})


@pytest.mark.parametrize("size", ["0.5b", "1.5b", "7b", "14b", "32b"])
def test_the_shipped_configs_of_real_models(size: str) -> None:
    config = load_config(f"qwen-{size}", {})
    assert config.model == f"Qwen/Qwen2.5-Coder-{size.upper()}-Instruct"
    assert config.model in KNOWN
    assert (config.engine, config.dtype, config.device) == ("vllm", "bfloat16", "cuda")
    assert config.max_tokens < config.max_length <= config.pack_length
    assert config.stages[:2] == ("procedural", "starter")
    assert all(p.name for stage in config.stages[2:] for p in chosen(stage, real_packages()))
    assert config.rejection_below == 0.05
    assert load_config(config.model, {}) == config


@pytest.mark.parametrize(
    ("layers", "name"),
    [(1, "qwen-0.5b"), (70, "qwen-1.5b"), (150, "qwen-7b"), (300, "qwen-14b"), (700, "qwen-32b")],
)
def test_a_models_directory_takes_the_config_of_its_size(tmp_path: Path, layers: int, name: str) -> None:
    sizes = {"hidden_size": 2048, "num_attention_heads": 16, "num_key_value_heads": 2}
    sizes |= {"intermediate_size": 5504, "vocab_size": 1000, "num_hidden_layers": layers}
    (tmp_path / "config.json").write_text(json.dumps({"architectures": ["Qwen2ForCausalLM"]} | sizes))
    expected = load_config(name, {"model": str(tmp_path), "groups": 3})
    assert load_config(str(tmp_path), {"groups": 3}) == expected


def test_a_directory_without_a_model_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config.json: no model here"):
        load_config(str(tmp_path), {})


def test_settings_are_toml_or_text() -> None:
    made = parse_settings(
        ["steps=3", "levels=[1, 2]", "model=/models/a=b", "learning_rate = 1e-5", "device=cpu"]
    )
    assert made == {
        "steps": 3, "levels": [1, 2], "model": "/models/a=b", "learning_rate": 1e-5, "device": "cpu"
    }  # fmt: skip
    assert load_config("tiny", made).levels == (1, 2)
    with pytest.raises(ConfigError, match=r"--set: not a setting .expected KEY=VALUE, found steps"):
        parse_settings(["steps"])
    with pytest.raises(ConfigError, match=r"device: unknown device .expected auto or cpu or cuda, found tpu"):
        load_config("tiny", parse_settings(["device=tpu"]))
