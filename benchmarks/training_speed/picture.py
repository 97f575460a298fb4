"""The results as one picture: tokens a second by contestant and number of threads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

COLOURS = ("#1f5fa8", "#6a9bd1", "#b3cbe6", "#c0392b")


def draw(path: Path, results: Mapping[str, Any]) -> None:
    """Write a PNG: bars are medians, whiskers the middle half of the rounds."""
    from matplotlib.figure import Figure

    rows, tokens = results["rows"], results["data"]["tokens"]
    counts = list(dict.fromkeys(row["threads"] for row in rows))
    figure = Figure(figsize=(9, 1.2 + 1.5 * len(counts)), layout="constrained")
    axis = figure.subplots()
    heights, names = [], []
    for number, row in enumerate(rows):
        group = counts.index(row["threads"])
        height = number + 0.6 * group
        colour = COLOURS[number % len(COLOURS)]
        rates = tokens / np.asarray(results["seconds"][row["threads"]][row["name"]])
        low, middle, high = np.quantile(rates, (0.25, 0.5, 0.75))
        axis.barh(height, middle, color=colour)
        axis.errorbar(middle, height, xerr=[[middle - low], [high - middle]], color="#333333", capsize=3)
        if "times_faster" in row:
            axis.text(high, height, f"  {row['times_faster']:.2f} times TRL", va="center", fontsize=8)
        heights.append(height)
        names.append(f"{row['name']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}")
    axis.set_yticks(heights, names, fontsize=8)
    axis.invert_yaxis()
    axis.margins(x=0.2)
    axis.set_xlabel("trained tokens a second: median, whiskers the middle half of the rounds")
    axis.grid(axis="x", alpha=0.25)
    figure.savefig(path, dpi=120)
