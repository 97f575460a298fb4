"""Test runners by name: which program runs the tests in a box, and which file a test id lives in."""

from __future__ import annotations

import importlib.resources
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from gym_code.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Callable, Container

BOX = "gym_code.grading.box"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """How one kind of tests is run."""

    name: str
    program: str
    """File name of the runner's program in `gym_code.grading.box`."""
    needs_packages: bool
    """Whether the runner itself is an installed package: then the interpreter must look in site-packages."""
    file_of: Callable[[str, Container[str]], str | None]
    """The path of the file a test id lives in, given the paths there are; None where the id names none."""

    @property
    def source(self) -> str:
        """The text of the runner's program."""
        return program(self.program)


@cache
def program(name: str) -> str:
    """The text of a program in `gym_code.grading.box`."""
    return importlib.resources.files(BOX).joinpath(name).read_text("utf-8")


def _pytest_file(test_id: str, paths: Container[str]) -> str | None:
    path = test_id.split("::")[0]
    return path if path in paths else None


def _unittest_file(test_id: str, paths: Container[str]) -> str | None:
    parts = test_id.split(".")
    for end in range(len(parts) - 2, 0, -1):
        path = "/".join(parts[:end]) + ".py"
        if path in paths:
            return path
    return None


RUNNERS = {
    "pytest": Runner(name="pytest", program="pytest_runner.py", needs_packages=True, file_of=_pytest_file),
    "unittest": Runner(
        name="unittest", program="unittest_runner.py", needs_packages=False, file_of=_unittest_file
    ),
}


def runner_named(name: str) -> Runner:
    """The runner of this name. Raises `TaskError` where there is none."""
    if name not in RUNNERS:
        raise TaskError(
            "no such runner", where="runner", expected=" or ".join(sorted(RUNNERS)), found=repr(name)
        )
    return RUNNERS[name]
