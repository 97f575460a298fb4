"""`gym-code tasks list`, `show`, `check` and `make`."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from gym_code.cli.terminal import NO, Json, SandboxName, aside, people, print_json
from gym_code.errors import GymCodeError
from gym_code.synth.packages import PREFIX, is_real

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gym_code import task
    from gym_code.sandbox.base import Backend
    from gym_code.synth.make import MakeReport
    from gym_code.types import JSON, Answer, Task

app = typer.Typer(help="Suites of tasks: look at them, check them, make them.", no_args_is_help=True)

Suite = Annotated[str, typer.Argument(help="A shipped name, a directory, or procedural:seed=7,count=100.")]


@app.command("list")
def list_tasks(
    suite: Annotated[str, typer.Argument(help="As for the other commands; none lists the suites.")] = "",
    ids: Annotated[bool, typer.Option("--ids", help="Print the ids alone, one a line.")] = False,
    as_json: Json = False,
) -> None:
    """List the tasks of a suite, or the suites that came with gym-code."""
    from gym_code.data import shipped_suites
    from gym_code.task import load_suite

    if not suite:
        print_json(list(shipped_suites())) if as_json else people.print("\n".join(shipped_suites()))
        return
    loaded = load_suite(suite)
    if ids and not as_json:
        for task_id in loaded.ids():
            people.print(task_id, markup=False, soft_wrap=True)
        return
    tasks = [loaded.task(task_id) for task_id in loaded.ids()]
    if as_json:
        print_json([_row(task) for task in tasks])
        return
    table = Table("task", "kind", "family", "difficulty", "visible tests", box=None)
    for task in tasks:
        row = _row(task)
        difficulty = "" if task.difficulty is None else f"{task.difficulty:.2f}"
        table.add_row(task.id, task.kind, row["family"], difficulty, str(row["visible_tests"]))
    people.print(table)
    people.print(f"{len(tasks)} tasks in {loaded.name}", markup=False)


@app.command()
def show(
    suite: Suite,
    task: Annotated[str, typer.Argument(help="The task's id.")],
    answer: Annotated[
        bool, typer.Option("--answer", help="Also the secret half: tests and solution.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what an agent may know of a task and, only with --answer, the answer."""
    from gym_code.task import load_suite

    loaded = load_suite(suite)
    public = loaded.task(task)
    secret = loaded.answer(task) if answer else None
    if as_json:
        print_json(task_json(public) | ({"answer": answer_json(secret)} if secret else {}))
        return
    for name, value in task_json(public).items():
        if name != "instruction":
            people.print(f"{name:<15}{_short(value)}", markup=False, soft_wrap=True)
    people.print(f"\n{public.instruction.rstrip()}", markup=False, soft_wrap=True)
    if secret:
        for name, value in answer_json(secret).items():
            text = str(value).rstrip() if isinstance(value, str) else "\n".join(value)
            people.print(f"\n{name}:\n{text}", markup=False, soft_wrap=True)


@app.command()
def check(
    suite: Suite,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Gradings of each kind for every task.")] = 3,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many tasks.")] = None,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Tasks checked side by side.")] = 2,
    sandbox: SandboxName = "auto",
    as_json: Json = False,
) -> None:
    """Grade gold and no-op on every task: always 1.0 and 0.0. Status 1 when a task is not sound."""
    from gym_code.sandbox import open_backend
    from gym_code.task import load_suite

    loaded = load_suite(suite)
    _refuse_broken_files(suite, loaded, as_json=as_json)
    ids = list(loaded.ids())[:limit]
    backend = open_backend(sandbox)
    try:
        with _progress() as progress:
            bar = progress.add_task(f"checking {loaded.name}", total=len(ids))
            found = []
            for row in _check_all(loaded, ids, backend, runs, jobs):
                found.append(row)
                progress.advance(bar)
    finally:
        backend.close()
    sound = sum(row["ok"] for row in found)
    if as_json:
        print_json({"suite": suite, "runs": runs, "tasks": len(found), "sound": sound, "results": found})
    else:
        _show_checks(found)
        people.print(
            f"{sound} of {len(found)} tasks are sound (gold and no-op graded {runs} times each)", markup=False
        )
    if sound < len(found):
        raise typer.Exit(NO)


@app.command()
def make(
    source: Annotated[
        str,
        typer.Argument(
            help="pypi:NAME==VERSION[#sha256=HEX], git:URL[@REVISION], path:DIRECTORY; "
            "real or real:NAME,NAME for the real packages that gym-code lists."
        ),
    ],
    out: Annotated[Path | None, typer.Option("--out", help="Suite directory; default tasks/NAME.")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", min=1, help="Most tasks to accept (real: from each package).")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Order in which candidates are tried.")] = 0,
    jobs: Annotated[int, typer.Option("-j", "--jobs", min=1, help="Candidates tried side by side.")] = 2,
    sandbox: SandboxName = "auto",
    as_json: Json = False,
) -> None:
    """Make validated tasks from a repository. Status 1 when none was accepted.

    real: one suite for each package, OUT/NAME (default tasks/real/NAME); status 1 when one gave no task.
    """
    from gym_code.sandbox import open_backend
    from gym_code.synth.packages import chosen, real_packages

    target = out or default_target(source)
    listed = chosen(source, real_packages()) if is_real(source) else ()
    wanted = [(item.source, target / item.name) for item in listed] or [(source, target)]
    reports = []
    backend = open_backend(sandbox)
    try:
        for reference, folder in wanted:
            reports.append(_make_one(reference, folder, backend, workers=jobs, limit=limit, seed=seed))
            if not as_json:
                _show_funnel(reports[-1], folder)
    finally:
        backend.close()
    if as_json:
        found = [report.to_json() for report in reports]
        print_json({"packages": found} if listed else found[0])
    if not all(report.accepted for report in reports):
        raise typer.Exit(NO)


