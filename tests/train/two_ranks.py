"""What test_distributed.py has torchrun start: plays every case and saves what came out.

`play` is also what a process alone does with a case, for comparison.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from tests.train.small_model import batch, sharp_policy
from train.checkpoint import load_checkpoint, save_checkpoint
from train.config import Config, load_config
from train.distributed import Ranks, adapter_of, joined
from train.engine.delivery import make_probe, perturbed, probe_logprobs
from train.model import checkpoint_activations
from train.update import update

PLAIN = {
    "pack_length": 0,
    "shared_prefix": False,
    "minibatches": 2,
    "learning_rate": 0.05,
    "max_grad_norm": 1e9,
}
CASES: dict[str, dict[str, Any]] = {
    "padded": {},
    "packed, in several forwards, checkpointed": {
        "pack_length": 64,
        "shared_prefix": True,
        "forward_tokens": 60,
        "gradient_checkpointing": True,
    },
    "by sequences, against the base": {
        "objective": "gspo",
        "kl_coef": 0.1,
        "forward_tokens": 40,
        "learning_rate": 0.002,
    },
    "by tokens, with the norm clipped": {"objective": "dapo", "max_grad_norm": 0.1},
    "fewer segments than ranks": {"segments": 1, "minibatches": 1},
    "Adam, resumed from a checkpoint": {"adam": True, "learning_rate": 1e-4},
}


def play(ranks: Ranks, sharding: str, case: dict[str, Any]) -> dict[str, Any]:
    """Two updates of a fresh policy: the adapter after each, their metrics, and the probe after both.

    A rank other than 0 begins with another adapter, which rank 0's must replace. Between the updates several
    ranks lose adapter and optimizer, and resume from a checkpoint.
    """
    options = PLAIN | {key: value for key, value in case.items() if key not in ("segments", "adam")}
    config = load_config("tiny", options)
    model = sharp_policy()
    if config.gradient_checkpointing:
        checkpoint_activations(model)
    segments = batch(model, case.get("segments", 11))
    trained = [p for p in model.parameters() if p.requires_grad]
    probe = make_probe(model, 64)
    kind = torch.optim.AdamW if case.get("adam") else torch.optim.SGD
    optimizer = kind(trained, lr=1.0)
    with torch.no_grad():
        for parameter in trained:
            parameter.mul_(1 + ranks.rank)
    ranks.hold(model, optimizer, sharding)
    adapters: list[dict[str, torch.Tensor]] = []
    if ranks.rank:
        ranks.follow()
        return {"adapters": [copied(model)]}
    ranks.spread()
    rows = []
    with perturbed(model, probe):
        before = probe_logprobs(model, probe)
    for step in (3, 4):
        if step == 4 and ranks.size > 1:
            resume(ranks, model, optimizer, config)
        rows.append(ranks.run(update, segments, config, step))
        adapters.append(copied(model))
    after = probe_logprobs(model, probe)
    ranks.leave()
    return {"adapters": adapters, "rows": rows, "probes": (before, after)}


def resume(ranks: Ranks, model: Any, optimizer: torch.optim.Optimizer, config: Config) -> None:
    """Save, lose everything on every rank, load on rank 0, and go on."""
    with tempfile.TemporaryDirectory() as directory:
        save_checkpoint(Path(directory), model, optimizer, 1, config, {})
        ranks.run(lose)
        assert load_checkpoint(Path(directory), model, optimizer, config) is not None
    ranks.spread()


def lose(model: Any, optimizer: torch.optim.Optimizer, *, ranks: Ranks) -> None:
    optimizer.state.clear()
    with torch.no_grad():
        for parameter in adapter_of(model).values():
            parameter.fill_(1 + ranks.rank)


def copied(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in adapter_of(model).items()}


def main(directory: Path) -> None:
    with joined("ddp") as ranks:
        made = {
            f"{sharding}: {name}": play(ranks, sharding, case)
            for sharding in ("ddp", "fsdp")
            for name, case in CASES.items()
        }
        torch.save(made, directory / f"rank-{ranks.rank}.pt")
        if ranks.rank:
            ranks.follow()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
