"""From laps and steps to what is said of them: ratios round by round, overheads, the required outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.rollouts.serving import Lap
from benchmarks.rollouts.waiting import Steps
from benchmarks.training_speed.results import median_ratio

LEAST = 0.95
"""The share of a raw client's tokens a second that our rollouts must reach."""
MOST = 1.25
"""How many times the naps of its slowest episode a step may take: boxes open and grade within it, too."""


def of_laps(ours: Sequence[Lap], raw: Sequence[Lap]) -> dict[str, Any]:
    """Tokens a second of both, round by round, and the median of the ratios with its 95 % interval."""
    rates = {"ours": [lap.rate for lap in ours], "raw": [lap.rate for lap in raw]}
    ratio, (low, high) = median_ratio(rates["ours"], rates["raw"])
    return {
        "rounds": len(ours),
        "tokens_a_lap": round(sum(lap.tokens for lap in (*ours, *raw)) / (2 * len(ours))),
        "requests_a_lap": round(sum(lap.requests for lap in (*ours, *raw)) / (2 * len(ours))),
        "between": {
            name: round(float(np.median([lap.between for lap in laps])), 4)
            for name, laps in (("ours", ours), ("raw", raw))
        },
        "tokens_per_second": {name: [round(r, 1) for r in values] for name, values in rates.items()},
        "ratio": round(ratio, 3),
        "interval_95": [round(low, 3), round(high, 3)],
        "required": LEAST,
        "verdict": "PASS" if low >= LEAST else "FALLS SHORT" if high < LEAST else "UNDECIDED",
    }


def of_steps(mode: str, steps: Steps, *, episodes: int) -> dict[str, Any]:
    """A row of the table of steps whose tools wait; seconds a step."""
    count = len(steps.slowest)
    slowest = sum(steps.slowest) / count
    return {
        "mode": mode,
        "steps": count,
        "episodes": episodes,
        "seconds": round(steps.wall / count, 2),
        "update": round(steps.update / count, 2),
        "slowest": round(slowest, 2),
        "all_naps": round(steps.naps / count, 1),
        "times_slowest": round((steps.wall - steps.update) / count / slowest, 3),
    }


def required_of_steps(row: Mapping[str, Any]) -> dict[str, Any]:
    """Whether a step took about as long as its slowest episode."""
    return {"most": MOST, "times_slowest": row["times_slowest"], "met": row["times_slowest"] <= MOST}


def markdown(results: Mapping[str, Any]) -> str:
    """The tables for people, of the parts that have been measured."""
    parts = {"learned": _learned, "serving": _serving, "waiting": _waiting}
    said = [write(results[name]) for name, write in parts.items() if name in results]
    return "\n\n".join("\n".join(lines) for lines in said) + "\n"


def _serving(part: Mapping[str, Any]) -> list[str]:
    rates = {name: sorted(values) for name, values in part["tokens_per_second"].items()}
    low, high = part["interval_95"]
    middle = part["rounds"] // 2
    return [
        "| one vLLM server, tools instant | tokens a second: median (slowest to fastest round) "
        "| time between an answer and the next request |",
        "|---|---|---|",
        *(
            f"| {title} | {rates[name][middle]:,.0f} ({rates[name][0]:,.0f} to {rates[name][-1]:,.0f}) | "
            f"{part['between'][name]:.1%} |"
            for name, title in (("ours", "gym-code, whole rollouts"), ("raw", "raw client"))
        ),
        "",
        f"- {part['verdict']}: at least {part['required']} of a raw client's tokens a second: "
        f"{part['ratio']:.3f} [{low:.3f}, {high:.3f}], median of the ratios of {part['rounds']} rounds",
        f"- a round: {part['conversations']} conversations at a time, {part['episodes']} in all, "
        f"{part['requests_a_lap']} requests, {part['tokens_a_lap']:,} tokens; load average when it began: "
        f"{part['load_at_start']} on {part['cores']} cores",
    ]


def _waiting(part: Mapping[str, Any]) -> list[str]:
    lines = [
        "| seconds, tools wait | a step | its update | naps of its slowest episode | naps of all episodes |",
        "|---" * 5 + "|",
    ]
    for row in part["rows"]:
        lines.append(
            f"| {row['mode']} | {row['seconds']:.1f} | {row['update']:.1f} | {row['slowest']:.1f} | "
            f"{row['all_naps']:.0f} |"
        )
    needed, first = part["required"], part["rows"][0]
    return [
        *lines,
        "",
        f"- {_word(needed['met'])}: as completed, a step takes without its update at most {needed['most']} "
        f"times what its slowest episode sleeps: {needed['times_slowest']:.2f} times",
        f"- {first['steps']} steps of {first['episodes']} episodes each; a command sleeps "
        f"{part['nap']:.0f} s with probability {part['share']}; load average when it began: "
        f"{part['load_at_start']} on {part['cores']} cores",
    ]


def _learned(part: Mapping[str, Any]) -> list[str]:
    (low, high), proofs = part["gain_ci95"], part["proofs"]
    return [
        f"- held-out pass@1 {part['before']:.3f} -> {part['after']:.3f}: gain {part['gain']:+.3f} "
        f"[{low:+.3f}, {high:+.3f}]; greedy {part['greedy_before']:.3f} -> {part['greedy_after']:.3f}; "
        f"{part['tasks']} tasks, {part['steps']} steps of {part['episodes'] // part['steps']} episodes",
        f"- versions delivered: {part['delivered'][0]} to {part['delivered'][-1]}, one a step; proven "
        f"against their predecessor: {proofs['proven']} of {part['steps']}; from the trainer's new version "
        f"{proofs['new_largest']:.1e} nats at most, from its last one {proofs['last_smallest']:.1e} at "
        f"least, from the base {proofs['base_smallest']:.1e}",
        f"- tokens sampled by the policy of the step itself {part['fresh']:.0%}, the others by the one "
        f"before; at the first step, which its own policy played, served and trained logprobs differ by "
        f"{part['mismatch']:.1e} nats at most",
        f"- episodes ungraded {part['invalid']}, completions dropped {part['dropped']}, requests sent again "
        f"{part['retried']}",
    ]


def _word(met: bool) -> str:
    return "PASS" if met else "FALLS SHORT"
