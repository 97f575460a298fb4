"""`gym-code compare`: two evaluations on the instances they share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from gym_code.cli.terminal import Json, aside, people, print_json
from gym_code.errors import ConfigError

if TYPE_CHECKING:
    from gym_code.evaluate.report.tables import Table as Figures

SIDE_HELP = "A run directory, its report.json, or a run report of SWE-bench (schema 2)."
FORMATS = (".html", ".md", ".json")
MOST_SHOWN = 10
"""Instances listed each way on a terminal; files list all."""


def compare(
    a: Annotated[Path, typer.Argument(help=SIDE_HELP, show_default=False)],
    b: Annotated[Path, typer.Argument(help=SIDE_HELP, show_default=False)],
    out: Annotated[
        Path | None, typer.Option("--out", help=f"Write a file too: {', '.join(FORMATS)}.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of the bootstrap.")] = 0,
    as_json: Json = False,
) -> None:
    """Compare two evaluations: B minus A on the instances both have a verdict for (docs/evaluation.md)."""
    from gym_code.evaluate.compare import compare_sides, read_side
    from gym_code.evaluate.report.comparison import (
        comparison_json,
        comparison_markdown,
        comparison_page,
        comparison_tables,
        finding,
    )
    from gym_code.evaluate.report.text import clean
    from gym_code.files import replace_file

    if out is not None and out.suffix not in FORMATS:
        raise ConfigError(
            "unknown format", where="--out", expected=" or ".join(FORMATS), found=out.suffix or "no suffix"
        )
    summary = compare_sides(read_side(a), read_side(b), seed)
    if out is not None:
        forms = {".html": comparison_page, ".md": comparison_markdown, ".json": comparison_json}
        out.parent.mkdir(parents=True, exist_ok=True)
        replace_file(out, forms[out.suffix](summary).encode("utf-8"))
        aside.print(f"written to {out}", markup=False, soft_wrap=True)
    if as_json:
        print_json(summary)
        return
    people.print(clean(finding(summary)), markup=False)
    for warning in summary["warnings"]:
        people.print(f"note: {clean(warning)}", markup=False)
    for figures in comparison_tables(summary, most=MOST_SHOWN):
        people.print()
        people.print(_table(figures))


def _table(figures: Figures) -> Table:
    from gym_code.evaluate.report.tables import cell_text
    from gym_code.evaluate.report.text import clean

    table = Table(*figures.head, box=None, title=figures.title, title_justify="left", caption_justify="left")
    for row in figures.rows:
        table.add_row(*(Text(clean(cell_text(cell))) for cell in row))
    if figures.note:
        table.caption = Text(figures.note)
    return table
