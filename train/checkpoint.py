"""Checkpoints that are whole or not there: written aside, synced, renamed; LATEST is written last.

Sample seeds and shuffles are functions of the run's seed and the step, and no generator of random numbers
carries over from one step to the next. So a checkpoint is the adapter, the optimizer, the number of steps
done and the state of the rollouts (draws made, solve rates); and what it may be resumed with.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import torch

from gym_code.errors import ConfigError
from gym_code.types import JSON
from train.config import Config
from train.model import load_adapter

LATEST = "LATEST"
STATE = "state.json"
SCORE = "score.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """What a checkpoint says besides weights. `note`: why the run may end with other bits, else empty."""

    step: int
    rollouts: dict[str, JSON]
    note: str = ""


def save_checkpoint(
    root: Path,
    model: Any,
    optimizer: torch.optim.Optimizer,
    step: int,
    config: Config,
    rollouts: Mapping[str, JSON],
) -> Path:
    """Write the state after `step` steps under `root` and point LATEST at it; earlier ones are removed."""
    root.mkdir(parents=True, exist_ok=True)
    final, aside = root / f"step-{step:05d}", root / f".step-{step:05d}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(str(aside))
    torch.save(optimizer.state_dict(), aside / "optimizer.pt")
    state = _fits(model, config) | {
        "step": step,
        "rollouts": rollouts,
        "files": {path.name: file_sha256(path) for path in sorted(aside.iterdir()) if path.is_file()},
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
    }
    (aside / STATE).write_text(json.dumps(state, indent=1))
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


def load_checkpoint(
    root: Path, model: Any, optimizer: torch.optim.Optimizer, config: Config
) -> Resumed | None:
    """Load the latest state into model and optimizer; None where there is none.

    Raises `ConfigError` when it was made under another configuration or on another base, and when a file of
    it is missing or not the one that was written.
    """
    if not (root / LATEST).is_file():
        return None
    path = root / (root / LATEST).read_text()
    try:
        state = json.loads((path / STATE).read_text())
    except (OSError, ValueError) as error:
        raise ConfigError(
            "the checkpoint cannot be read", where=str(path / STATE), expected="JSON", found=error
        ) from error
    for key, value in _fits(model, config).items():
        if state[key] != value:
            raise ConfigError(
                f"the checkpoint belongs to another {key.split('_')[0]}",
                where=str(path / STATE),
                expected=f"{key} {value}",
                found=state[key],
            )
    for name, digest in state["files"].items():
        found = file_sha256(path / name) if (path / name).is_file() else "nothing"
        if found != digest:
            raise ConfigError(
                "the checkpoint is damaged", where=str(path / name), expected=f"SHA-256 {digest}", found=found
            )
    load_adapter(model, path)
    optimizer.load_state_dict(torch.load(path / "optimizer.pt", weights_only=True))
    _tidy(root)
    note = ""
    if config.deterministic:
        now = {"torch": torch.__version__, "threads": torch.get_num_threads()}
        changed = [f"{key} {state[key]} -> {value}" for key, value in now.items() if state[key] != value]
        note = f"the run may end with other bits: {', '.join(changed)}" if changed else ""
    return Resumed(step=state["step"], rollouts=state["rollouts"], note=note)


def _tidy(root: Path) -> None:
    """Remove what a run that was killed had half written, or not yet removed."""
    kept = {(root / LATEST).read_text(), (root / "best").resolve().name}
    for pattern in ("step-*", "best-*", ".step-*.tmp", ".best.*", f".{LATEST}.tmp"):
        for path in root.glob(pattern):
            if path.is_dir() and not path.is_symlink() and path.name not in kept:
                shutil.rmtree(path)
            elif path.name not in kept:
                path.unlink()


def _fits(model: Any, config: Config) -> dict[str, str]:
    """What must be the same when a run goes on."""
    return {"configuration_digest": config.digest, "base_digest": base_digest(model)}


_TAKEN: WeakKeyDictionary[Any, str] = WeakKeyDictionary()


def take_base_digest(model: Any) -> None:
    """Fix `base_digest` of a model whose base is about to be taken apart."""
    _TAKEN[model] = base_digest(model)


def base_digest(model: Any) -> str:
    """SHA-256 (hex) of the names, shapes and types of the frozen weights, and of a sample of each."""
    if model in _TAKEN:
        return _TAKEN[model]
    sha = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        if not parameter.requires_grad:
            sha.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}".encode())
            sample = parameter.detach().flatten()[:: max(1, parameter.numel() // 4096)]
            sha.update(sample.float().cpu().numpy().tobytes())
    return sha.hexdigest()


def file_sha256(path: Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_best(root: Path, model: Any, step: int, score: float) -> bool:
    """Keep the adapter after `step` steps as `best` if no earlier one scored as much; whether it was kept.

    `best` is a link, so it is a whole adapter at any moment; `score.json` in it says step and score. What was
    kept at this step or later is of a run that was killed since, and does not count.
    """
    link = root / "best"
    if (link / SCORE).is_file():
        best = json.loads((link / SCORE).read_text())
        if best["step"] < step and best["score"] >= score:
            return False
    root.mkdir(parents=True, exist_ok=True)
    final, aside = root / f"best-{step:05d}", root / ".best.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(str(aside))
    (aside / SCORE).write_text(json.dumps({"step": step, "score": score}))
    for path in (*aside.iterdir(), aside):
        sync(path)
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    pointer = root / ".best.link"
    pointer.unlink(missing_ok=True)
    pointer.symlink_to(final.name)
    pointer.rename(link)
    sync(root)
    for old in root.glob("best-*"):
        if old.name != final.name:
            shutil.rmtree(old)
    return True


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
