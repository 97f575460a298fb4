"""Verdicts of SWE-bench's own harness, the package `swebench`, in a process and a directory of its own.

Verdicts are kept by content: what an instance is, the patch, the time limit and the package's version.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gym_code.errors import ConfigError, SandboxError
from gym_code.types import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.evaluation.corpus import Instance

LOGS = "logs/run_evaluation"
LISTS = """
from docker.models.containers import ContainerCollection

listed = ContainerCollection.list
ContainerCollection.list = lambda *given, **named: listed(*given, **{**named, "ignore_removed": True})
"""
"""Put before what runs the harness, which lists all containers in the end: unless it is told otherwise,
Docker's package fails where one of them is just being removed."""
_HARNESS = f"""{LISTS}
import runpy

runpy.run_module("swebench.harness.run_evaluation", run_name="__main__")
"""
THE_PATCHS = (">>>>> Patch Apply Failed", "Test timed out after")
"""Why a grading has no report, where that is the patch's doing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Official:
    """What SWE-bench's harness says of a prediction."""

    state: str
    """resolved, unresolved, empty (not run) or error (no report: does not apply, or time was up)."""
    status: Mapping[str, Mapping[str, Sequence[str]]] | None = None
    """`tests_status` of its report, where it has one."""
    log: str = ""
    """The end of what the tests printed."""

    @property
    def resolved(self) -> bool:
        """Its verdict."""
        return self.state == "resolved"


def version() -> str:
    """The package's version. Raises `ConfigError` where it is not installed."""
    try:
        return importlib.metadata.version("swebench")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError("swebench is missing; run: pip install 'gym-code[swebench]'") from None


def verdicts(
    folder: Path,
    pairs: Sequence[tuple[Instance, Mapping[str, Any]]],
    variants: Sequence[str],
    timeout: int,
    workers: int,
) -> dict[tuple[str, str], Official]:
    """Its verdict by (instance id, variant), for the (instance, row) of each. timeout: seconds for the tests.

    folder: where verdicts are kept (an image's name says what it is made from). What is missing is graded
    in one run, in which a prediction has an instance of its own: the harness takes one for each.
    """
    kept = folder / "official"
    kept.mkdir(parents=True, exist_ok=True)
    files, rows, patches = dict[tuple[str, str], Path](), list[dict[str, Any]](), dict[str, str]()
    for instance, row in pairs:
        for variant in variants:
            file = kept / f"{_key(instance, row, variant, timeout)}.json"
            files[instance.id, variant] = file
            if not file.is_file():
                rows.append({**row, "instance_id": f"{instance.id}.{variant}"})
                patches[f"{instance.id}.{variant}"] = instance.predictions[variant]
    found = run(rows, patches, timeout, workers) if rows else {}
    for (name, variant), file in files.items():
        if f"{name}.{variant}" in found:
            part = file.with_suffix(".part")
            part.write_text(json.dumps(asdict(found[f"{name}.{variant}"]), indent=1))
            part.replace(file)
    if missing := [case for case, file in files.items() if not file.is_file()]:
        raise SandboxError(f"swebench's harness broke on {len(missing)} cases: {missing[:5]}")
    return {case: Official(**json.loads(file.read_text())) for case, file in files.items()}


def run(
    rows: Sequence[Mapping[str, Any]], patches: Mapping[str, str], timeout: int, workers: int
) -> dict[str, Official]:
    """Have the harness grade a patch for each row; what it prints goes to standard error.

    What it broke on for another reason than the patch has no verdict.
    """
    with tempfile.TemporaryDirectory(prefix="gym-code-official-") as name:
        folder = Path(name)
        write_lines(folder / "rows.jsonl", rows)
        write_lines(folder / "predictions.jsonl", predictions(patches, "parity"))
        run_id = f"parity-{os.getpid()}"
        call = command("rows.jsonl", "predictions.jsonl", run_id, timeout, workers)
        subprocess.run(call, cwd=folder, check=True, stdout=sys.stderr)
        logs = folder / LOGS / run_id / "parity"
        read = {row["instance_id"]: _read(logs / row["instance_id"], patches) for row in rows}
        return {name: verdict for name, verdict in read.items() if verdict is not None}


def command(dataset: str, predictions: str, run_id: str, timeout: int, workers: int) -> list[str]:
    """The harness as a command; it writes below its working directory."""
    words = ["--dataset_name", dataset, "--predictions_path", predictions, "--run_id", run_id]
    words += ["--max_workers", str(workers), "--timeout", str(timeout)]
    return [sys.executable, "-c", _HARNESS, *words]


def predictions(patches: Mapping[str, str], model: str) -> list[dict[str, str]]:
    """The rows of a predictions file."""
    return [
        {"instance_id": name, "model_name_or_path": model, "model_patch": patch}
        for name, patch in patches.items()
    ]


def write_lines(file: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write JSON lines."""
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _read(logs: Path, patches: Mapping[str, str]) -> Official | None:
    if not patches[logs.name]:
        return Official(state="empty")
    texts = [logs / name for name in ("run_instance.log", "test_output.txt")]
    log = "".join(file.read_text(errors="replace")[-4000:] for file in texts if file.is_file())
    if (logs / "report.json").is_file():
        report = json.loads((logs / "report.json").read_text())[logs.name]
        state = "resolved" if report["resolved"] else "unresolved"
        return Official(state=state, status=report.get("tests_status"), log=log)
    if any(reason in log for reason in THE_PATCHS):
        return Official(state="error", log=log)
    sys.stderr.write(log)
    return None


def _key(instance: Instance, row: Mapping[str, Any], variant: str, timeout: int) -> str:
    return canonical_digest([version(), timeout, dict(row), instance.predictions[variant]])[:24]
