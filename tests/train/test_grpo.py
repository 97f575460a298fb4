"""What the main loop checks before it begins."""

from pathlib import Path

import pytest

from gym_code.errors import ConfigError
from train.config import load_config, to_toml
from train.grpo import insist_on_the_same


def test_a_run_goes_on_with_the_configuration_it_was_begun_with(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    insist_on_the_same(file, load_config("tiny", {}))
    file.write_text(to_toml(load_config("tiny", {"engine": "vllm"})))
    insist_on_the_same(file, load_config("tiny", {"engine": "vllm"}))
    with pytest.raises(ConfigError, match=r"config\.toml: seed, steps: .* \(expected 0, 35, found 4, 9"):
        insist_on_the_same(file, load_config("tiny", {"engine": "vllm", "steps": 9, "seed": 4}))
