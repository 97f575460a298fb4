"""The results as one picture: gradings a minute by contestant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

COLOURS = ("#1f5fa8", "#c0392b", "#e0a39b")


def draw(path: Path, results: Mapping[str, Any]) -> None:
    """Write a PNG: bars are medians, whiskers go from the slowest to the fastest round."""
    from matplotlib.figure import Figure

    rows = results["rows"]
    figure = Figure(figsize=(9, 2.6), layout="constrained")
    axis = figure.subplots()
    for height, (row, colour) in enumerate(zip(rows, COLOURS, strict=True)):
        low, high = min(row["rates"]), max(row["rates"])
        axis.barh(height, row["median"], color=colour)
        span = [[row["median"] - low], [high - row["median"]]]
        axis.errorbar(row["median"], height, xerr=span, color="#333333", capsize=3)
    axis.set_yticks(range(len(rows)), [row["name"] for row in rows], fontsize=9)
    axis.invert_yaxis()
    axis.set_xlabel("gradings a minute, 4 workers: median, whiskers from the slowest to the fastest round")
    axis.grid(axis="x", alpha=0.25)
    figure.savefig(path, dpi=120)
