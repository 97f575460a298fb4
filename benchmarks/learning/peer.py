"""One run of TRL's GRPOTrainer on our tasks: our boxes, grader and engine play, TRL alone learns.

    python -m benchmarks.learning.peer --kind trl-dr_grpo --seed 0 --steps 20 --evaluate 10 20 --out DIRECTORY

The same base, adapter, tasks, sample seeds, rollouts and optimizer steps a batch, AdamW and learning rates as
in our runs. TRL's own: advantages (the mean of the whole group is subtracted), which sequences share an
optimizer step and by what their sum is divided (sequences without an advantage count), a forward for the old
logprobs.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.learning.plan import TRL
from benchmarks.learning.run import configured, parser, play_held_out, play_step, row_of, save, say
from benchmarks.trl_trainer import grpo_trainer
from gym_code.types import Stop, Trajectory
from train.config import Config
from train.grpo import Learner

Tokens = tuple[list[int], list[int], list[float], list[int]]
"""An episode as TRL sees it: prompt ids, completion ids, logprobs of the completion, 1 where sampled."""


class Game:
    """What TRL calls to have a batch of rollouts: plays one of our steps, held-out tasks before some."""

    def __init__(self, config: Config, learner: Learner, evaluate: Sequence[int], name: str) -> None:
        self._config, self._learner, self._evaluate, self._name = config, learner, evaluate, name
        self.rows: list[dict[str, Any]] = []
        self.held_out: dict[int, dict[str, list[float | None]]] = {}

    def rollout(self, prompts: Sequence[str], _: Any) -> dict[str, Any]:
        """Play the step whose groups TRL names. TRL's `rollout_func`."""
        step = len(self.rows)
        self.held_out_before(step)
        groups = play_step(self._learner, step)
        played = [trajectory for group in groups for trajectory in group.trajectories]
        if [trajectory.group_id for trajectory in played] != list(prompts):
            raise RuntimeError(f"TRL asks for other groups than step {step} has: {prompts[0]} first")
        self.rows.append(row_of(step, groups))
        say(f"{self._name}: step {step + 1}, reward {self.rows[-1]['reward']:.3f}")
        prompt_ids, completion_ids, logprobs, sampled = zip(*map(tokens_of, played), strict=True)
        return {
            "prompt_ids": list(prompt_ids),
            "completion_ids": list(completion_ids),
            "logprobs": list(logprobs),
            "env_mask": list(sampled),
            "graded": [reward for group in groups for reward in group.rewards],
        }

    def held_out_before(self, step: int) -> None:
        """Play the held-out tasks if they are wanted after this many steps."""
        if step in self._evaluate:
            self._learner.engine.set_version(step)
            self.held_out[step] = play_held_out(self._config, self._learner)


def tokens_of(trajectory: Trajectory) -> Tokens:
    """An episode in TRL's form: what was shown between the turns belongs to the completion, unsampled.

        turn 1   prompt P P        completion a a
        turn 2   prompt P P a a E  completion a       ->  P P   a a E a   sampled 1 1 0 1

    One that a limit cut off, or without a turn, has no sampled token: nothing is learned from it, as by us.
    """
    if not trajectory.turns:
        return [0], [0], [0.0], [0]
    start = len(trajectory.turns[0].prompt_token_ids)
    ids: list[int] = []
    logprobs: list[float] = []
    sampled: list[int] = []
    for turn in trajectory.turns:
        if turn.completion is None:
            continue
        shown = len(turn.prompt_token_ids) - len(ids)
        ids = [*turn.prompt_token_ids, *turn.completion.token_ids]
        logprobs += [*[0.0] * shown, *turn.completion.logprobs]
        sampled += [*[0] * shown, *[1] * len(turn.completion.token_ids)]
    if trajectory.stop is not Stop.SUBMITTED:
        sampled = [0] * len(sampled)
    return ids[:start], ids[start:], logprobs[start:], sampled[start:]


def main() -> None:
    """Train with TRL, evaluate, write `result.json`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # boxes and directories are given back
    options = parser().parse_args()
    objective = options.kind.removeprefix(TRL)
    config = configured(objective, options.seed, options.steps)
    began = time.perf_counter()
    with Learner(config, threads=1) as learner, tempfile.TemporaryDirectory(prefix="gym-code-") as directory:
        game = Game(config, learner, options.evaluate, f"{options.kind} seed {options.seed}")
        trainer_of(config, learner, game, Path(directory)).train()
        game.held_out_before(options.steps)
    save(options.out, options.kind, options.seed, game.rows, game.held_out, time.perf_counter() - began)


def trainer_of(config: Config, learner: Learner, game: Game, directory: Path) -> Any:
    """TRL's trainer with the steps and rates of ours."""
    batch = config.groups * config.group_size
    return grpo_trainer(
        learner.model,
        config,
        directory,
        [f"{step}/{number}" for step in range(config.steps) for number in range(config.groups)],
        {
            "max_steps": config.steps * config.minibatches,
            "per_device_train_batch_size": batch // config.minibatches,
            "steps_per_generation": config.minibatches,
            "gradient_accumulation_steps": 1,
            "num_generations": config.group_size,
        },
        reward_funcs=rewards,
        rollout_func=game.rollout,
        optimizers=(learner.optimizer, warmup(learner.optimizer, config)),
    )


def warmup(optimizer: torch.optim.Optimizer, config: Config) -> Any:
    """The learning rates of our runs: rising over the first `warmup_steps` batches, then constant."""
    return torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda n: min(1.0, (n // config.minibatches + 1) / max(config.warmup_steps, 1))
    )


def rewards(graded: Sequence[float | None], **_: Any) -> list[float | None]:
    """What the grader said. TRL's reward function; None keeps an ungraded sample out of its group."""
    return list(graded)


if __name__ == "__main__":
    main()
