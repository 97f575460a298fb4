"""Suites of tasks: what an agent may know of a task, and, apart from it, the answer."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, cast, runtime_checkable

from gym_code.data import shipped_suites, tasks_directory
from gym_code.errors import TaskError
from gym_code.types import Answer, StartTree, Task


@runtime_checkable
class Suite(Protocol):
    """A named collection of tasks. `task` and `start` reveal nothing of `answer`."""

    name: str

    def ids(self) -> Sequence[str]:
        """The ids of all tasks, in a fixed order."""

    def task(self, task_id: str) -> Task:
        """The public half; raises `TaskError` for an unknown id."""

    def start(self, task_id: str) -> StartTree:
        """The tree the task begins from."""

    def answer(self, task_id: str) -> Answer:
        """The secret half."""


_SCHEMES: dict[str, str] = {}
_SHOWN = 200
_DIRECTORY = "gym_code.suite.directory:DirectorySuite"
"""Named, not imported: reading YAML costs start-up time that a procedural suite does not need."""


def register_suite(scheme: str, factory: str) -> None:
    """Make `scheme:options` a suite reference; `factory` is `module:callable`, called with the options."""
    _SCHEMES[scheme] = factory


def load_suite(ref: str) -> Suite:
    """A suite by reference: a registered scheme (`procedural:seed=7`), a directory, or a shipped name.

    Raises `TaskError` when nothing is there or `sweb.yaml` is not valid.
    """
    scheme, _, options = ref.partition(":")
    if scheme in _SCHEMES:
        return _call(_SCHEMES[scheme], options)
    for path in (Path(ref), tasks_directory() / ref):
        if _is_suite(path):
            return _call(_DIRECTORY, str(path))
    known = [*shipped_suites(), *(f"{name}:..." for name in sorted(_SCHEMES)), "a directory with a sweb.yaml"]
    raise TaskError(
        "no such suite", where=ref[:_SHOWN] or "suite", expected=", ".join(known), found=repr(ref[:_SHOWN])
    )


def _is_suite(path: Path) -> bool:
    try:
        return (path / "sweb.yaml").is_file()
    except OSError:  # A name too long for any file, or a directory that may not be entered.
        return False


def _call(factory: str, argument: str) -> Suite:
    module, _, name = factory.partition(":")
    return cast("Callable[[str], Suite]", getattr(importlib.import_module(module), name))(argument)
