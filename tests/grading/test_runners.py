"""How tests end, by id: only what passed has passed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from graded_toys import RIGHT, toy_of_pytest, toy_of_unittest

from gym_code.errors import TaskError
from gym_code.grading import run_tests, run_visible_tests
from gym_code.grading.runners import runner_named
from gym_code.sandbox.base import BoxSpec
from gym_code.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gym_code.sandbox.base import Backend, Sandbox

UNITTEST = """
import unittest
from calc import add

class T(unittest.TestCase):
    def test_pass(self): self.assertEqual(add(1, 0), 1)
    def test_fail(self): self.assertEqual(add(1, 1), 2)
    def test_error(self): raise ValueError("no \\u2013 never")
    def test_exit(self): raise SystemExit(0)
    @unittest.skip("not today")
    def test_skip(self): pass
    def test_skip_inside(self): self.skipTest("later")
    @unittest.expectedFailure
    def test_xfail(self): self.assertEqual(1, 2)
    @unittest.expectedFailure
    def test_xpass(self): pass
    def test_sub(self):
        for n in range(3):
            with self.subTest(n=n): self.assertNotEqual(n, 1)

class Setup(unittest.TestCase):
    @classmethod
    def setUpClass(cls): raise RuntimeError
    def test_one(self): pass

class Teardown(unittest.TestCase):
    def tearDown(self): raise RuntimeError
    def test_one(self): pass
"""
PYTEST = """
import pytest
from calc import add

def test_pass(): assert add(1, 0) == 1
def test_fail(): assert add(1, 1) == 2
def test_exit(): raise SystemExit(0)
@pytest.mark.skip
def test_skip(): pass
def test_skip_inside(): pytest.skip("later")
@pytest.mark.xfail
def test_xfail(): assert False
@pytest.mark.xfail
def test_xpass(): pass
@pytest.mark.xfail(strict=True)
def test_strict(): pass
@pytest.fixture
def bad(): raise RuntimeError
def test_setup(bad): pass
@pytest.fixture
def late():
    yield
    raise RuntimeError
