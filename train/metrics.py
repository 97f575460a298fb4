"""What a run says of itself: JSON lines while it goes, a summary, a curve and a page at the end."""

from __future__ import annotations

import base64
import dataclasses
import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gym_code.stats import mean, mean_interval, paired_gain
from gym_code.synth.procedural import family_of
from gym_code.types import Stop, Trajectory
from train.checkpoint import write_whole
from train.config import Config
from train.evaluate import TaskScore, load

Row = Mapping[str, Any]


class MetricsLog:
    """One JSON object a step. A torn last line (a crash while writing) is dropped on `cut`."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def cut(self, steps: int) -> None:
        """Keep the rows of the first `steps` steps only: what came later will be played again."""
        rows = [row for row in self.read() if row["step"] < steps]
        write_whole(self._path, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def write(self, row: Row) -> None:
        """Append one row."""
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """All whole rows."""
        if not self._path.is_file():
            return []
        lines = self._path.read_text().splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


def step_metrics(
    step: int,
    trajectories: Sequence[Trajectory],
    advantages: Sequence[float],
    update: Mapping[str, float],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """The row of one step. Rates are fractions of 1; `seconds` are volatile."""
    rewards = [t.reward.value for t in trajectories if t.reward is not None and t.reward.value is not None]
    by_family: dict[str, list[float]] = {}
    for trajectory in trajectories:
        if trajectory.reward is not None and trajectory.reward.value is not None:
            family = family_of(trajectory.task_id)
            by_family.setdefault(family, []).append(trajectory.reward.value)
    tokens = sum(len(turn.completion.token_ids) for t in trajectories for turn in t.turns if turn.completion)
    return {
        "step": step,
        "reward": mean(rewards),
        "reward_by_family": {family: mean(values) for family, values in sorted(by_family.items())},
        "rollouts": len(trajectories),
        "invalid": len(trajectories) - len(rewards),
        "truncated": sum(t.stop is not Stop.SUBMITTED for t in trajectories) / len(trajectories),
        "turns": mean([len(t.turns) for t in trajectories]),
        "sampled_tokens": tokens,
        "with_gradient": sum(a != 0.0 for a in advantages) / len(advantages),
        **update,
        "seconds": {part: round(spent, 3) for part, spent in seconds.items()},
    }


def write_report(run: Path, config: Config, rows: Sequence[Row], *, wall_seconds: float) -> dict[str, Any]:
    """Write `summary.json`, `curve.png` and `report.html` of a finished run; the summary."""
    before, after = load(run / "heldout-before.json"), load(run / "heldout-after.json")
    summary = summarize(config, before, after, rows, wall_seconds)
    write_whole(run / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
    _draw(run / "curve.png", summary, rows)
    write_whole(run / "report.html", _page(config, summary, (run / "curve.png").read_bytes()).encode())
    return summary


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
    summary["families"] = {
        family: {
            "trained": next(b.trained for b, _ in pairs if b.family == family),
            **_compare([(b, a) for b, a in pairs if b.family == family], config.seed),
        }
        for family in dict.fromkeys(b.family for b, _ in pairs)
    }
    summary["ungraded"] = sum(s.ungraded for s in (*before, *after))
    summary["rollouts"] = sum(row["rollouts"] for row in rows)
    summary["wall_seconds"] = round(wall_seconds, 1)
    summary["seed"], summary["control"], summary["model"] = config.seed, config.control, config.model
    return summary


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


def _page(config: Config, summary: Mapping[str, Any], picture: bytes) -> str:
    def row(name: str, of: Mapping[str, Any]) -> str:
        low, high = of["gain_ci95"]
        numbers = [
            f"{of['heldout_pass1_before']:.3f}",
            f"{of['heldout_pass1_after']:.3f}",
            f"{of['gain']:+.3f} [{low:+.3f}, {high:+.3f}]",
            f"{of['heldout_greedy_before']:.3f}",
            f"{of['heldout_greedy_after']:.3f}",
        ]
        return f"<tr><th>{html.escape(name)}</th>" + "".join(f"<td>{n}</td>" for n in numbers) + "</tr>"

    rows = [row("all trained families", summary)]
    if summary["left_out"]:
        rows.append(row("families left out of training", summary["left_out"]))
    rows += [
        row(name if of["trained"] else f"{name} (left out)", of) for name, of in summary["families"].items()
    ]
    settings = "".join(
        f"<tr><th>{html.escape(key)}</th><td>{html.escape(str(value))}</td></tr>"
        for key, value in dataclasses.asdict(config).items()
    )
    image = base64.b64encode(picture).decode()
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>GRPO run: {html.escape(config.model)}, seed {config.seed}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem }}
img {{ max-width: 100% }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ padding: .2rem .8rem; border-bottom: 1px solid #ddd; text-align: right }}
th {{ text-align: left; font-weight: 500 }}
</style></head><body>
<h1>GRPO run: {html.escape(config.model)}</h1>
<p>{summary["heldout_tasks"]} held-out tasks, {summary["rollouts"]} training rollouts,
{summary["wall_seconds"] / 60:.1f} minutes, seed {summary["seed"]}, control: {summary["control"]},
ungraded held-out episodes: {summary["ungraded"]}.</p>
<img alt="Training reward by step and held-out pass@1 by family" src="data:image/png;base64,{image}">
<h2>Held-out tasks</h2>
<p>pass@1 at temperature {config.temperature}, {config.eval_samples} samples a task; gain with its 95 % paired
bootstrap interval over tasks; greedy is one sample at temperature 0.</p>
<table><tr><th></th><th>before</th><th>after</th><th>gain</th><th>greedy before</th><th>greedy after</th></tr>
{"".join(rows)}</table>
<h2>Configuration</h2><table>{settings}</table>
</body></html>
"""
