"""Who is timed: our update in three layouts and TRL's GRPOTrainer, each with a model of its own.

All start from the same base and adapter and learn from the same segments in the same optimizer steps.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch

from benchmarks.trl_trainer import grpo_trainer
from gym_code.types import Segment
from train.config import Config
from train.logprob import pad
from train.model import load_base, with_adapter
from train.update import update

Batches = Sequence[Sequence[Segment]]
"""The segments of each optimizer step."""

LAYOUTS: dict[str, dict[str, Any]] = {
    "gym-code, packed, shared prefix": {"pack_length": 256, "shared_prefix": True},
    "gym-code, packed": {"pack_length": 256, "shared_prefix": False},
    "gym-code, a padded row each": {"pack_length": 0, "shared_prefix": False},
}
"""The first is that of `MODEL=tiny`."""
TRL = "TRL GRPOTrainer"


class Contestant(Protocol):
    """Learns from batches, one optimizer step each."""

    name: str

    def learn(self) -> list[float]:
        """Forward, loss, backward and optimizer for every batch; the losses. This is what is timed."""

    def restore(self) -> None:
        """Go back to the adapter and optimizer of the beginning."""


class _Trained:
    """A model with its optimizer, and the state it began in."""

    def __init__(self, config: Config) -> None:
        torch.manual_seed(config.seed)
        base, _ = load_base(config.model, torch.float32, config.device)
        self.model = with_adapter(base, config.lora_rank, config.lora_alpha)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.trained, lr=config.learning_rate, betas=(0.9, 0.99), weight_decay=0.0
        )
        self._began = [p.detach().clone() for p in self.trained]
        self._optimizer_began = copy.deepcopy(self.optimizer.state_dict())

    def restore(self) -> None:
        """Go back to the beginning."""
        with torch.no_grad():
            for parameter, began in zip(self.trained, self._began, strict=True):
                parameter.copy_(began)
        self.optimizer.load_state_dict(copy.deepcopy(self._optimizer_began))


class Ours(_Trained):
    """`train.update.update` as the trainer calls it; laying out the rows is part of it."""

    def __init__(self, name: str, config: Config, batches: Batches) -> None:
        self.name = name
        self._batches = batches
        self._config = dataclasses.replace(config, minibatches=1, warmup_steps=0, **LAYOUTS[name])
        super().__init__(self._config)

    def learn(self) -> list[float]:
        """One update a batch."""
        return [update(self.model, self.optimizer, batch, self._config, 0)["loss"] for batch in self._batches]


class Theirs(_Trained):
    """TRL's `compute_loss`, accelerate's backward and clipping; its padded batches are made beforehand."""

    name = TRL

    def __init__(self, config: Config, batches: Batches, directory: Path) -> None:
        super().__init__(config)
        self._trainer = trainer_of(self.model, config, len(batches[0]), directory)
        self._inputs = [inputs_of(batch) for batch in batches]
        self._max_norm = config.max_grad_norm

    def learn(self) -> list[float]:
        """What TRL's training step does after generation, for each batch."""
        losses = []
        self.model.train()
        for inputs in self._inputs:
            self.optimizer.zero_grad(set_to_none=True)
            loss = self._trainer.compute_loss(self.model, inputs)
            self._trainer.accelerator.backward(loss)
            self._trainer.accelerator.clip_grad_norm_(self.trained, self._max_norm)
            self.optimizer.step()
            losses.append(float(loss.detach()))
        return losses


def trainer_of(model: Any, config: Config, batch: int, directory: Path) -> Any:
    """A GRPOTrainer with our objective, for its loss alone."""
    trainer = grpo_trainer(
        model,
        config,
        directory,
        ["none"] * batch,
        {"per_device_train_batch_size": batch, "num_generations": batch},
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
    )
    trainer.current_gradient_accumulation_steps = 1
    return trainer


def inputs_of(segments: Sequence[Segment]) -> dict[str, torch.Tensor]:
    """TRL's form: prompts padded on the left, completions on the right, what tools said masked.

    The old logprobs are those at sampling time, as in ours, which spares TRL the forward it would take.
    """
    starts = [s.action_mask_T.index(1) for s in segments]
    prompts = [s.token_ids_T[:n] for s, n in zip(segments, starts, strict=True)]
    said = [s.token_ids_T[n:] for s, n in zip(segments, starts, strict=True)]
    widest = max(map(len, prompts))
    sampled = pad([s.action_mask_T[n:] for s, n in zip(segments, starts, strict=True)], torch.long)
    return {
        "prompt_ids": torch.tensor([[0] * (widest - len(p)) + list(p) for p in prompts]),
        "prompt_mask": torch.tensor([[0] * (widest - len(p)) + [1] * len(p) for p in prompts]),
        "completion_ids": pad(said, torch.long),
        "completion_mask": pad([[1] * len(c) for c in said], torch.long),
        "tool_mask": sampled,
        "old_per_token_logps": pad(
            [s.logprobs_T[n:] for s, n in zip(segments, starts, strict=True)], torch.float32
        ),
        "advantages": torch.tensor([max(s.advantages_T, key=abs) for s in segments]),
        "num_items_in_batch": sampled.sum(),
    }
