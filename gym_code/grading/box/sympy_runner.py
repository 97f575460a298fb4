"""Runs tests of SymPy's own repository by bare function names; executed by `main.py` inside a box.

What `bin/test -C --verbose` runs of the task's test files this program runs, in the same way: each file is
executed as a script, the functions `test_*` defined in it are called in their order, what is marked as slow
is skipped, deprecations within SymPy are errors, nothing is cached. A name stands for every function of that
name in these files.
"""

from __future__ import annotations

import importlib
import inspect
import os
import random
import types
import warnings

from gym_code.grading.box.printed import Printed
from gym_code.grading.box.trouble import describe

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    State = tuple[list[tuple[str, Any]], list[str], bool]

OUTCOMES = {"AssertionError": "failed", "Skipped": "skipped", "XFail": "xfailed", "XPass": "xpassed"}
"""By the name of an exception's class: SymPy's own runner goes by names, too."""
REPORTERS = ("sympy/testing/runtests.py", "sympy/utilities/runtests.py")
HELPERS = ("sympy/testing/pytest.py", "sympy/utilities/pytest.py")
"""Where SymPy's own runner is, and `raises`: since 1.6, and before."""


def prepare(plan: dict[str, Any]) -> State:
    """The test files, compiled before any code of the tree runs (path, code or error); ids; `is_old()`."""
    os.environ["SYMPY_USE_CACHE"] = "no"
    compiled: list[tuple[str, Any]] = []
    for path in sorted(filter(is_test_file, plan["files"])):
        full = os.path.abspath(path)
        try:
            with open(full, "rb") as file:
                compiled.append((full, compile(file.read(), full, "exec", dont_inherit=True)))
        except (OSError, SyntaxError, ValueError) as error:
            compiled.append((full, error))
    return compiled, plan["ids"], is_old()


def is_test_file(path: str) -> bool:
    """Whether `bin/test` takes a file for one of tests."""
    return path.startswith("sympy/") and os.path.basename(path).startswith("test_") and path.endswith(".py")


def is_old() -> bool:
    """Whether deprecations are errors for the whole run, imports too, and not only while a test runs."""
    for path in filter(os.path.isfile, REPORTERS):
        with open(path, encoding="utf-8") as file:
            return "def raise_on_deprecated" not in file.read()
    return True


def run(state: State, indices: Sequence[int], report: Any) -> None:
    """Execute the files, call the wanted functions."""
    files, ids, old = state
    wanted = {ids[index]: index for index in indices}
    printed = Printed(report.outcome)
    trouble = ""
    found = []
    for kind in (UserWarning, SyntaxWarning):  # SWE-bench sets PYTHONWARNINGS so for these tests.
        warnings.simplefilter("ignore", kind)
    try:
        if old:
            deprecations_are_errors(everywhere=True)
        for path, code in files:
            functions, error = functions_of(path, code)
            trouble = trouble or error
            for function in functions:
                if function.__name__ in wanted:
                    printed.add(wanted[function.__name__], id(function))
                    found.append(function)
    except BaseException as error:  # The boundary, SystemExit too: SymPy itself cannot be imported.
        trouble = told(error)
    for function in found:
        printed.end(id(function), *outcome_of(function))
    for index in indices if trouble else ():
        printed.tell(index, "error", trouble)
    if report.canary_wanted:
        report.canary(outcome_of(canary)[0])


def deprecations_are_errors(*, everywhere: bool = False) -> None:
    """Set the filters of SymPy's runner; they hold until the end of the block or of the process."""
    if everywhere:
        exceptions = importlib.import_module("sympy.utilities.exceptions")
        warnings.simplefilter("error", exceptions.SymPyDeprecationWarning)
    warnings.filterwarnings("error", ".*", DeprecationWarning, module="sympy.*")


def functions_of(path: str, code: Any) -> tuple[list[Any], str]:
    """The test functions of a file in their order, and what went wrong when it was executed."""
    scope: dict[str, Any] = {"__file__": path}
    trouble = ""
    random.seed(0)
    try:
        if isinstance(code, Exception):
            raise code
        exec(code, scope)
    except BaseException as error:  # The boundary: it is the tree's code.
        trouble = told(error)
        if isinstance(error, ImportError) or not isinstance(error, Exception):
            return [], trouble
    found = {id(value): value for name, value in scope.items() if is_test(name, value, path)}
    if scope.get("disabled", False):
        found = {}
    ordered = sorted(found.values(), key=lambda value: inspect.unwrap(value).__code__.co_firstlineno)
    return ordered, trouble


def is_test(name: str, value: Any, path: str) -> bool:
    """Whether a name of a file stands for a test that is defined there."""
    if not name.startswith("test_") or not isinstance(value, (types.FunctionType, types.MethodType)):
        return False
    own = inspect.unwrap(value).__code__.co_filename == path
    return own and not inspect.isgeneratorfunction(value)


def outcome_of(function: Callable[[], object]) -> tuple[str, str]:
    """How a test ends, and why."""
    if getattr(function, "_slow", False):
        return "skipped", "Slow"
    try:
        with warnings.catch_warnings():
            deprecations_are_errors()
            random.seed(0)
            function()
    except BaseException as error:  # The boundary: it is the tree's code.
        return OUTCOMES.get(type(error).__name__, "error"), told(error)
    return "passed", ""


def told(error: BaseException) -> str:
    """What went wrong, in a line."""
    return describe((type(error), error, error.__traceback__), os.getcwd())


def canary() -> None:
    """Must fail; where it passes, SymPy's `raises` was tampered with, or what calls tests."""
    helpers = next(path for path in HELPERS if os.path.isfile(path))
    try:
        importlib.import_module(helpers[:-3].replace("/", ".")).raises(ZeroDivisionError, lambda: None)
    except BaseException:
        raise AssertionError from None
