"""One run of ours: train on the tiny model and play the held-out tasks on the way.

    python -m benchmarks.learning.run --kind dr_grpo --seed 0 --steps 20 --evaluate 10 20 --out DIRECTORY

`--steps 0 --evaluate 0` plays the held-out tasks with the base alone.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.learning.plan import SHUFFLED
from gym_code.stats import mean
from gym_code.types import Trajectory, canonical_digest
from train.checkpoint import write_whole
from train.config import Config, load_config
from train.engine.base import Sampling
from train.evaluate import EVAL_SEED, procedural_tasks
from train.groups import Group
from train.grpo import Learner, learn_from
from train.rollout import Order

RESULT = "result.json"
"""What a finished run leaves; a run without it is begun again."""


def main() -> None:
    """Train, evaluate, write `result.json`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # boxes and directories are given back
    options = parser().parse_args()
    config = configured(options.kind, options.seed, options.steps)
    began = time.perf_counter()
    rows: list[dict[str, Any]] = []
    held_out: dict[int, dict[str, list[float | None]]] = {}
    with Learner(config, threads=1) as learner:
        for step in range(options.steps + 1):
            if step in options.evaluate:
                learner.engine.set_version(step)
                held_out[step] = play_held_out(config, learner)
            if step == options.steps:
                break
            rows.append(train_step(config, learner, step))
            say(f"{options.kind} seed {options.seed}: step {step + 1}, reward {rows[-1]['reward']:.3f}")
    save(options.out, options.kind, options.seed, rows, held_out, time.perf_counter() - began)


def parser() -> argparse.ArgumentParser:
    """The command line, of TRL's runs too."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("--kind", required=True, help="an objective of ours, or `shuffled`")
    made.add_argument("--seed", type=int, required=True)
    made.add_argument("--steps", type=int, required=True)
    made.add_argument("--evaluate", type=int, nargs="+", required=True, help="after how many steps")
    made.add_argument("--out", type=Path, required=True)
    return made


def configured(kind: str, seed: int, steps: int) -> Config:
    """The tiny configuration with this objective or control. Raises `ConfigError` for an unknown kind."""
    of_kind = {"control": kind} if kind == SHUFFLED else {"objective": kind}
    return load_config("tiny", {"seed": seed, "steps": steps, "device": "cpu", **of_kind})


def train_step(config: Config, learner: Learner, step: int) -> dict[str, Any]:
    """Play, learn; the row of the step."""
    groups = play_step(learner, step)
    segments, _ = learn_from(groups, config, step)
    learner.update(segments, config, step)
    return row_of(step, groups)


def play_step(learner: Learner, step: int) -> tuple[Group, ...]:
    """The groups of a step, played by the policy as it stands."""
    learner.engine.set_version(step)
    return learner.rollouts.take(step).groups


def row_of(step: int, groups: Sequence[Group]) -> dict[str, Any]:
    """What is kept of a step: the mean reward of its graded rollouts (fraction of 1) and their number."""
    rewards = [reward for group in groups for reward in group.rewards]
    graded = [reward for reward in rewards if reward is not None]
    return {"step": step, "reward": mean(graded), "rollouts": len(rewards)}


def play_held_out(config: Config, learner: Learner) -> dict[str, list[float | None]]:
    """The rewards of `eval_samples` samples of every held-out task; None is ungraded."""
    orders = held_out_orders(config)
    played: list[Trajectory] = []
    for start in range(0, len(orders), config.seats):
        played += learner.rollouts.play(orders[start : start + config.seats])
    rewards: dict[str, list[float | None]] = {}
    for trajectory in played:
        value = None if trajectory.reward is None else trajectory.reward.value
        rewards.setdefault(trajectory.task_id, []).append(value)
    return rewards


def held_out_orders(config: Config) -> list[Order]:
    """The episodes of an evaluation: the same tasks and the same draws in every run, whoever trained it."""
    return [
        Order(
            suite=task.suite,
            task_id=task.task_id,
            group_id=task.task_id,
            sample_id=f"{task.task_id}/{sample}",
            seed=int(canonical_digest([EVAL_SEED, task.task_id, sample])[:15], 16),
            sampling=Sampling(temperature=config.temperature, max_tokens=config.max_tokens),
        )
        for sample in range(config.eval_samples)
        for task in procedural_tasks(config)
        if task.trained
    ]


def save(
    out: Path,
    kind: str,
    seed: int,
    rows: Sequence[dict[str, Any]],
    held_out: dict[int, dict[str, list[float | None]]],
    seconds: float,
) -> None:
    """Write the result whole: rows by step, held-out rewards by task and by the steps done before."""
    result = {
        "kind": kind,
        "seed": seed,
        "rows": rows,
        "held_out": {str(step): rewards for step, rewards in held_out.items()},
        "seconds": round(seconds, 1),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / RESULT, json.dumps(result).encode())


def say(text: str) -> None:
    """Progress, into the run's log."""
    print(text, flush=True)


if __name__ == "__main__":
    main()
