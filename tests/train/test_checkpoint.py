from pathlib import Path
from typing import Any

import pytest
import torch

from gym_code.errors import ConfigError
from train.checkpoint import Resumed, load_checkpoint, save_best, save_checkpoint
from train.config import load_config
from train.model import tiny_config, with_adapter

CONFIG = load_config("tiny", {})
ROLLOUTS = {"next": 16, "curriculum": {"stage": 0}}


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


def steps_of(root: Path, model: Any, optimizer: torch.optim.Optimizer) -> int:
    found = load_checkpoint(root, model, optimizer, CONFIG)
    assert found is not None
    return found.step


def adapter(model: Any) -> list[torch.Tensor]:
    return [p.detach().clone() for p in model.parameters() if p.requires_grad]


def test_law_11_training_goes_on_bit_identically_from_a_checkpoint(tmp_path: Path) -> None:
    model, optimizer = learner()
    for seed in range(3):
        step(model, optimizer, seed)
        if seed == 1:
            save_checkpoint(tmp_path, model, optimizer, 2, CONFIG, ROLLOUTS)
    resumed, its_optimizer = learner()
    found = load_checkpoint(tmp_path, resumed, its_optimizer, CONFIG)
    assert found == Resumed(step=2, rollouts=ROLLOUTS)
    step(resumed, its_optimizer, 2)
    for ours, theirs in zip(adapter(model), adapter(resumed), strict=True):
        assert torch.equal(ours, theirs)


def test_what_a_killed_run_left_half_written_is_removed_as_it_resumes(tmp_path: Path) -> None:
    model, optimizer = learner()
    save_best(tmp_path, model, 1, 0.5)
    save_checkpoint(tmp_path, model, optimizer, 2, CONFIG, ROLLOUTS)
    for name in ("step-00001", ".step-00003.tmp", "step-00003", ".best.tmp", "best-00003"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_model.safetensors").write_bytes(b"half")
    (tmp_path / ".LATEST.tmp").write_text("step-0")
    (tmp_path / ".best.link").symlink_to("best-00003")
    assert steps_of(tmp_path, *learner()) == 2
    assert {path.name for path in tmp_path.iterdir()} == {"LATEST", "step-00002", "best", "best-00001"}


def test_only_the_latest_is_kept_and_a_half_written_one_is_ignored(tmp_path: Path) -> None:
    model, optimizer = learner()
    save_checkpoint(tmp_path, model, optimizer, 1, CONFIG, ROLLOUTS)
    save_checkpoint(tmp_path, model, optimizer, 2, CONFIG, ROLLOUTS)
    (tmp_path / ".step-00003.tmp").mkdir()
    assert sorted(p.name for p in tmp_path.glob("step-*")) == ["step-00002"]
    assert steps_of(tmp_path, model, optimizer) == 2
    save_checkpoint(tmp_path, model, optimizer, 3, CONFIG, ROLLOUTS)
    assert steps_of(tmp_path, model, optimizer) == 3


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path: Path) -> None:
    model, optimizer = learner()
    save_checkpoint(tmp_path, model, optimizer, 1, CONFIG, ROLLOUTS)
    with pytest.raises(ConfigError, match=r"state\.json: the checkpoint belongs to another configuration"):
        load_checkpoint(tmp_path, model, optimizer, load_config("tiny", {"seed": 5}))


def test_nothing_to_load(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path, *learner(), CONFIG) is None


def test_a_checkpoint_of_another_base_is_refused(tmp_path: Path) -> None:
    model, optimizer = learner()
    save_checkpoint(tmp_path, model, optimizer, 1, CONFIG, ROLLOUTS)
    with torch.no_grad():
        next(p for p in model.parameters() if not p.requires_grad).mul_(1.5)
    with pytest.raises(ConfigError, match="the checkpoint belongs to another base"):
        load_checkpoint(tmp_path, model, optimizer, CONFIG)


@pytest.mark.parametrize("name", ["optimizer.pt", "adapter_model.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_checkpoint_is_refused_and_named(tmp_path: Path, name: str, damage: str) -> None:
    model, optimizer = learner()
    file = save_checkpoint(tmp_path, model, optimizer, 1, CONFIG, ROLLOUTS) / name
    content = file.read_bytes()
    file.unlink()
    if damage == "cut":
        file.write_bytes(content[:-1])
    with pytest.raises(ConfigError, match=rf"{name}: the checkpoint is damaged"):
        load_checkpoint(tmp_path, model, optimizer, CONFIG)


def test_law_11_other_threads_are_said_to_change_the_bits(tmp_path: Path) -> None:
    model, optimizer = learner()
    before = torch.get_num_threads()
    save_checkpoint(tmp_path, model, optimizer, 1, CONFIG, ROLLOUTS)
    try:
        torch.set_num_threads(before + 1)
        found = load_checkpoint(tmp_path, model, optimizer, CONFIG)
    finally:
        torch.set_num_threads(before)
    assert found is not None
    assert found.note == f"the run may end with other bits: threads {before} -> {before + 1}"
