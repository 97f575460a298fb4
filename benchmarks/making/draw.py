"""The funnels of `benchmarks/making/*.json` as one table and one drawing.

gym-code tasks make real:toolz --out DIR --json > benchmarks/making/toolz.json
python -m benchmarks.making.draw        # prints the Markdown table, writes funnels.svg
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gym_code.synth.packages import real_packages

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

HERE = Path(__file__).resolve().parent
COLOURS = {
    "functions": "#9aa5b1",
    "covered": "#7b8794",
    "non-trivial": "#52606d",
    "selected": "#2f80c2",
    "accepted": "#2f9e6e",
}
SHOWN = tuple(COLOURS)
"""All stages but `tried`, which is `selected` where no limit was set."""
WIDTH, BAR, GAP, NAME = 400, 16, 4, 120
"""Pixels: of a whole bar, its height, the space between bars, the column of names."""


def reports() -> list[dict[str, Any]]:
    """The recorded runs, in the order of the list of packages."""
    order = {f"pypi:{package.name}=={package.version}": n for n, package in enumerate(real_packages())}
    files = sorted(HERE.glob("*.json"))
    found = [report for path in files for report in json.loads(path.read_text())["packages"]]
    return sorted(found, key=lambda report: order[report["source"]])


def table(found: Sequence[dict[str, Any]]) -> Iterable[str]:
    """Lines of a Markdown table, one row a package."""
    listed = {f"pypi:{p.name}=={p.version}": p for p in real_packages()}
    yield "| package | layout, tests, runner | " + " | ".join(SHOWN) + " | suite, s | s a task | s in all |"
    yield "|---|---|" + "---|" * (len(SHOWN) + 3)
    for report in found:
        package = listed[report["source"]]
        counts = {stage["stage"]: stage["count"] for stage in report["funnel"]}
        cells = {name: str(counts[name]) for name in SHOWN}
        cells["selected"] += f" ({report['selected_of_nontrivial']:.0%})"
        cells["accepted"] += f" ({report['accepted_of_tried']:.0%})"
        kind = f"{package.layout}, {package.tests}, {package.runner}"
        numbers = (report["suite_seconds"], report["seconds_a_task"], report["seconds"])
        yield (
            f"| {package.name} {package.version} | {kind} | "
            + " | ".join([*cells.values(), *map(str, numbers)])
            + " |"
        )


def drawing(found: Sequence[dict[str, Any]]) -> str:
    """An SVG: for each package a bar a stage, and beside it why functions did not reach the stage."""
    parts: list[str] = []
    top = 10
    for report in found:
        parts.append(_text(0, top + 20, report["source"].removeprefix("pypi:"), "font-weight='bold'"))
        top += 28
        for stage in report["funnel"]:
            if stage["stage"] in SHOWN:
                parts += _bar(stage, report["funnel"][0]["count"], top)
                top += BAR + GAP
    size = f"width='{NAME + WIDTH + 750}' height='{top + 10}' font-family='sans-serif' font-size='12'"
    background = "<rect width='100%' height='100%' fill='white'/>"
    lines = [f"<svg xmlns='http://www.w3.org/2000/svg' {size}>", background, *parts, "</svg>"]
    return "\n".join(lines) + "\n"


def _bar(stage: dict[str, Any], whole: int, top: int) -> Iterable[str]:
    """One stage: its name, its bar, its count, its losses."""
    width = WIDTH * stage["count"] / whole
    colour = COLOURS[stage["stage"]]
    yield f"<rect x='{NAME}' y='{top}' width='{width:.1f}' height='{BAR}' fill='{colour}' rx='2'/>"
    yield _text(0, top + 12, stage["stage"])
    yield _text(NAME + width + 6, top + 12, str(stage["count"]))
    lost = sorted(stage["lost"].items(), key=lambda item: -item[1])
    if lost:
        why = ", ".join(f"{count} {reason}" for reason, count in lost)
        yield _text(NAME + WIDTH + 50, top + 12, f"lost: {why}", "fill='#52606d' font-size='11'")


def _text(x: float, y: float, text: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y}' {more}>{escape(text)}</text>"


def main() -> None:
    """Print the table, write the drawing."""
    found = reports()
    print("\n".join(table(found)))
    (HERE / "funnels.svg").write_text(drawing(found), encoding="utf-8")


if __name__ == "__main__":
    main()
