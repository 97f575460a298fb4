"""From finished runs to what is said of them: gains with intervals over seeds, required outcomes, tables.

Shapes: S seeds, T held-out tasks. A gain is pass@1 after training minus that of the base, in fractions of 1.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.learning.plan import DEFAULT, OBJECTIVES, SHUFFLED, TRL_KINDS
from benchmarks.learning.run import RESULT
from gym_code.errors import InputError
from gym_code.stats import mean

KINDS = (DEFAULT, *OBJECTIVES, SHUFFLED, *TRL_KINDS)
"""In the order of the tables."""
TITLES = {
    DEFAULT: f"{DEFAULT} (default)",
    SHUFFLED: f"{DEFAULT}, shuffled advantages",
    TRL_KINDS[0]: f"TRL GRPOTrainer, {DEFAULT}",
    TRL_KINDS[1]: "TRL GRPOTrainer, dapo (its default loss)",
}
NEAR_ZERO = 0.05
"""Within this the control's interval must lie."""
T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
)  # fmt: skip
"""0.975 quantiles of Student's t with 1, 2, ... degrees of freedom."""

Rewards = Mapping[str, Sequence[float | None]]
"""Rewards of a held-out evaluation by task; None is ungraded."""


def load(out: Path) -> tuple[dict[str, Any], Rewards, list[dict[str, Any]]]:
    """The set-up, the base's held-out rewards and the finished runs of a directory."""
    setup = json.loads((out / "setup.json").read_text())
    base = json.loads((out / "base" / RESULT).read_text())["held_out"]["0"]
    runs = [json.loads(path.read_text()) for path in sorted(out.glob(f"*-seed*/{RESULT}"))]
    return setup, base, runs


