"""`gym-code doctor`, `gc` and `bench`."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from gym_code.cli.terminal import NO, Json, SandboxName, people, print_json


def doctor(as_json: Json = False) -> None:
    """Say what this machine can do, what is missing and the command that mends it.

    Status 1 when boxes cannot run here.
    """
    from gym_code.sandbox.doctor import diagnose

    findings = diagnose()
    able = all(finding.ok for finding in findings if finding.required)
    if as_json:
        print_json({"ok": able, "findings": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            mark = "ok" if finding.ok else "MISSING" if finding.required else "no"
            people.print(f"{mark:<8}{finding.name}: {finding.detail}", markup=False, soft_wrap=True)
            if finding.mend and not finding.ok:
                people.print(f"{'':<8}mend it with: {finding.mend}", markup=False, soft_wrap=True)
        people.print("boxes run here" if able else "boxes do not run here", markup=False)
    if not able:
        raise typer.Exit(NO)


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what was used lately, where nobody uses it now.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove what dead owners left behind, here and at the Docker daemon, and layers, environments and images
    fetched by evaluations that were unused for long.
    """
    from gym_code.errors import SandboxUnavailable
    from gym_code.evaluate.images import collect as collect_images
    from gym_code.sandbox.docker import gc_docker
    from gym_code.sandbox.layout import open_home
    from gym_code.sandbox.lease import ENVIRONMENT_SECONDS, LAYER_SECONDS
    from gym_code.sandbox.lease import gc as collect

    images = collect_images(open_home(), everything=everything, dry_run=dry_run)
    ages = (0.0, 0.0) if everything else (LAYER_SECONDS, ENVIRONMENT_SECONDS)
    report = asdict(collect(open_home(), dry_run=dry_run, layer_seconds=ages[0], environment_seconds=ages[1]))
    report["images"] = images
    try:
        report |= asdict(gc_docker(everything=everything, dry_run=dry_run))
    except SandboxUnavailable as reason:
        report["docker"] = f"left alone: {reason}"
    if as_json:
        print_json(report)
        return
    for kind, found in report.items():
        if isinstance(found, tuple | list):
            names = f": {', '.join(map(str, found))}" if found else ""
            people.print(f"{len(found):>5}  {kind.replace('_', ' ')}{names}", markup=False, soft_wrap=True)
    if "docker" in report:
        people.print(f"Docker was {report['docker']}", markup=False, soft_wrap=True)
    people.print("nothing was removed (--dry-run)" if dry_run else "removed", markup=False)


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
