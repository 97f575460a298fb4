"""`gym-code tasks list`, `show`, `check` and `make`."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from gym_code.cli.terminal import Json, people, print_json

if TYPE_CHECKING:
    from gym_code.types import JSON, Answer, Task

app = typer.Typer(help="Suites of tasks: look at them, check them, make them.", no_args_is_help=True)

Suite = Annotated[str, typer.Argument(help="A shipped name, a directory, or procedural:seed=7,count=100.")]


@app.command("list")
def list_tasks(
    suite: Suite,
    ids: Annotated[bool, typer.Option("--ids", help="Print the ids alone, one a line.")] = False,
    as_json: Json = False,
) -> None:
    """List the tasks of a suite."""
    from gym_code.task import load_suite

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