def summarize(setup: Mapping[str, Any], base: Rewards, runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Everything that is reported, as `results.json` holds it."""
    tasks = graded(base, *(rewards for run in runs for rewards in run["held_out"].values()))
    before_T = pass1(base, tasks)
    kinds = {}
    for kind in KINDS:
        of_kind = sorted((run for run in runs if run["kind"] == kind), key=lambda run: run["seed"])
        if of_kind:
            kinds[kind] = summarize_kind(before_T, of_kind, tasks)
    return {
        **setup,
        "heldout_tasks": len(tasks),
        "samples_a_task": len(next(iter(base.values()))),
        "rollouts_a_step": runs[0]["rows"][0]["rollouts"],
        "ungraded": sum(
            reward is None
            for rewards in (base, *(r for run in runs for r in run["held_out"].values()))
            for of_task in rewards.values()
            for reward in of_task
        ),
        "before": float(before_T.mean()),
        "kinds": kinds,
        "beside_trl": [
            row for theirs in TRL_KINDS for row in compare(runs, DEFAULT, theirs, tasks, setup["evaluate"])
        ],
        "required": required(kinds),
    }


def graded(*evaluations: Rewards) -> list[str]:
    """The tasks that have at least one graded sample in every evaluation."""
    return [
        task
        for task in evaluations[0]
        if all(any(reward is not None for reward in rewards[task]) for rewards in evaluations)
    ]


def pass1(rewards: Rewards, tasks: Sequence[str]) -> np.ndarray:
    """pass@1 of each task (T,)."""
    return np.array([mean([r for r in rewards[task] if r is not None]) for task in tasks])


def summarize_kind(
    before_T: np.ndarray, runs: Sequence[Mapping[str, Any]], tasks: Sequence[str]
) -> dict[str, Any]:
    """One kind over its seeds: training rewards, and gains after so many steps."""
    gains = {}
    for step in runs[0]["held_out"]:
        gains_ST = np.stack([pass1(run["held_out"][step], tasks) - before_T for run in runs])
        by_seed = gains_ST.mean(axis=1)
        gains[step] = {
            "pass1": float(before_T.mean() + by_seed.mean()),
            "gain": float(by_seed.mean()),
            "by_seed": by_seed.tolist(),
            "t_interval_95": t_interval(by_seed.tolist()) if len(runs) > 1 else None,
            "bootstrap_95": crossed_bootstrap(gains_ST),
        }
    return {
        "seeds": [run["seed"] for run in runs],
        "training_reward": [[row["reward"] for row in run["rows"]] for run in runs],
        "held_out": gains,
        "seconds": [run["seconds"] for run in runs],
    }


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """A 95 % interval of the mean of independent values, here one a seed (Student 1908).

    Raises `InputError` for fewer than two values and for more than the table holds.
    """
    if not 2 <= len(values) <= len(T_975) + 1:
        raise InputError("no interval", expected=f"2 to {len(T_975) + 1} values", found=len(values))
    half = T_975[len(values) - 2] * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return mean(values) - half, mean(values) + half


def crossed_bootstrap(gains_ST: np.ndarray, *, seed: int = 0, draws: int = 5_000) -> tuple[float, float]:
    """A 95 % percentile interval of the mean, resampling seeds and tasks.

    All seeds meet the same tasks, so one draw of tasks serves all seeds of a draw. With one seed the
    interval says nothing of other seeds; with few it is too narrow, for a handful of values hardly varies.
    """
    rng = np.random.default_rng(seed)
    seeds, tasks = gains_ST.shape
    means = [
        gains_ST[np.ix_(rng.integers(0, seeds, seeds), rng.integers(0, tasks, tasks))].mean()
        for _ in range(draws)
    ]
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)


def compare(
    runs: Sequence[Mapping[str, Any]], ours: str, theirs: str, tasks: Sequence[str], steps: Sequence[int]
) -> list[dict[str, Any]]:
    """Our pass@1 minus theirs after the same rollouts, over the seeds that both have run."""
    by_name = {(run["kind"], run["seed"]): run for run in runs}
    seeds = [seed for kind, seed in by_name if kind == theirs and (ours, seed) in by_name]
    rows = []
    for step in steps if seeds else ():
        ours_ST, theirs_ST = (
            np.stack([pass1(by_name[kind, seed]["held_out"][str(step)], tasks) for seed in seeds])
            for kind in (ours, theirs)
        )
        rows.append(
            {
                "theirs": theirs,
                "seeds": seeds,
                "steps": step,
                "pass1_ours": float(ours_ST.mean()),
                "pass1_theirs": float(theirs_ST.mean()),
                "difference": float((ours_ST - theirs_ST).mean()),
                "bootstrap_95": crossed_bootstrap(ours_ST - theirs_ST),
            }
        )
    return rows


def required(kinds: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What must come out, judged by the t interval over at least five seeds; `met` is None without them."""
    rows = []
    for kind, text in (
        (DEFAULT, "the interval of the mean held-out gain lies above 0"),
        (SHUFFLED, f"with shuffled advantages it lies within {100 * NEAR_ZERO:.0f} points of 0"),
    ):
        row: dict[str, Any] = {"text": text, "met": None}
        if kind in kinds and len(kinds[kind]["seeds"]) >= 5:
            last = list(kinds[kind]["held_out"].values())[-1]
            low, high = last["t_interval_95"]
            met = low > 0 if kind == DEFAULT else max(-low, high) <= NEAR_ZERO
            row |= {"met": met, "gain": last["gain"], "t_interval_95": (low, high)}
        rows.append(row)
    return rows


def markdown(results: Mapping[str, Any]) -> str:
    """The tables for people."""
    steps, rollouts = results["evaluate"], results["rollouts_a_step"]
    lines = [
        "| held-out pass@1 | seeds | base | "
        + " | ".join(f"{step * rollouts} rollouts" for step in steps)
        + " | gain, points | t interval over seeds, 95 % | bootstrap over seeds and tasks, 95 % |",
        "|---" * (len(steps) + 6) + "|",
    ]
    for kind, row in results["kinds"].items():
        last = row["held_out"][str(steps[-1])]
        cells = [TITLES.get(kind, kind), str(len(row["seeds"])), f"{results['before']:.3f}"]
        cells += [f"{row['held_out'][str(step)]['pass1']:.3f}" for step in steps]
        cells += [points(last["gain"]), interval(last["t_interval_95"]), interval(last["bootstrap_95"])]
        lines.append("| " + " | ".join(cells) + " |")
    if results["beside_trl"]:
        lines += [
            "",
            f"| {DEFAULT} minus TRL, same seeds | seeds | rollouts | ours | TRL | points | bootstrap, 95 % |",
            "|---" * 7 + "|",
        ]
    for row in results["beside_trl"]:
        cells = [TITLES[row["theirs"]], str(len(row["seeds"])), str(row["steps"] * rollouts)]
        cells += [f"{row['pass1_ours']:.3f}", f"{row['pass1_theirs']:.3f}", points(row["difference"])]
        lines.append("| " + " | ".join([*cells, interval(row["bootstrap_95"])]) + " |")
    lines += [
        "",
        f"- {results['heldout_tasks']} held-out tasks, {results['samples_a_task']} samples each; "
        f"{results['ungraded']} ungraded samples; code at `{results['commit']}`",
    ]
    return "\n".join([*lines, *map(verdict, results["required"])]) + "\n"


def points(gain: float) -> str:
    """A gain in points, with its sign."""
    return f"{100 * gain:+.1f}"


def interval(ends: Sequence[float] | None) -> str:
    """An interval in points; nothing where there is none."""
    return "" if ends is None else f"[{points(ends[0])}, {points(ends[1])}]"


def verdict(row: Mapping[str, Any]) -> str:
    """PASS, FALLS SHORT or NOT MEASURED, and of what."""
    if row["met"] is None:
        return f"- NOT MEASURED (five seeds are needed): {row['text']}"
    word = "PASS" if row["met"] else "FALLS SHORT"
    return f"- {word}: {row['text']}: {points(row['gain'])} {interval(row['t_interval_95'])}"
