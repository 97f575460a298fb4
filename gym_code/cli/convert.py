"""`gym-code tasks import` and `export`: data sets and suites, each made from the other."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gym_code.cli.terminal import Json, aside, people, print_json
from gym_code.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gym_code.interop import ImportReport

FORMATS = ("swebench-jsonl",)


def import_tasks(
    dataset: Annotated[
        str,
        typer.Argument(help="A .json, .jsonl or .parquet file, a task repository, or org/name[:split]."),
    ],
    out: Annotated[Path, typer.Option("--out", help="New or empty directory for the suite.")],
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many rows.")] = None,
    as_json: Json = False,
) -> None:
    """Import a SWE-bench data set as a suite; rows keep every field (docs/evaluation.md)."""
    from dataclasses import asdict

    from gym_code.interop import import_rows

    report = import_rows(dataset, out, limit=limit)
    if as_json:
        print_json({"suite": str(out), **asdict(report)})
        return
    for line in _import_lines(report, out):
        people.print(line, markup=False, soft_wrap=True)


def _import_lines(report: ImportReport, out: Path) -> Iterator[str]:
    runners = ", ".join(f"{name} {count}" for name, count in report.runners.items())
    yield f"{report.tasks} tasks in {out} (runners: {runners})"
    if report.images:
        yield f"start trees lie in {report.images} images, read when a task is first used"
    if report.without_script:
        yield f"{report.without_script} rows have no eval_script: SWE-bench's own harness cannot run them"
    if report.missing_sources:
        names = ", ".join(f"repos/{name}" for name in report.missing_sources)
        yield f"rows hold no source trees: copy {names} from the suite they were exported from"


def export_tasks(
    suite: Annotated[
        str, typer.Argument(help="A shipped name, a directory, or procedural:seed=7,count=100.")
    ],
    to: Annotated[str, typer.Option("--to", help=f"Format: {', '.join(FORMATS)}.")] = FORMATS[0],
    out: Annotated[Path | None, typer.Option("--out", help="File; default standard output.")] = None,
) -> None:
    """Export the tasks of a suite, answers included, as rows that SWE-bench 5 reads."""
    from gym_code.interop import export_rows
    from gym_code.task import load_suite

    if to not in FORMATS:
        raise ConfigError("no such format", where="--to", expected=" or ".join(FORMATS), found=to)
    lines = (json.dumps(row) + "\n" for row in export_rows(load_suite(suite)))
    if out is None:
        sys.stdout.writelines(lines)
        return
    count = _write_whole(out, lines)
    aside.print(f"{count} rows in {out}", markup=False, soft_wrap=True)


def _write_whole(path: Path, lines: Iterator[str]) -> int:
    """Write a file whole or not at all; how many lines it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(
        "w", dir=path.parent, prefix=f".{path.name}-", delete=False, encoding="ascii"
    ) as file:
        try:
            count = 0
            for line in lines:
                file.write(line)
                count += 1
            os.fchmod(file.fileno(), 0o644)
        except BaseException:
            Path(file.name).unlink()
            raise
    Path(file.name).replace(path)
    return count
