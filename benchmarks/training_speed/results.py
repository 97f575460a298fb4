"""From seconds to what is said of them: tokens a second, ratios round by round, the required outcome."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gym_code.errors import InputError

Seconds = Mapping[int, Mapping[str, Sequence[float]]]
"""By torch threads and contestant, one value a round."""

LEAST = 1.5
"""How many times TRL's trained tokens per second ours must reach."""


def summarize(seconds: Seconds, tokens: int, ours: str, peer: str) -> dict[str, Any]:
    """Median tokens a second, ratios to the peer with intervals, and the required outcome for `ours`.

    tokens: of all segments of a round, prompts and tool results included; the same for all contestants.
    """
    rows = [
        {
            "threads": threads,
            "name": name,
            "rounds": len(values),
            "median_seconds": round(float(np.median(values)), 4),
            "tokens_per_second": round(tokens / float(np.median(values)), 1),
            **({} if name == peer else _faster(by_name[peer], values)),
        }
        for threads, by_name in seconds.items()
        for name, values in by_name.items()
    ]
    of_ours = [row for row in rows if row["name"] == ours]
    return {"rows": rows, "required": [_outcome(row) for row in of_ours]}


def median_ratio(
    slow: Sequence[float], fast: Sequence[float], *, seed: int = 0, draws: int = 5_000
) -> tuple[float, tuple[float, float]]:
    """The median over rounds of slow / fast, and its 95 % percentile bootstrap interval over rounds.

    The two of a round were timed one after the other, so a load that comes and goes hits both. Raises
    `InputError` where they are not as many, or none.
    """
    if len(slow) != len(fast) or not slow:
        raise InputError("not paired", expected="two of one length > 0", found=f"{len(slow)} and {len(fast)}")
    ratios = np.asarray(slow) / np.asarray(fast)
    picked = np.random.default_rng(seed).integers(0, ratios.size, size=(draws, ratios.size))
    low, high = np.quantile(np.median(ratios[picked], axis=1), (0.025, 0.975))
    return float(np.median(ratios)), (float(low), float(high))


def _faster(peer: Sequence[float], values: Sequence[float]) -> dict[str, Any]:
    ratio, (low, high) = median_ratio(peer, values)
    return {"times_faster": round(ratio, 2), "interval_95": [round(low, 2), round(high, 2)]}


def _outcome(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "text": f"{row['threads']} thread{'s' if row['threads'] > 1 else ''}: {row['name']} trains at least "
        f"{LEAST} times as many tokens a second as TRL",
        "met": row["interval_95"][0] >= LEAST,
        "times_faster": row["times_faster"],
        "interval_95": row["interval_95"],
    }


def markdown(results: Mapping[str, Any]) -> str:
    """The table for people."""
    lines = [
        "| training in fp32 on a CPU | threads | seconds a batch | tokens a second | times TRL [95 %] |",
        "|---" * 5 + "|",
    ]
    for row in results["rows"]:
        cells = [row["name"], str(row["threads"]), f"{row['median_seconds']:.2f}"]
        cells.append(f"{row['tokens_per_second']:,.0f}")
        if "times_faster" in row:
            low, high = row["interval_95"]
            cells.append(f"{row['times_faster']:.2f} [{low:.2f}, {high:.2f}]")
        else:
            cells.append("1")
        lines.append("| " + " | ".join(cells) + " |")
    data, machine = results["data"], results["machine"]
    lines += [
        "",
        f"- {results['rounds']} interleaved rounds, medians; a batch is {data['optimizer_steps']} optimizer "
        f"steps on {data['segments']} segments of {data['groups']} groups with {data['tokens']:,} tokens "
        f"({data['sampled']:,} sampled; longest segment {data['longest']})",
        f"- largest difference of a loss from TRL's: {results['loss_gap']:.1e} at a loss of "
        f"{results['largest_loss']:.3f}",
        f"- torch {machine['torch']}, TRL {machine['trl']}; load average when it began: "
        f"{machine['load_at_start']} on {machine['cores']} cores",
    ]
    return "\n".join([*lines, *map(verdict, results["required"])]) + "\n"


def verdict(row: Mapping[str, Any]) -> str:
    """PASS or FALLS SHORT, and of what."""
    low, high = row["interval_95"]
    word = "PASS" if row["met"] else "FALLS SHORT"
    return f"- {word}: {row['text']}: {row['times_faster']:.2f} times [{low:.2f}, {high:.2f}]"
