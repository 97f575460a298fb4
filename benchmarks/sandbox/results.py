"""From samples to what is said of them: medians, p99, ratios with intervals, the two required outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gym_code.cli.bench import quantile
from gym_code.errors import InputError

OPERATIONS: Mapping[str, str] = {
    "reset": "reset: a box with the repository, ready",
    "exec": "step: `true`",
    "shell": "step: `true` in a shell",
    "python": "step: `python3 -c 1` in a shell",
    "write": "write a file",
    "diff": "patch of one changed file",
    "digest": "state digest of the same",
    "snapshot": "snapshot",
    "restore": "restore a snapshot",
    "fork": "fork of a changed box",
    "once": "fresh box, `true`, gone",
    "grade": "grade the solution",
    "episode": "episode: scripted agent, graded",
}
"""What is measured, in the order in which a round does it."""
COMPARED = ("reset", "exec", "shell", "python", "once", "grade", "episode")
"""Between these the page holds the tables."""
Samples = Mapping[str, Mapping[str, Sequence[float]]]
"""Seconds by contestant and operation."""

NAMESPACE, DOCKER, DOCKER_COLD = "gym-code namespace", "gym-code docker", "gym-code docker, no pool"
CLI, MINI_DOCKER, MINI_BWRAP = "docker run / exec", "mini-swe-agent docker", "mini-swe-agent bubblewrap"
CONTESTANTS = (NAMESPACE, DOCKER, DOCKER_COLD, CLI, MINI_DOCKER, MINI_BWRAP)

PAIRS = (
    (NAMESPACE, CLI), (NAMESPACE, MINI_BWRAP), (DOCKER, CLI), (DOCKER, MINI_DOCKER), (DOCKER_COLD, CLI),
)  # fmt: skip
"""Ours, and whom it is compared with."""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What must come out: how many times faster the one is than the other."""

    text: str
    ours: str
    peer: str
    operation: str
    least: float


REQUIREMENTS = (
    Requirement("a step in docker is at least 10 times faster than `docker exec`", DOCKER, CLI, "exec", 10.0),
    Requirement(
        "a reset in namespace is at least 10 times faster than the start of a container",
        NAMESPACE, CLI, "reset", 10.0,
    ),
)  # fmt: skip


def summarize(samples: Samples) -> dict[str, Any]:
    """Medians and p99 (milliseconds), ratios of medians with 95 % intervals, and the required outcomes."""
    return {
        "operations": {
            name: {operation: _row(seconds) for operation, seconds in by_operation.items()}
            for name, by_operation in samples.items()
        },
        "ratios": [
            {"ours": ours, "peer": peer, "operation": operation, **_ratio(samples, ours, peer, operation)}
            for ours, peer in PAIRS
            for operation in OPERATIONS
            if operation in samples.get(ours, {}) and operation in samples.get(peer, {})
        ],
        "required": [_outcome(samples, requirement) for requirement in REQUIREMENTS],
    }


def ratio_of_medians(
    slow: Sequence[float], fast: Sequence[float], *, seed: int = 0, draws: int = 5_000
) -> tuple[float, tuple[float, float]]:
    """median(slow) / median(fast), and its 95 % percentile bootstrap interval (both resampled).

    Raises `InputError` where one of them is empty.
    """
    if not slow or not fast:
        raise InputError("no samples", expected="at least one of each", found=f"{len(slow)} and {len(fast)}")
    rng = np.random.default_rng(seed)
    above, below = (_medians(np.asarray(values), rng, draws) for values in (slow, fast))
    low, high = np.quantile(above / below, (0.025, 0.975))
    return float(np.median(slow) / np.median(fast)), (float(low), float(high))


def _medians(values: np.ndarray, rng: np.random.Generator, draws: int) -> np.ndarray:
    picked = rng.integers(0, values.size, size=(draws, values.size))
    medians: np.ndarray = np.median(values[picked], axis=1)
    return medians


