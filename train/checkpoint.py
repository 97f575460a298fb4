"""Checkpoints that are whole or not there: written aside, synced, renamed; LATEST is written last.

Task order, sample seeds and shuffles are functions of the run's seed and the step, so a checkpoint needs
only the adapter, the optimizer and the number of steps done.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch

from gym_code.errors import ConfigError
from train.config import Config
from train.model import load_adapter

LATEST = "LATEST"


def save_checkpoint(
    root: Path, model: Any, optimizer: torch.optim.Optimizer, step: int, config: Config
) -> Path:
    """Write the state after `step` steps under `root` and point LATEST at it; earlier ones are removed."""
    root.mkdir(parents=True, exist_ok=True)
    final, aside = root / f"step-{step:05d}", root / f".step-{step:05d}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(str(aside))
    torch.save(optimizer.state_dict(), aside / "optimizer.pt")
    (aside / "state.json").write_text(json.dumps({"step": step, "config_digest": config.digest}))
    for path in (*aside.iterdir(), aside):
        sync(path)
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    sync(root)
    write_whole(root / LATEST, final.name.encode())
    for old in root.glob("step-*"):
        if old.name < final.name:
            shutil.rmtree(old)
    return final


def load_checkpoint(root: Path, model: Any, optimizer: torch.optim.Optimizer, config: Config) -> int:
    """Load the latest state into model and optimizer; the number of steps done, 0 where there is none.

    Raises `ConfigError` when the checkpoint was made under another configuration.
    """
    if not (root / LATEST).is_file():
        return 0
    path = root / (root / LATEST).read_text()
    state = json.loads((path / "state.json").read_text())
    if state["config_digest"] != config.digest:
        raise ConfigError(
            "the checkpoint belongs to another configuration",
            where=str(path / "state.json"),
            expected=f"config_digest {config.digest}",
            found=state["config_digest"],
        )
    load_adapter(model, path)
    optimizer.load_state_dict(torch.load(path / "optimizer.pt", weights_only=True))
    return int(state["step"])


def write_whole(path: Path, content: bytes) -> None:
    """Replace a file, synced: after a crash it holds the old bytes or the new ones, never a part."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_bytes(content)
    sync(aside)
    aside.rename(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Have the disk hold what a file or a directory says."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
