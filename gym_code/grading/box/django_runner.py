"""Runs tests of Django's own repository, by the names its runner prints; executed by `main.py` inside a box.

`tests/runtests.py` does what it always does (settings, the apps of the wanted modules, databases, Django's
order of tests); only the suite it has put together is run by this program, for its outcomes. A test is called
`test_x (module.Class)` (`test_x (module.Class.test_x)` since Python 3.11), or by the first line of its
docstring where it has one: what `-v 2` shows on the line that ends with `ok`. Those names tell no file, so
the modules come from the task's test patch.
"""

from __future__ import annotations

import importlib
import os
import runpy
import sys
import unittest
from unittest.loader import _FailedTest  # type: ignore[attr-defined]

from gym_code.grading.box.printed import Printed
from gym_code.grading.box.trouble import describe
from gym_code.grading.box.unittest_result import Result, canary_outcome

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    State = tuple[list[str], list[str], list[str]]

TESTS, PROGRAM = "tests", "tests/runtests.py"
load = unittest.defaultTestLoader.loadTestsFromName


def prepare(plan: dict[str, Any]) -> State:
    """The arguments of `runtests.py`, the modules of tests, and the ids."""
    with open(PROGRAM, encoding="utf-8") as file:
        one_process = ["--parallel", "1"] if "--parallel" in file.read() else []  # Django 1.9
    modules = [module for module in map(module_of, plan["files"]) if module]
    return [PROGRAM, "--verbosity", "2", "--settings", "test_sqlite", *one_process], modules, plan["ids"]


def module_of(path: str) -> str:
    """The label of a test file; "" for what holds none (`runtests.py` and the settings beside it too)."""
    parts = path[: -len(".py")].split("/")
    inside = path.endswith(".py") and parts[0] == TESTS and len(parts) > 2
    return ".".join(parts[1:]) if inside and parts[-1] != "__init__" else ""


def run(state: State, indices: Sequence[int], report: Any) -> None:
    """Have Django set everything up and run the wanted tests of the suite it made."""
    arguments, modules, ids = state
    wanted = {ids[index]: index for index in indices}
    printed = Printed(report.outcome)
    began: list[bool] = []

    def run_suite(suite: Any) -> Any:
        began.append(True)
        genuine = {key_of(case) for module in modules for case in cases(load(module))}
        chosen = [case for case in cases(suite) if key_of(case) in genuine]
        return run_wanted(chosen, wanted, printed, report)

    sys.argv = [*arguments, *modules]
    sys.path.insert(0, os.path.abspath(TESTS))
    try:
        take_over(run_suite)
        runpy.run_path(PROGRAM, run_name="__main__")
    except BaseException as error:  # The boundary, SystemExit too: what stops Django's set-up is the tree's.
        reason = describe((type(error), error, error.__traceback__), os.getcwd())
        for index in () if began else indices:
            printed.tell(index, "error", reason)


def take_over(run_suite: Callable[[Any], Any]) -> None:
    """Let this function run the next suite in place of Django's; tests of the runner itself find Django's."""
    runner = importlib.import_module("django.test.runner").DiscoverRunner
    own = runner.run_suite

    def once(self: Any, suite: Any, **kwargs: Any) -> Any:
        runner.run_suite = own
        return run_suite(suite)

    runner.run_suite = once


def run_wanted(found: list[Any], wanted: dict[str, int], printed: Printed, report: Any) -> Any:
    """Run the tests that wanted names stand for, in Django's order, and the ones that must fail."""
    workdir = os.getcwd()
    chosen = unittest.TestSuite()
    chosen._cleanup = False  # type: ignore[attr-defined]  # Keeps the cases alive: their identities are keys.
    kinds: dict[type[unittest.TestCase], Any] = {}
    broken = []
    for case in found:
        name = (case.shortDescription() or str(case)).strip()
        if isinstance(case, _FailedTest):
            broken.append(str(case._exception))
        elif name in wanted:
            printed.add(wanted[name], id(case))
            chosen.addTest(case)
            kinds.setdefault(base_of(case), case)

    def tell(test: Any, name: str, error: Any) -> None:
        printed.end(id(test), name, describe(error, workdir))

    def result_class(*_: Any, **__: Any) -> Any:
        return Result(tell)

    with open(os.devnull, "w", encoding="utf-8") as console:
        # Not `chosen.run`: the text runner also sets the filters of warnings, as it does for Django.
        result = unittest.TextTestRunner(console, verbosity=2, resultclass=result_class).run(chosen)
    for reason in broken[:1]:
        for index in wanted.values():
            printed.tell(index, "error", reason)
    if report.canary_wanted:
        report.canary(canary(kinds))
    return result


def cases(suite: Any) -> Iterator[Any]:
    """The cases of a suite of suites, in order."""
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from cases(test)
        else:
            yield test


def key_of(case: Any) -> tuple[Any, str]:
    """What is the same for two cases of one test: Django's loader is the tree's, and its word is checked."""
    return type(case), case._testMethodName


def base_of(case: unittest.TestCase) -> type[unittest.TestCase]:
    """The nearest base that is no test's own: what runs the test."""
    bases = ("django.test.testcases", "unittest.case")
    return next(base for base in type(case).__mro__ if base.__module__ in bases)


def canary(kinds: dict[type[unittest.TestCase], Any]) -> str:
    """`passed` where what must fail passes in a kind of case that was run, set up as one of them was."""
    ends = set()
    for base, case in kinds.items():
        names = [name for name in ("databases", "available_apps") if hasattr(case, name)]
        ends.add(canary_outcome(base, **{name: getattr(case, name) for name in names}))
    return "failed" if ends and "passed" not in ends else "passed"
