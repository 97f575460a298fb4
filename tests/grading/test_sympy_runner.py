"""Instances of SymPy: an old and a new version of it, real tests of its own, by bare names of functions."""

from __future__ import annotations

import functools
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from graded_toys import RIGHT, Toy, one_file, toy
from instances import instance, sdist

from gym_code.grading import flags, grade
from gym_code.types import Outcome

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend

pytestmark = pytest.mark.sandbox

HIDDEN, MUL = "sympy/core/tests/test_noncommutative.py", "sympy/core/mul.py"
BUG = tuple(
    f"def _eval_transpose(self):\n        return self.func(*[t.transpose() for t in self.args{order}])"
    for order in ("[::-1]", "")
)
ACCEPTED = {"test_collect": frozenset({Outcome.XFAILED})}
"""Marked as XFAIL there: not what SWE-bench would take for passed, and so asked for in words here."""


@functools.cache
def old_or_new(version: str) -> Toy:
    """The transpose of a product does not turn it round. The runner of 1.4 is under `utilities`."""
    files = {
        path: file
        for path, file in sdist(f"sympy=={version}").items()
        if path == HIDDEN or (path.startswith("sympy/") and "/tests/" not in path and "/rubi/" not in path)
    }
    return instance(
        runner="sympy",
        files=files,
        bug=(MUL, *BUG),
        hidden=HIDDEN,
        fail=("test_transpose",),
        keep=("test_collect", "test_expand", "test_subs"),
        packages=("mpmath==1.3.0",),
    )


@pytest.mark.parametrize("version", ["1.4", "1.12"])
def test_oracle_1_and_noop_0_by_the_names_that_sympy_prints(backend: Backend, version: str) -> None:
    made = old_or_new(version)
    oracle, noop = (
        grade(made.task, made.answer, patch, backend, made.start, accepted=ACCEPTED)
        for patch in (made.answer.gold_patch, b"")
    )
    assert oracle.verdict is not None
    assert (oracle.value, oracle.verdict.flags) == (1.0, ())
    assert noop.verdict is not None
    assert (noop.value, noop.verdict.flags) == (0.0, ())
    ends = {test: str(end) for test, end in noop.verdict.report.outcomes.items()}
    assert ends == {
        "test_transpose": "failed",
        "test_collect": "xfailed",
        "test_expand": "passed",
        "test_subs": "passed",
    }


PYTEST = """
import functools

class Skipped(Exception): pass
class XFail(Exception): pass
class XPass(Exception): pass

def raises(error, call):
    try:
        call()
    except error:
        return
    raise AssertionError

def XFAIL(test):
    @functools.wraps(test)
    def wrapped():
        try:
            test()
        except Exception:
            raise XFail
        raise XPass
    return wrapped

def SKIP(test):
    @functools.wraps(test)
    def wrapped():
        raise Skipped("not today")
    return wrapped

def slow(test):
    test._slow = True
    return test
"""
ONE = """
import warnings
from sympy.testing.pytest import XFAIL, SKIP, slow
from calc import add
from sympy.core import old
from sympy.core.tests.test_two import test_elsewhere

def test_pass(): assert add(1, 1) == 2
def test_fail(): assert add(1, 1) == 3
def test_error(): raise ValueError("no")
def test_exit(): raise SystemExit(0)
@XFAIL
def test_xfail(): assert False
@XFAIL
def test_xpass(): assert True
@SKIP
def test_skip(): assert False
@slow
def test_slow(): assert False
def test_twice(): assert add(1, 1) == 2
def test_deprecated(): old()
def test_generator(): yield lambda: None
"""
TWO = """
def test_twice(): assert False
def test_elsewhere(): pass
"""


def small(place: str, tests: tuple[str, str], fail: tuple[str, ...], keep: tuple[str, ...]) -> Toy:
    """What the runner needs of a SymPy, and no more; `place` is where its own runner lies."""
    made = toy(
        runner="sympy",
        hidden="",
        visible="",
        fail=fail,
        keep=keep,
        more={
            "sympy/core/__init__.py": "import warnings\n\n\n"
            "def old():\n    warnings.warn('old', DeprecationWarning)\n",
            f"sympy/{place}/pytest.py": PYTEST,
            f"sympy/{place}/runtests.py": "def raise_on_deprecated(): pass\n" if place == "testing" else "\n",
            "sympy/utilities/exceptions.py": "class SymPyDeprecationWarning(DeprecationWarning): pass\n",
        },
    )
    paths = ("sympy/core/tests/test_one.py", "sympy/core/tests/test_two.py")
    texts = (text.replace("sympy.testing", f"sympy.{place}") for text in tests)
    hidden = b"".join(one_file(path, None, text) for path, text in zip(paths, texts, strict=True))
    return replace(made, answer=replace(made.answer, test_patch=hidden))


@pytest.mark.parametrize("place", ["testing", "utilities"])
def test_how_tests_of_sympy_end(backend: Backend, place: str) -> None:
    """A name of two files is passed where both tests pass; a test counts where it is defined."""
    wanted = {
        "test_pass": "passed",
        "test_fail": "failed",
        "test_error": "error",
        "test_exit": "error",
        "test_xfail": "xfailed",
        "test_xpass": "xpassed",
        "test_skip": "skipped",
        "test_slow": "skipped",
        "test_twice": "failed",
        "test_elsewhere": "passed",
        "test_deprecated": "error",
        "test_generator": "missing",
        "test_gone": "missing",
    }
    made = small(place, (ONE, TWO), ("test_pass",), tuple(wanted)[1:])
    verdict = made.grade(backend, made.answer.gold_patch).verdict
    assert verdict is not None
    assert {test: str(end) for test, end in verdict.report.outcomes.items()} == wanted
    assert verdict.flags == ()


FORGED = {
    "raises() that is content with everything": (
        {"sympy/testing/pytest.py": PYTEST + "\nraises = lambda *args: None\n", "calc.py": RIGHT},
        flags.RUNNER_TAMPERED,
    ),
    "a runner that reports success": (
        {"sympy/testing/runtests.py": "import os\nprint('test_pass ok')\nos._exit(0)\n"},
        None,
    ),
    "a module of its own in place of the test's": ({"sympy/core/tests/test_one/__init__.py": TWO}, None),
    "sys.exit(0)": ({"calc.py": "import sys\nsys.exit(0)\n"}, None),
    "os._exit(0)": ({"calc.py": "import os\nos._exit(0)\n"}, flags.NOTHING_REPORTED),
}


@pytest.mark.parametrize("attack", FORGED)
def test_law_4_a_patch_that_forges_scores_0_and_the_solution_1(backend: Backend, attack: str) -> None:
    made = small("testing", (ONE, TWO), ("test_pass",), ("test_elsewhere",))
    changes, flag = FORGED[attack]
    reward = made.grade(backend, made.patch(changes))
    assert reward.value == 0.0, reward.verdict
    assert reward.verdict is not None
    assert flag is None or flag in reward.verdict.flags
    assert made.grade(backend, made.answer.gold_patch).value == 1.0