def task_json(task: Task) -> dict[str, JSON]:
    """Every public field of a task."""
    return asdict(task)


def answer_json(answer: Answer) -> dict[str, JSON]:
    """The secret half; patches as text, bytes that are no UTF-8 escaped."""
    return {
        "fail_to_pass": list(answer.fail_to_pass),
        "pass_to_pass": list(answer.pass_to_pass),
        "gold_patch": answer.gold_patch.decode("utf-8", "backslashreplace"),
        "test_patch": answer.test_patch.decode("utf-8", "backslashreplace"),
        "trust": answer.trust,
    }


def _row(task: Task) -> dict[str, JSON]:
    return {
        "id": task.id,
        "kind": task.kind,
        "repo": task.repo,
        "family": task.family or task.repo,
        "difficulty": task.difficulty,
        "visible_tests": len(task.visible_tests),
    }


def _short(value: JSON) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={inner}" for key, inner in value.items() if inner not in (None, (), {}))
    return str(value)


def default_target(source: str) -> Path:
    """Where the tasks of a source go: `tasks/` and the source's bare name.

    >>> default_target("pypi:toolz==1.0.0"), default_target("real:toolz,semver")
    (PosixPath('tasks/toolz'), PosixPath('tasks/real'))
    """
    if is_real(source):
        return Path("tasks") / PREFIX
    source = source.partition("#sha256=")[0]
    name = source.rstrip("/").rpartition("/")[2].rpartition(":")[2].partition("==")[0].removesuffix(".git")
    return Path("tasks") / (name or "made")


def _make_one(
    source: str, out: Path, backend: Backend, *, workers: int, limit: int | None, seed: int
) -> MakeReport:
    """One suite, with a bar that says how far it is."""
    from gym_code.synth.make import Progress as Step
    from gym_code.synth.make import make_suite

    name = source.partition("#")[0]
    with _progress() as progress:
        bar = progress.add_task(f"making tasks from {name}", total=None)

        def tell(step: Step) -> None:
            progress.update(bar, completed=step.done, total=step.total)
            progress.console.print(f"{step.accepted} accepted  {step.last}", markup=False, soft_wrap=True)

        return make_suite(
            source, out, backend=backend, workers=workers, limit=limit, seed=seed, progress=tell
        )


def _show_funnel(report: MakeReport, out: Path) -> None:
    """The funnel as a table: every stage, and below it why functions did not reach it."""
    stages = report.funnel.stages
    table = Table("stage", "functions", "", box=None)
    for stage in stages:
        for reason, count in sorted(stage.lost.items(), key=lambda item: -item[1]):
            table.add_row("", Text(f"-{count}", style="dim"), Text(reason, style="dim"))
        bar = "\u2588" * round(30 * stage.count / stages[0].count) if stages[0].count else ""
        table.add_row(Text(stage.name), str(stage.count), bar)
    people.print(Text(report.source, style="bold"))
    people.print(table)
    each = f", {report.seconds_a_task} s a task" if report.seconds_a_task is not None else ""
    people.print(
        f"{report.accepted} tasks in {out} ({report.seconds} s with {report.workers} workers{each}, "
        f"{report.disk_bytes} bytes)",
        markup=False,
        soft_wrap=True,
    )


def _refuse_broken_files(ref: str, suite: task.Suite, *, as_json: bool) -> None:
    """End with status 1, every problem told, where the files of a suite on disk are not in order."""
    from gym_code.suite import DirectorySuite, check_suite

    problems = [str(found) for found in check_suite(suite.path)] if isinstance(suite, DirectorySuite) else []
    if not problems:
        return
    if as_json:
        print_json({"suite": ref, "sound": 0, "problems": problems})
    else:
        for problem in problems:
            people.print(problem, markup=False, soft_wrap=True)
        people.print(f"{len(problems)} problems in the files of {ref}: no task was graded", markup=False)
    raise typer.Exit(NO)


def _check_all(
    suite: task.Suite, ids: Sequence[str], backend: Backend, runs: int, jobs: int
) -> Iterator[dict[str, JSON]]:
    """One row a task, in order; a task whose check fails with an error of ours is a row that says so."""
    from gym_code.grading import check_task

    def one(task_id: str) -> dict[str, JSON]:
        try:
            found = check_task(suite, task_id, backend, runs)
        except GymCodeError as error:
            return {"task": task_id, "ok": False, "oracle": [], "noop": [], "reasons": [str(error)]}
        rewards = {"oracle": list(found.oracle), "noop": list(found.noop)}
        return {"task": task_id, "ok": found.ok, **rewards, "reasons": list(found.reasons)}

    with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="check") as pool:
        yield from pool.map(one, ids)


def _progress() -> Progress:
    """A bar on standard error, so that standard output holds the answer alone."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    return Progress(*columns, console=aside, disable=not aside.is_terminal, transient=True)


def _show_checks(rows: Sequence[Mapping[str, JSON]]) -> None:
    table = Table("task", "oracle", "no-op", "", box=None)
    for row in rows:
        rewards = [" ".join(str(value) for value in row[who]) for who in ("oracle", "noop")]
        table.add_row(Text(row["task"]), *rewards, Text("; ".join(row["reasons"]) or "sound"))
    people.print(table)
