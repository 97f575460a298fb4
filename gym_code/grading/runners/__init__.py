"""Test runners by name: which program runs the tests in a box, and which file a test id lives in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gym_code.errors import TaskError
from gym_code.grading.runners import source

if TYPE_CHECKING:
    from collections.abc import Callable, Container


@dataclass(frozen=True, slots=True, kw_only=True)
class Runner:
    """How one kind of tests is run."""

    name: str
    program: str
    """File name of the runner's program in `gym_code.grading.box`."""
    needs_packages: bool
    """Whether the runner needs installed packages: then the interpreter must look in site-packages."""
    is_package: bool = False
    """Whether the program imports the package that runs tests, which may be what a task is about."""
    file_of: Callable[[str, Container[str]], str | None]
    """The path of the file a test id lives in, given the paths there are; None where the id names none."""

    @property
    def source(self) -> str:
        """The text of the runner's program, as it is sent."""
        return source.program(self.program)


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


def _no_file(test_id: str, paths: Container[str]) -> None:
    """Such ids name no file: their tests are looked for in the files of the task's test patch."""


RUNNERS = {
    "pytest": Runner(
        name="pytest", program="pytest_runner.py", needs_packages=True, is_package=True, file_of=_pytest_file
    ),
    "unittest": Runner(
        name="unittest", program="unittest_runner.py", needs_packages=False, file_of=_unittest_file
    ),
    "django": Runner(name="django", program="django_runner.py", needs_packages=True, file_of=_no_file),
    "sympy": Runner(name="sympy", program="sympy_runner.py", needs_packages=True, file_of=_no_file),
}


def runner_named(name: str) -> Runner:
    """The runner of this name. Raises `TaskError` where there is none."""
    if name not in RUNNERS:
        raise TaskError(
            "no such runner", where="runner", expected=" or ".join(sorted(RUNNERS)), found=repr(name)
        )
    return RUNNERS[name]
