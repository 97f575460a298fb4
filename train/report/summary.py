"""What a finished run came to: `summary.json`, `curve.png` and `report.html`."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gym_code.stats import mean, mean_interval, paired_gain
from train.checkpoint import write_whole
from train.config import Config
from train.evaluate import TaskScore, load
from train.report.metrics import Row
from train.report.page import page
from train.report.samples import samples_of


def write_report(run: Path, config: Config, rows: Sequence[Row], *, wall_seconds: float) -> dict[str, Any]:
    """Write `summary.json`, `curve.png` and `report.html` of a finished run; the summary."""
    before, after = load(run / "heldout-before.json"), load(run / "heldout-after.json")
    summary = summarize(config, before, after, rows, wall_seconds)
    if config.eval_suites:
        of_suites = load(run / "suites-before.json"), load(run / "suites-after.json")
        summary["suites"] = by_family(*of_suites, config.seed)
    write_whole(run / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    _draw(run / "curve.png", summary, rows)
    write_page(run, config, rows, summary)
    return summary


def write_page(run: Path, config: Config, rows: Sequence[Row], summary: Mapping[str, Any] | None) -> Path:
    """Write `report.html` of what a run has left so far, with the summary if it is finished; the file."""
    text = page(
        config, run.name, rows, evaluations(run, len(rows)), summary, samples_of(run / "trajectories")
    )
    path = run / "report.html"
    write_whole(path, text.encode("utf-8", "replace"))  # a lone surrogate that an agent wrote is no UTF-8
    return path


def evaluations(run: Path, steps: int) -> list[tuple[int, list[TaskScore]]]:
    """The held-out evaluations that a run has left, each with the steps done before it.

    `heldout-before.json`, `heldout-step-N.json` while it goes, `heldout-after.json` after its last step.
    """
    found = {0: run / "heldout-before.json"}
    for path in run.glob("heldout-step-*.json"):
        if match := re.fullmatch(r"heldout-step-(\d+)\.json", path.name):
            found[int(match[1])] = path
    if (run / "heldout-after.json").is_file():
        found[steps] = run / "heldout-after.json"
    return [(done, load(path)) for done, path in sorted(found.items()) if path.is_file()]


def summarize(
    config: Config,
    before: Sequence[TaskScore],
    after: Sequence[TaskScore],
    rows: Sequence[Row],
    wall_seconds: float,
) -> dict[str, Any]:
    """What the run came to: the headline is over trained families; left-out families stand apart."""
    pairs = [(b, a) for b, a in zip(before, after, strict=True) if b.samples and a.samples]
    trained = [(b, a) for b, a in pairs if b.trained]
    summary = {**_compare(trained, config.seed), "heldout_tasks": len(trained)}
    left_out = [(b, a) for b, a in pairs if not b.trained]
    summary["left_out"] = (
        {**_compare(left_out, config.seed), "heldout_tasks": len(left_out)} if left_out else None
    )
    summary["families"] = by_family(before, after, config.seed)
    summary["ungraded"] = sum(s.ungraded for s in (*before, *after))
    summary["rollouts"] = sum(row["rollouts"] for row in rows)
    summary["wall_seconds"] = round(wall_seconds, 1)
    summary["seed"], summary["control"], summary["model"] = config.seed, config.control, config.model
    return summary


def by_family(before: Sequence[TaskScore], after: Sequence[TaskScore], seed: int) -> dict[str, Any]:
    """The same figures for each family; tasks without a graded sample in both are left out."""
    pairs = [(b, a) for b, a in zip(before, after, strict=True) if b.samples and a.samples]
    return {
        family: {
            "trained": next(b.trained for b, _ in pairs if b.family == family),
            **_compare([(b, a) for b, a in pairs if b.family == family], seed),
        }
        for family in dict.fromkeys(b.family for b, _ in pairs)
    }


def _compare(pairs: Sequence[tuple[TaskScore, TaskScore]], seed: int) -> dict[str, Any]:
    old, new = [b.pass1 for b, _ in pairs], [a.pass1 for _, a in pairs]
    greedy = [(b.greedy, a.greedy) for b, a in pairs if b.greedy is not None and a.greedy is not None]
    gain, interval = paired_gain(old, new, seed=seed)
    return {
        "heldout_pass1_before": mean(old),
        "heldout_pass1_after": mean(new),
        "heldout_greedy_before": mean([b for b, _ in greedy]),
        "heldout_greedy_after": mean([a for _, a in greedy]),
        "pass1_before_ci95": mean_interval(old, seed=seed),
        "pass1_after_ci95": mean_interval(new, seed=seed),
        "gain": gain,
        "gain_ci95": interval,
    }


def _draw(path: Path, summary: Mapping[str, Any], rows: Sequence[Row]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    curve, bars = figure.subplots(1, 2, width_ratios=(1, 1.25))
    steps = [row["step"] + 1 for row in rows]
    rewards = [row["reward"] for row in rows]
    smooth = [mean(rewards[max(0, i - 4) : i + 1]) for i in range(len(rewards))]
    curve.plot(steps, rewards, color="#9db7d5", linewidth=1, label="training reward, a step")
    curve.plot(steps, smooth, color="#1f5fa8", linewidth=2, label="mean of 5 steps")
    last = steps[-1] if steps else 1
    for x, when in ((0, "before"), (last, "after")):
        value, (low, high) = summary[f"heldout_pass1_{when}"], summary[f"pass1_{when}_ci95"]
        curve.errorbar(
            [x], [value], yerr=[[value - low], [high - value]], fmt="o", color="#c0392b", capsize=4,
            label="held-out pass@1, 95 %" if when == "before" else None,
        )  # fmt: skip
    curve.set(xlabel="GRPO step", ylabel="reward (fraction solved)", ylim=(0, 1.02), title="Learning")
    curve.grid(alpha=0.25)
    curve.legend(loc="lower right", fontsize=8)
    families = summary["families"]
    for number, row in enumerate(families.values()):
        bars.plot(
            [row["heldout_pass1_before"], row["heldout_pass1_after"]], [number] * 2, color="#bbbbbb", zorder=1
        )
        bars.scatter(
            row["heldout_pass1_before"],
            number,
            color="#e0a030",
            zorder=2,
            label="before" if not number else None,
        )
        bars.scatter(
            row["heldout_pass1_after"],
            number,
            color="#2b8a3e",
            zorder=2,
            label="after" if not number else None,
        )
    names = [name if row["trained"] else f"{name} (left out)" for name, row in families.items()]
    bars.set_yticks(range(len(names)), names, fontsize=8)
    bars.invert_yaxis()
    bars.set(xlim=(-0.02, 1.02), xlabel="held-out pass@1", title="By family")
    bars.grid(alpha=0.25, axis="x")
    bars.legend(fontsize=8)
    figure.savefig(path, dpi=120)