def _row(seconds: Sequence[float]) -> dict[str, Any]:
    return {
        "samples": len(seconds),
        "median_ms": round(float(np.median(seconds)) * 1e3, 3),
        "p99_ms": round(quantile(seconds, 0.99) * 1e3, 3),
    }


def _ratio(samples: Samples, ours: str, peer: str, operation: str) -> dict[str, Any]:
    ratio, (low, high) = ratio_of_medians(samples[peer][operation], samples[ours][operation])
    return {"times_faster": round(ratio, 2), "interval_95": [round(low, 2), round(high, 2)]}


def _outcome(samples: Samples, wanted: Requirement) -> dict[str, Any]:
    """Whether the whole interval lies above what is required; None where nothing was measured."""
    row: dict[str, Any] = {"text": wanted.text, "least": wanted.least, "met": None}
    if all(wanted.operation in samples.get(name, {}) for name in (wanted.ours, wanted.peer)):
        row |= _ratio(samples, wanted.ours, wanted.peer, wanted.operation)
        row["met"] = row["interval_95"][0] >= wanted.least
    return row


def markdown(results: Mapping[str, Any]) -> str:
    """The tables for people: medians with p99, ratios, many boxes."""
    measured = results["operations"]
    names = [name for name in CONTESTANTS if name in measured]
    lines = ["| milliseconds: median (p99) | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for operation, title in OPERATIONS.items():
        cells = [_cell(measured[name].get(operation)) for name in names]
        if any(cells):
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    lines += ["", "| times faster, medians [95 %] | " + " | ".join(COMPARED) + " |"]
    lines.append("|---" * (len(COMPARED) + 1) + "|")
    found = {(row["ours"], row["peer"], row["operation"]): row for row in results["ratios"]}
    for ours, peer in PAIRS:
        rows = [found.get((ours, peer, operation)) for operation in COMPARED]
        if any(rows):
            lines.append(f"| {ours} against {peer} | " + " | ".join(map(_times, rows)) + " |")
    lines.append("")
    for row in results["throughput"]:
        lines.append(
            f"- {row['name']}: {row['boxes']} boxes opened and closed by {row['threads']} threads: "
            f"{row['boxes_per_second']:.1f} a second"
        )
    for row in results["alive"]:
        lines.append(
            f"- {row['name']}: {row['boxes']} boxes alive at once, opened in {row['open_seconds']:.1f} s, "
            f"closed in {row['close_seconds']:.1f} s; memory each: {row['processes_mib_per_box']:.1f} MiB "
            f"in its processes, {row['machine_mib_per_box']:.1f} MiB of the machine"
        )
    lines.append(f"- samples: {_counts(measured[names[0]])}")
    machine = results["machine"]
    lines.append(f"- load average when it began: {machine['load_at_start']} on {machine['cores']} cores")
    return "\n".join([*lines, *map(verdict, results["required"])]) + "\n"


def verdict(row: Mapping[str, Any]) -> str:
    """PASS, FALLS SHORT or NOT MEASURED, and of what."""
    if row["met"] is None:
        return f"- NOT MEASURED: {row['text']}"
    low, high = row["interval_95"]
    word = "PASS" if row["met"] else "FALLS SHORT"
    return f"- {word}: {row['text']}: {row['times_faster']:.1f} times [{low:.1f}, {high:.1f}]"


def _counts(rows: Mapping[str, Any]) -> str:
    """How often each operation was timed: `200 exec; 50 reset, diff`."""
    by_count: dict[int, list[str]] = {}
    for operation, row in rows.items():
        by_count.setdefault(row["samples"], []).append(operation)
    return "; ".join(f"{count} {', '.join(names)}" for count, names in sorted(by_count.items(), reverse=True))


def _cell(row: Mapping[str, Any] | None) -> str:
    return f"{_short(row['median_ms'])} ({_short(row['p99_ms'])})" if row else ""


def _times(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return ""
    low, high = row["interval_95"]
    return f"{_short(row['times_faster'])} [{_short(low)}, {_short(high)}]"


def _short(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
