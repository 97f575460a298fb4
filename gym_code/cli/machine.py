"""`gym-code bench`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from gym_code.cli.terminal import Json, SandboxName, people, print_json


def bench(
    suite: Annotated[str, typer.Option("--suite", help="Where the task comes from.")] = "starter",
    task: Annotated[str, typer.Option("--task", help="Default: the suite's first.")] = "",
    sandbox: SandboxName = "auto",
    runs: Annotated[int, typer.Option("--runs", min=1, help="Times each operation is timed.")] = 20,
    as_json: Json = False,
) -> None:
    """Time what episodes are made of: reset, exec, write, diff, digest, fork, grade."""
    from gym_code.cli.bench import bench as measure
    from gym_code.sandbox import open_backend
    from gym_code.task import load_suite

    loaded = load_suite(suite)
    task_id = task or loaded.ids()[0]
    backend = open_backend(sandbox)
    try:
        timings = measure(loaded, task_id, backend, runs)
        fingerprint = backend.fingerprint()
    finally:
        backend.close()
    if as_json:
        print_json(
            {"task": task_id, "backend": fingerprint, "timings": [asdict(timing) for timing in timings]}
        )
        return
    table = Table("operation", "runs", "median ms", "p90 ms", box=None)
    for timing in timings:
        table.add_row(timing.operation, str(timing.runs), f"{timing.median_ms:.2f}", f"{timing.p90_ms:.2f}")
    people.print(f"{task_id} on {fingerprint}", markup=False, soft_wrap=True)
    people.print(table)
