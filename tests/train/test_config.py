from pathlib import Path

import pytest

from gym_code.errors import ConfigError
from train.config import load_config, to_toml


def test_a_config_written_is_read_back_the_same(tmp_path: Path) -> None:
    config = load_config("tiny", {"seed": 3, "control": "shuffled"})
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
        ('model = "tiny"\nlevels = ["a"]\n', "levels: wrong type .expected list of int"),
        ("model = [", "not valid TOML"),
    ],
)
def test_a_bad_config_says_where_and_what(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as caught:
        load_config(str(path), {})
    assert str(path) in str(caught.value)


def test_an_unknown_name_lists_the_shipped_ones() -> None:
    with pytest.raises(ConfigError, match="expected tiny"):
        load_config("huge", {})
