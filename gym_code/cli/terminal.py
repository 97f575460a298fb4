"""What every command shares: options, output for people or for machines, one clear line for an error."""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from gym_code.types import JSON, Reward

NO = 1
"""Exit status when the answer is no."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
SuiteRef = Annotated[
    str, typer.Option("--suite", help="A shipped name, a directory, or procedural:seed=7,count=100.")
]
TaskId = Annotated[str, typer.Option("--task", help="The task's id.")]
SandboxName = Annotated[str, typer.Option("--sandbox", help="auto, namespace, docker or memory.")]

PIPE_COLUMNS = 160
"""Width of tables where standard output is no terminal: ids are not cut to 80 columns in a log."""

people = Console(highlight=False, width=None if sys.stdout.isatty() else PIPE_COLUMNS)
"""Standard output, for people."""
aside = Console(stderr=True, highlight=False)
"""Standard error: progress, and what is wrong."""


def print_json(value: JSON) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


def report_error(error: Exception, *, as_json: bool) -> None:
    """One line that says what is wrong: on standard error, and as JSON where that was asked for.

    An error that lists the problems of a file keeps a line for each on standard error.
    Standard output that takes nothing more (a full disk) is given up: what it still holds is dropped.
    """
    line = " ".join(str(error).split()) or type(error).__name__
    try:
        if as_json:
            print_json({"error": line, "kind": type(error).__name__})
        sys.stdout.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    sys.stderr.write(f"gym-code: {error if hasattr(error, 'problems') else line}\n")


def reward_json(reward: Reward | None) -> dict[str, JSON]:
    """What a reward says, flat: reward (null for ungraded), resolved, valid, flags, parts, tests."""
    verdict = reward.verdict if reward else None
    return {
        "reward": reward.value if reward else None,
        "resolved": verdict.resolved if verdict else False,
        "valid": verdict.valid if verdict else False,
        "flags": list(verdict.flags) if verdict else [],
        "parts": dict(reward.parts) if reward else {},
        "tests": {test: outcome.value for test, outcome in verdict.report.outcomes.items()}
        if verdict
        else {},
    }
