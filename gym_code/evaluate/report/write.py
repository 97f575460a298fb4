"""Reports into the directory of a run: `report.json`, `report.md`, `report.html`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

from gym_code.evaluate.report.markdown import report_markdown
from gym_code.evaluate.report.page import report_page
from gym_code.evaluate.report.summary import summarise
from gym_code.evaluate.results import Evaluation
from gym_code.files import replace_file
from gym_code.types import JSON

LOGS = Path("logs", "run_evaluation")
"""Where SWE-bench keeps the logs of instances: RUN_ID/MODEL/INSTANCE/ below it."""
LOG_FILES = ("report.json", "patch.diff", "test_output.txt", "run_instance.log")


def write_reports(evaluation: Evaluation, directory: Path, seed: int = 0) -> dict[str, JSON]:
    """Write the three files, each whole or not at all; the summary, which `report.json` holds.

    The same evaluation gives the same bytes. `seed` is that of the bootstraps. Raises `OSError` where the
    directory takes no files.
    """
    summary = summarise(evaluation, seed)
    written = {
        "report.json": report_json(summary),
        "report.md": report_markdown(summary),
        "report.html": report_page(summary, _logs(evaluation, directory)),
    }
    for name, text in written.items():
        replace_file(directory / name, text.encode("utf-8"))
    return summary


def report_json(summary: Mapping[str, JSON]) -> str:
    """The summary as JSON, one attempt a line at its end."""
    head = json.dumps({name: value for name, value in summary.items() if name != "results"}, indent=1)
    rows = ",\n  ".join(map(json.dumps, summary["results"]))
    return f'{head[:-2]},\n "results": [\n  {rows}\n ]\n}}\n'


def _logs(evaluation: Evaluation, directory: Path) -> Mapping[tuple[str, int], JSON]:
    """The logs that an attempt has left, as links from the directory: {folder, files}."""
    found: dict[tuple[str, int], JSON] = {}
    for result in evaluation.results:
        run = evaluation.name if result.sample == 0 else f"{evaluation.name}-{result.sample}"
        parts = (*LOGS.parts, run, result.model.replace("/", "__"), result.instance_id)
        if any(part in ("", ".", "..") or "/" in part or "\0" in part for part in parts):
            continue
        try:
            there = {entry.name for entry in directory.joinpath(*parts).iterdir()}
        except OSError:
            continue
        if files := [name for name in LOG_FILES if name in there]:
            folder = "/".join(quote(part, safe="", errors="surrogatepass") for part in parts)
            found[result.instance_id, result.sample] = {"folder": folder, "files": files}
    return found
