"""Whole GRPO runs: steps by their parts, and a larger policy before and after it has learned.

Both are `train.grpo.train`, as `make train` calls it, with real boxes and the real grader; what is said of
them is read from what a run leaves.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from rich.console import Console

from gym_code.errors import GymCodeError
from train.config import load_config
from train.grpo import train
from train.model import tiny_config
from train.report.metrics import read_rows
from train.tiny_base import Recipe, build

WARM_UP = 1
"""Steps of a run that are not counted: the first one starts boxes and kernels."""
PILOT = 3
"""Steps of the run that is made to see how long one takes."""
UNEVALUATED: Mapping[str, Any] = {"eval_tasks": 1, "eval_held_out_tasks": 0, "eval_samples": 1}
"""A run compares at least one task before and after."""
PARTS = ("rollout", "train", "sync")
"""What a step consists of, one after the other."""
WORK = ("open", "generate", "tools", "grade")
"""What is done in rollouts, much of it side by side."""
SAID = (
    "heldout_tasks", "heldout_pass1_before", "heldout_pass1_after", "gain", "gain_ci95",
    "heldout_greedy_before", "heldout_greedy_after", "left_out", "ungraded", "rollouts",
)  # fmt: skip
"""What is taken from a run's summary."""

RECIPE = Recipe(demonstrations=60_000, steps=4000, batch=192, other_lr=2e-3)
"""More data, larger batches and, for the wider embedding, a lower rate than the tiny base's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Larger:
    """The larger policy: a Qwen2 built in place as the tiny base is, wider and deeper, with more data."""

    hidden: int = 512
    layers: int = 8
    recipe: Recipe = RECIPE
    sft_minutes: float = 4.0
    grpo_minutes: float = 11.0
    """Of the steps; the two evaluations come on top."""
    overrides: Mapping[str, Any]
    """Of the tiny run's configuration."""

    def config(self, vocabulary: int) -> Any:
        """Its configuration, from the tiny model's."""
        config = tiny_config(vocabulary)
        config.hidden_size, config.intermediate_size = self.hidden, 3 * self.hidden
        config.num_hidden_layers, config.num_attention_heads = self.layers, self.hidden // 64
        config.num_key_value_heads = config.num_attention_heads // 2
        config.layer_types = ["full_attention"] * self.layers
        return config


def steps_of(
    model: Path | str, engines: Sequence[str], steps: int, overrides: Mapping[str, Any], work: Path
) -> list[dict[str, Any]]:
    """For each engine the medians of `steps` GRPO steps, by part, or the reason why it could not run."""
    rows: list[dict[str, Any]] = []
    for engine in engines:
        options = {**overrides, **UNEVALUATED, "engine": engine}
        try:
            rows.append(
                {"engine": engine, **by_part(_run(f"step-{engine}", work, model, WARM_UP + steps, options))}
            )
        except GymCodeError as error:
            rows.append({"engine": engine, "reason": str(error)})
    return rows


def by_part(run: Path) -> dict[str, Any]:
    """What the log of a run comes to: medians over its steps, the first ones left out."""
    metrics = _metrics(run)[WARM_UP:]
    seconds = [row["seconds"] for row in metrics]
    tokens = median(row["sampled_tokens"] for row in metrics)
    return {
        "steps": len(metrics),
        "episodes": median(row["rollouts"] for row in metrics),
        "ungraded": sum(row["invalid"] for row in metrics),
        "sampled_tokens": tokens,
        "step_seconds": round(median(map(step_seconds, seconds)), 3),
        "seconds": {part: round(median(row[part] for row in seconds), 3) for part in (*PARTS, *WORK)},
    }


def step_seconds(parts: Mapping[str, float]) -> float:
    """How long a step took: what its rollouts did is in them already."""
    return sum(parts[part] for part in PARTS)


def learn(plan: Larger, device: torch.device, work: Path, say: Callable[[str], None]) -> dict[str, Any]:
    """Build the larger base in `work`/base, train it for the time it has, and compare before and after."""
    began = time.perf_counter()
    base = work / "base"
    say("learn: demonstrations, tokenizer, SFT")
    build(plan.recipe, base, config_of=plan.config, device=device, seconds=60 * plan.sft_minutes)
    built = time.perf_counter()
    pilot = _run("pilot", work, base, PILOT, {**plan.overrides, **UNEVALUATED})
    a_step = min(step_seconds(row["seconds"]) for row in _metrics(pilot))
    steps = max(1, int(60 * plan.grpo_minutes / a_step))
    say(f"learn: {steps} steps of GRPO, {a_step:.1f} s each")
    run = _run("learn", work, base, steps, plan.overrides)
    summary = json.loads((run / "summary.json").read_text())
    return {
        "parameters": json.loads((base / "recipe.json").read_text())["parameters"],
        "sft_steps": 1 + json.loads((base / "training.jsonl").read_text().splitlines()[-1])["step"],
        "base_seconds": round(built - began, 1),
        "grpo_steps": steps,
        "rewards": [round(row["reward"], 4) for row in _metrics(run)],
        "total_seconds": round(time.perf_counter() - began, 1),
        **{key: summary[key] for key in SAID},
    }


def _run(name: str, work: Path, model: Path | str, steps: int, overrides: Mapping[str, Any]) -> Path:
    """A run of the tiny model's configuration on `model`; the directory it leaves."""
    config = load_config("tiny", {"model": str(model), "steps": steps, **overrides})
    run = work / name
    run.mkdir()
    train(config, run, resume=False, console=Console(stderr=True))
    return run


def _metrics(run: Path) -> list[dict[str, Any]]:
    return read_rows(run / "metrics.jsonl")