def test_teardown(late): pass
@pytest.mark.parametrize("v", ["a b", "\\u00fc", "x::y"])
def test_odd(v): pass
"""


@pytest.fixture(scope="module")
def unittest_box(backend: Backend) -> Iterator[Sandbox]:
    toy = toy_of_unittest(visible=UNITTEST)
    with backend.open(
        BoxSpec(start=toy.start, environment=toy.task.environment, limits=toy.task.limits)
    ) as box:
        yield box


@pytest.fixture(scope="module")
def pytest_box(backend: Backend) -> Iterator[Sandbox]:
    toy = toy_of_pytest(visible=PYTEST)
    with backend.open(
        BoxSpec(start=toy.start, environment=toy.task.environment, limits=toy.task.limits)
    ) as box:
        box.write("tests/test_broken.py", b"def (\n")
        yield box


@pytest.mark.sandbox
def test_unittest_outcomes_and_messages(unittest_box: Sandbox) -> None:
    wanted = {
        "T.test_pass": "passed",
        "T.test_fail": "failed",
        "T.test_error": "error",
        "T.test_exit": "error",
        "T.test_skip": "skipped",
        "T.test_skip_inside": "skipped",
        "T.test_xfail": "xfailed",
        "T.test_xpass": "xpassed",
        "T.test_sub": "failed",
        "T.test_gone": "missing",
        "Gone.test_pass": "missing",
        "Setup.test_one": "missing",
        "Teardown.test_one": "error",
    }
    ids = [f"tests.test_visible.{name}" for name in wanted]
    report, messages = run_tests(unittest_box, toy_of_unittest().task, [*ids, "tests.nowhere.T.test_x"])
    assert {name.removeprefix("tests.test_visible."): str(end) for name, end in report.outcomes.items()} == {
        **wanted,
        "tests.nowhere.T.test_x": "missing",
    }
    assert messages["tests.test_visible.T.test_fail"] == "tests/test_visible.py:7: AssertionError: 0 != 2"
    assert (
        messages["tests.test_visible.T.test_error"] == "tests/test_visible.py:8: ValueError: no \u2013 never"
    )
    assert messages["tests.test_visible.T.test_skip"] == "not today"
    assert "tests.test_visible.T.test_pass" not in messages


@pytest.mark.sandbox
def test_pytest_outcomes_and_messages(pytest_box: Sandbox) -> None:
    wanted = {
        "test_pass": "passed",
        "test_fail": "failed",
        "test_exit": "failed",
        "test_skip": "skipped",
        "test_skip_inside": "skipped",
        "test_xfail": "xfailed",
        "test_xpass": "xpassed",
        "test_strict": "failed",
        "test_setup": "error",
        "test_teardown": "error",
        "test_gone": "missing",
        "test_odd[a b]": "passed",
        "test_odd[\\xfc]": "passed",
        "test_odd[x::y]": "passed",
    }
    ids = [f"tests/test_visible.py::{name}" for name in wanted]
    others = ["tests/test_broken.py::test_x", "tests/test_nowhere.py::test_x"]
    report, messages = run_tests(pytest_box, toy_of_pytest().task, [*ids, *others])
    assert {
        name.removeprefix("tests/test_visible.py::"): str(end) for name, end in report.outcomes.items()
    } == {
        **wanted,
        others[0]: "error",
        others[1]: "missing",
    }
    assert messages[ids[1]].startswith("tests/test_visible.py:6: assert 0 == 2")
    assert messages[others[0]].endswith("SyntaxError: invalid syntax")


@pytest.mark.sandbox
@pytest.mark.parametrize("make", [toy_of_unittest, toy_of_pytest])
def test_visible_tests_run_where_the_agent_works(backend: Backend, make: object) -> None:
    toy = make()  # type: ignore[operator]
    spec = BoxSpec(start=toy.start, environment=toy.task.environment, limits=toy.task.limits)
    with backend.open(spec) as box:
        report, messages = run_visible_tests(box, toy.task)
        assert report.outcomes == {toy.task.visible_tests[0]: Outcome.PASSED}
        assert messages == {}
        before = box.digest()
        box.write("calc.py", b"def add(a, b):\n    return 7\n")
        report, messages = run_visible_tests(box, toy.task)
        assert report.outcomes == {toy.task.visible_tests[0]: Outcome.FAILED}
        assert "7" in messages[toy.task.visible_tests[0]]
        box.write("calc.py", b"class It: pass\n\n\ndef add(a, b):\n    return It()\n")
        _, messages = run_visible_tests(box, toy.task)
        assert "calc.It object at 0x..." in messages[toy.task.visible_tests[0]], "law 10: no addresses"
        box.write("calc.py", toy.base["calc.py"].content)
        assert box.digest() == before, "running tests leaves nothing behind"


@pytest.mark.sandbox
def test_a_visible_run_that_hangs_says_so(backend: Backend) -> None:
    from graded_toys import with_limits

    toy = with_limits(toy_of_unittest(), exec_seconds=1.0)
    with backend.open(
        BoxSpec(start=toy.start, environment=toy.task.environment, limits=toy.task.limits)
    ) as box:
        box.write("calc.py", b"while True: pass\n")
        report, messages = run_visible_tests(box, toy.task)
    assert report.outcomes == {toy.task.visible_tests[0]: Outcome.MISSING}
    assert messages[""] == "the test run ended early: timed out (limit 1 s)"


@pytest.mark.sandbox
def test_the_environments_variables_reach_the_tests_and_not_the_runner(backend: Backend) -> None:
    from dataclasses import replace

    visible = (
        "import os, sys, unittest\n\n\nclass VisibleTest(unittest.TestCase):\n    def test_zero(self):\n"
        "        import lib_of_src\n        self.assertEqual(os.environ['COLOUR'], 'blue')\n"
        "        self.assertEqual(os.environ['PYTHONPATH'], 'src')\n"
        "        self.assertNotIn('GYM_CODE_CHANNEL', os.environ)\n"
    )
    toy = toy_of_unittest(visible=visible)
    from gym_code.types import Environment, File

    env = Environment(env={"PYTHONPATH": "src", "COLOUR": "blue"})
    toy = replace(
        toy,
        task=replace(toy.task, environment=env),
        base={**toy.base, "src/lib_of_src.py": File(), "src/marshal.py": File(content=b"raise SystemExit\n")},
    )
    assert toy.grade(backend, toy.patch({"calc.py": RIGHT})).value == 1.0


def test_an_unknown_runner_is_named() -> None:
    with pytest.raises(
        TaskError, match=r"no such runner \(expected django or pytest or sympy or unittest, found 'nose'\)"
    ):
        runner_named("nose")


def test_the_file_of_a_test_id() -> None:
    paths = {"tests/test_a.py", "pkg/mod.py"}
    assert runner_named("pytest").file_of("tests/test_a.py::T::test_x[1]", paths) == "tests/test_a.py"
    assert runner_named("pytest").file_of("tests/test_b.py::test_x", paths) is None
    assert runner_named("unittest").file_of("tests.test_a.T.test_x", paths) == "tests/test_a.py"
    assert runner_named("unittest").file_of("tests.test_b.T.test_x", paths) is None


def test_law_3_exit_and_quit_are_there_for_honest_code(backend: Backend) -> None:
    hidden = """
import unittest
from calc import add, stop

class HiddenTest(unittest.TestCase):
    def test_add(self): self.assertEqual(add(2, 3), 5)
    def test_more(self):
        for end in (stop, quit):
            with self.assertRaises(SystemExit) as caught: end(3)
            self.assertEqual(caught.exception.code, 3)
        self.assertTrue(callable(help))
"""
    toy = toy_of_unittest(hidden)
    stop = "def stop(status):\n    exit(status)\n"
    assert toy.grade(backend, toy.patch({"calc.py": RIGHT + stop})).value == 1.0
    assert toy.grade(backend, toy.patch({"calc.py": RIGHT + stop.replace("exit", "int")})).value == 0.0
