"""The results as one picture: seeds and control, the objectives, TRL beside ours."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning.plan import DEFAULT, SHUFFLED, TRL_KINDS
from benchmarks.learning.results import TITLES

COLOURS = {
    DEFAULT: "#1f5fa8",
    "grpo": "#2e8b57",
    "dapo": "#e08a30",
    "gspo": "#8e6bbf",
    "cispo": "#b8860b",
    "rloo": "#17a2a2",
    SHUFFLED: "#888888",
    TRL_KINDS[0]: "#c0392b",
    TRL_KINDS[1]: "#e39a93",
}
SMOOTH = 5
"""Training rewards are means of so many steps: each step plays other tasks."""


def draw(path: Path, results: Mapping[str, Any]) -> None:
    """Write a PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 5.2), layout="constrained")
    control, objectives, peer = figure.subplots(1, 3, sharey=True)
    kinds = results["kinds"]
    for kind in (k for k in (DEFAULT, SHUFFLED) if k in kinds):
        held_out(control, results, kind)
    control.set_title("Held-out pass@1: every seed,\nmean with its 95 % t interval over seeds", fontsize=10)
    for number, kind in enumerate(k for k in kinds if k not in (SHUFFLED, *TRL_KINDS)):
        training(objectives, results, kind, [0], shift=number)
    objectives.set_title(
        f"Objectives, seed 0: training reward\n(mean of {SMOOTH} steps); points: held-out", fontsize=10
    )
    for number, kind in enumerate(k for k in (DEFAULT, *TRL_KINDS) if k in kinds):
        training(peer, results, kind, shared_seeds(results, kind), shift=number)
    peer.set_title(
        f"Beside TRL, same seeds: training reward\n(mean of {SMOOTH} steps); points: held-out", fontsize=10
    )
    for axis in (control, objectives, peer):
        axis.set_xlabel("training rollouts")
        axis.grid(alpha=0.25)
        axis.legend(fontsize=8, loc="upper left")
    control.set_ylabel("reward (fraction solved)")
    figure.savefig(path, dpi=120)


def held_out(axis: Any, results: Mapping[str, Any], kind: str) -> None:
    """pass@1 on the held-out tasks against rollouts."""
    row, start = results["kinds"][kind], results["before"]
    rollouts = [0, *(step * results["rollouts_a_step"] for step in results["evaluate"])]
    found = [row["held_out"][str(step)] for step in results["evaluate"]]
    for number in range(len(row["seeds"])):
        values = [start, *(start + at["by_seed"][number] for at in found)]
        axis.plot(rollouts, values, color=COLOURS[kind], linewidth=0.8, alpha=0.45)
    axis.plot(rollouts, [start, *(at["pass1"] for at in found)], color=COLOURS[kind], linewidth=2.2)
    halves = [(at["t_interval_95"][1] - at["gain"]) if at["t_interval_95"] else 0.0 for at in found]
    axis.errorbar(
        rollouts[1:], [at["pass1"] for at in found], yerr=halves, fmt="o", capsize=4, color=COLOURS[kind],
        label=f"{TITLES[kind]}, {len(row['seeds'])} seeds",
    )  # fmt: skip


def training(axis: Any, results: Mapping[str, Any], kind: str, numbers: Sequence[int], *, shift: int) -> None:
    """Smoothed training reward of some runs of a kind, and their held-out pass@1 as points side by side."""
    row, a_step = results["kinds"][kind], results["rollouts_a_step"]
    rewards = np.mean([row["training_reward"][number] for number in numbers], axis=0)
    name = f"{TITLES.get(kind, kind)}, {len(numbers)} seed{'s' if len(numbers) > 1 else ''}"
    middles = a_step * (np.arange(len(rewards) - SMOOTH + 1) + (SMOOTH + 1) / 2)
    axis.plot(middles, smoothed(rewards), color=COLOURS[kind], linewidth=1.5, label=name)
    rollouts = np.array([0, *results["evaluate"]]) * a_step + shift * a_step / 4
    values = [results["before"]]
    for step in results["evaluate"]:
        by_seed = row["held_out"][str(step)]["by_seed"]
        values.append(results["before"] + float(np.mean([by_seed[number] for number in numbers])))
    axis.plot(rollouts, values, "o", color=COLOURS[kind], markersize=5.5, markeredgecolor="white")


def smoothed(rewards: Sequence[float]) -> np.ndarray:
    """Means of `SMOOTH` neighbours; the ends, which have fewer, are left out."""
    return np.convolve(rewards, np.ones(SMOOTH) / SMOOTH, mode="valid")


def shared_seeds(results: Mapping[str, Any], kind: str) -> list[int]:
    """Which runs of a kind have the seeds that TRL was run with too."""
    theirs = [set(results["kinds"][k]["seeds"]) for k in TRL_KINDS if k in results["kinds"]]
    seeds = results["kinds"][kind]["seeds"]
    return [number for number, seed in enumerate(seeds) if not theirs or seed in set.union(*theirs)]
