"""What is said of the figures: tables and a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PUBLISHED: Mapping[tuple[str, int], tuple[float, float | None]] = {
    ("Qwen3-0.6B", 16_384): (13_300.0, None),
    ("Qwen3-4B", 16_384): (6_200.0, None),
    ("Qwen3-4B", 65_536): (4_200.0, 0.37),
}
"""prime-rl's: tokens per second and MFU as it counts, by model and tokens, with LoRA of rank 16 and full
recomputation on one H100."""


def markdown(results: Mapping[str, Any]) -> str:
    """The tables of the parts that were measured."""
    parts = [("speed", _speed), ("learn", _learn), ("step", _step)]
    said = []
    for part, lines in parts:
        if part in results:
            machine = results[part]["machine"]
            said.append("\n".join([*lines(results[part]), "", f"On {_machine(machine)}."]))
    return "\n\n".join(said) + "\n"


def _speed(speed: Mapping[str, Any]) -> list[str]:
    lines = [
        "| model | tokens | layout | tokens/s | MFU | HFU | prime-rl's MFU | peak GiB "
        "| prime-rl: tokens/s | MFU |",
        "|---" * 10 + "|",
    ]
    for row in speed["rows"]:
        published, its_mfu = PUBLISHED.get((row["model"], row["tokens"]), (None, None))
        if row["layout"] != "one":
            published = its_mfu = None
        cells = [row["model"], f"{row['tokens']:,}", row["layout"]]
        if "reason" in row:
            cells += [row["reason"], *[""] * 4]
        else:
            cells += [f"{row['tokens_per_second']:,.0f}"]
            cells += [_share(row.get(key)) for key in ("mfu", "hfu", "mfu_prime_rl")]
            cells += [_number(row.get("peak_allocated_gib"), ".1f")]
        lines.append("| " + " | ".join([*cells, _number(published, ",.0f"), _share(its_mfu)]) + " |")
    return lines


def _step(step: Mapping[str, Any]) -> list[str]:
    parts = list(dict.fromkeys(part for row in step["rows"] for part in row.get("seconds", {})))
    lines = [
        f"| {step['model']}: engine | episodes | tokens sampled | step, s | " + " | ".join(parts) + " |",
        "|---" * (len(parts) + 4) + "|",
    ]
    for row in step["rows"]:
        if "reason" in row:
            cells = [row["engine"], row["reason"], *[""] * (len(parts) + 2)]
        else:
            cells = [row["engine"], f"{row['episodes']:.0f}", f"{row['sampled_tokens']:,.0f}"]
            cells += [f"{row['step_seconds']:.2f}"]
            cells += [_number(row["seconds"].get(part), ".2f") for part in parts]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _learn(learned: Mapping[str, Any]) -> list[str]:
    low, high = learned["gain_ci95"]
    return [
        "| parameters | SFT steps | GRPO steps | minutes in all | held out | pass@1 before | after | gain "
        "| greedy before | after |",
        "|---" * 10 + "|",
        f"| {learned['parameters'] / 1e6:.1f} M | {learned['sft_steps']} | {learned['grpo_steps']} "
        f"| {learned['total_seconds'] / 60:.1f} | {learned['heldout_tasks']} "
        f"| {learned['heldout_pass1_before']:.3f} | {learned['heldout_pass1_after']:.3f} "
        f"| {100 * learned['gain']:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}] "
        f"| {learned['heldout_greedy_before']:.3f} | {learned['heldout_greedy_after']:.3f} |",
    ]


def draw(path: Path, results: Mapping[str, Any]) -> None:
    """Tokens per second beside the published ones and the reward of the run that learned, where measured."""
    from matplotlib.figure import Figure

    rows = [row for row in results.get("speed", {}).get("rows", []) if "tokens_per_second" in row]
    rewards = results.get("learn", {}).get("rewards", [])
    if not rows and not rewards:
        return
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    axes = figure.subplots(1, bool(rows) + bool(rewards), squeeze=False)[0]
    if rows:
        _draw_speed(axes[0], rows)
    if rewards:
        _draw_rewards(axes[-1], results["learn"])
    figure.savefig(path, dpi=120)


def _draw_speed(axis: Any, rows: Sequence[Mapping[str, Any]]) -> None:
    places = range(len(rows))
    axis.barh(places, [row["tokens_per_second"] for row in rows], color="#1f5fa8", label="gym-code")
    theirs = [PUBLISHED.get((row["model"], row["tokens"]), (None, None))[0] for row in rows]
    there = [n for n in places if theirs[n] and rows[n]["layout"] == "one"]
    axis.scatter(
        [theirs[n] for n in there], there, color="#c0392b", zorder=3, label="prime-rl, published, H100"
    )
    axis.set_yticks(places, [f"{row['model']}, {row['tokens'] // 1024}k, {row['layout']}" for row in rows])
    axis.invert_yaxis()
    axis.set(xlabel="trained tokens per second", title="LoRA r16, full recomputation")
    axis.grid(axis="x", alpha=0.25)
    axis.legend(fontsize=8)


def _draw_rewards(axis: Any, learned: Mapping[str, Any]) -> None:
    rewards = learned["rewards"]
    axis.plot(range(1, len(rewards) + 1), rewards, color="#9db7d5", label="training reward, a step")
    axis.scatter(
        [0, len(rewards)],
        [learned["heldout_pass1_before"], learned["heldout_pass1_after"]],
        color="#c0392b",
        zorder=3,
        label="held-out pass@1",
    )
    axis.set(xlabel="GRPO step", ylim=(0, 1.02), title=f"{learned['parameters'] / 1e6:.0f} M parameters")
    axis.grid(alpha=0.25)
    axis.legend(fontsize=8)


def _machine(machine: Mapping[str, Any]) -> str:
    memory = f" ({machine['memory_gib']} GiB)" if "memory_gib" in machine else ""
    return f"{machine['device']}{memory}, {machine['cores']} cores, torch {machine['torch']}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"
