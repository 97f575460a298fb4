from pathlib import Path
from typing import Any

import pytest
import torch

from gym_code.errors import ConfigError
from train.checkpoint import load_checkpoint, save_checkpoint
from train.config import load_config
from train.model import tiny_config, with_adapter

CONFIG = load_config("tiny", {})


def learner() -> tuple[Any, torch.optim.Optimizer]:
    from transformers import Qwen2ForCausalLM

    torch.manual_seed(0)
    config = tiny_config(64)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 48, 64, 1
    model = with_adapter(Qwen2ForCausalLM(config), rank=2, alpha=4.0)
    return model, torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.1)


def step(model: Any, optimizer: torch.optim.Optimizer, seed: int) -> None:
    ids = torch.randint(0, 64, (2, 6), generator=torch.Generator().manual_seed(seed))
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    optimizer.zero_grad()


def adapter(model: Any) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters() if p.requires_grad]


def test_law_11_training_goes_on_bit_identically_from_a_checkpoint(tmp_path: Path) -> None:
    model, optimizer = learner()
    for seed in range(3):
        step(model, optimizer, seed)
        if seed == 1:
            save_checkpoint(tmp_path, model, optimizer, 2, CONFIG)
    resumed, its_optimizer = learner()
    assert load_checkpoint(tmp_path, resumed, its_optimizer, CONFIG) == 2
    step(resumed, its_optimizer, 2)
    for ours, theirs in zip(adapter(model), adapter(resumed), strict=True):
        assert torch.equal(ours, theirs)


def test_only_the_latest_is_kept_and_a_half_written_one_is_ignored(tmp_path: Path) -> None:
    model, optimizer = learner()
    save_checkpoint(tmp_path, model, optimizer, 1, CONFIG)
    save_checkpoint(tmp_path, model, optimizer, 2, CONFIG)
    (tmp_path / ".step-00003.tmp").mkdir()
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-00002"]
    assert load_checkpoint(tmp_path, model, optimizer, CONFIG) == 2
    save_checkpoint(tmp_path, model, optimizer, 3, CONFIG)
    assert load_checkpoint(tmp_path, model, optimizer, CONFIG) == 3


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    model, optimizer = learner()
    save_checkpoint(tmp_path, model, optimizer, 1, CONFIG)
    with pytest.raises(ConfigError, match=r"state\.json: the checkpoint belongs to another configuration"):
        load_checkpoint(tmp_path, model, optimizer, load_config("tiny", {"seed": 5}))


def test_nothing_to_load_is_step_0(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, *learner(), CONFIG) == 0
