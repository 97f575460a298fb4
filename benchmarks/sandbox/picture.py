"""The results as one picture: a point for the median, a whisker up to p99, on a logarithmic axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.sandbox.results import (
    CLI,
    CONTESTANTS,
    DOCKER,
    DOCKER_COLD,
    MINI_BWRAP,
    MINI_DOCKER,
    NAMESPACE,
)
from benchmarks.sandbox.results import OPERATIONS as TITLES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COLOURS = {
    NAMESPACE: "#1f5fa8",
    DOCKER: "#2e8b57",
    DOCKER_COLD: "#8fc7a5",
    CLI: "#c0392b",
    MINI_DOCKER: "#e08a30",
    MINI_BWRAP: "#8e6bbf",
}
ROW = 0.14
"""Between two contestants of one operation, in units of the operations' distance."""


def draw(path: Path, results: Mapping[str, Any]) -> None:
    """Write a PNG."""
    from matplotlib.figure import Figure

    measured = results["operations"]
    shown = [operation for operation in TITLES if any(operation in rows for rows in measured.values())]
    figure = Figure(figsize=(10.5, 0.62 * len(shown) + 1.9), layout="constrained")
    axis = figure.subplots()
    for name in (name for name in CONTESTANTS if name in measured):
        rows = measured[name]
        here = [operation for operation in shown if operation in rows]
        medians = [rows[operation]["median_ms"] for operation in here]
        above = [max(rows[operation]["p99_ms"] - rows[operation]["median_ms"], 0.0) for operation in here]
        heights = [shown.index(operation) + _offset(measured, operation, name) for operation in here]
        axis.errorbar(
            medians, heights, xerr=[[0.0] * len(here), above], fmt="o", markersize=5, capsize=2.5,
            linewidth=1.2, color=COLOURS[name], label=name,
        )  # fmt: skip
    for number in range(0, len(shown), 2):
        axis.axhspan(number - 0.5, number + 0.5, color="#f3f3f3", zorder=0)
    axis.set_xscale("log")
    axis.set_yticks(range(len(shown)), [TITLES[operation].replace("`", "") for operation in shown])
    axis.set_ylim(len(shown) - 0.5, -0.5)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_xlabel("milliseconds (logarithmic): point = median, whisker = p99")
    machine = results["machine"]
    axis.set_title(
        f"One task, {results['rounds']} interleaved rounds, {machine['cores']} cores, one run", fontsize=11
    )
    axis.grid(axis="x", which="both", alpha=0.2)
    figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
    figure.savefig(path, dpi=130)


def _offset(measured: Mapping[str, Any], operation: str, name: str) -> float:
    """Contestants of an operation stand around its line."""
    there = [other for other in CONTESTANTS if operation in measured.get(other, {})]
    return (there.index(name) - (len(there) - 1) / 2) * ROW
