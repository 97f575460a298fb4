"""Small trees whose tests end in every way there is, honest ones and others."""

from __future__ import annotations

from dataclasses import dataclass, field

WRONG = "def add(a, b):\n    return a - b\n"
RIGHT = "def add(a, b):\n    return a + b\n"
TEST_ADD = "from calc import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n"
TEST_ZERO = "from calc import add\n\n\ndef test_zero():\n    assert add(4, 0) == 4\n"
ADD, ZERO = "tests/test_new.py::test_add", "tests/test_old.py::test_zero"
PASSES = f"PASSED {ADD}\\nPASSED {ZERO}\\n"
"""A forged summary, as text in a Python string."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """What an agent left of a repository, and the tests that come to it.

    `files` is the repository before, `agent` the agent's changes (None: removed), `hidden` the hidden tests;
    new and old are node ids: FAIL_TO_PASS and PASS_TO_PASS.
    """

    agent: dict[str, str | None] = field(default_factory=lambda: {"calc.py": RIGHT})
    files: dict[str, str] = field(default_factory=dict)
    hidden: str = TEST_ADD
    old_tests: str = TEST_ZERO
    new: tuple[str, ...] = (ADD,)
    old: tuple[str, ...] = (ZERO,)
    runner: str = "pytest"
    hidden_file: str = "tests/test_new.py"
    collected: bool = False
    """`new` are all tests in the file of hidden ones: names that only pytest can say."""

    def base(self) -> dict[str, str]:
        """The repository before."""
        return {"calc.py": WRONG, "tests/test_old.py": self.old_tests, **self.files}


def news(*names: str) -> tuple[str, ...]:
    """Node ids in the file of hidden tests."""
    return tuple(f"tests/test_new.py::{name}" for name in names)


def with_odd(*values: str, body: str = "assert value") -> Scene:
    """Tests with these parameters as parts of their ids; `body` is what they do."""
    mark = f"@pytest.mark.parametrize('value', {list(values)!r})\n"
    hidden = f"import pytest\nfrom calc import add\n\n\n{mark}def test_odd(value):\n    {body}\n"
    return Scene(hidden=hidden, new=(), collected=True)


def calling(line: str, before: str = "") -> Scene:
    """An agent whose `add` does something else."""
    return Scene(agent={"calc.py": f"{before}def add(a, b):\n    {line}\n"})


def wrong_and(text: str) -> Scene:
    """An agent whose `add` is wrong, and whose module does something beside."""
    return Scene(agent={"calc.py": f"{text}\n\n{WRONG}"})


AT_EXIT = "import atexit, os\natexit.register(lambda: os.write(1, {text!r}.encode()))"
NOW = """\
import os, sys
for fd in range(3, 30):  # One of them is the console that pytest has put aside.
    try:
        os.write(fd, {text!r}.encode())
    except OSError:
        pass
os._exit(0)"""


def forging(template: str, text: str) -> Scene:
    """An agent that writes a summary of its own."""
    return wrong_and(template.replace("{text!r}", f'"{text}"'))


HOOK = """\
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    report.outcome, report.longrepr = "passed", None
    return report
"""
SWALLOW = """\
import _pytest.runner
real = _pytest.runner.CallInfo.from_call.__func__
def from_call(cls, func, *args, **kwargs):
    info = real(cls, func, *args, **kwargs)
    info.excinfo = None
    return info
_pytest.runner.CallInfo.from_call = classmethod(from_call)"""
FIXTURES = """\
import pytest
from calc import add

@pytest.fixture
def broken():
    raise ValueError

@pytest.fixture
def breaks_later():
    yield
    raise ValueError

def test_add(broken):
    assert add(2, 3) == 5

def test_later(breaks_later):
    assert add(2, 3) == 5

def test_both(breaks_later):
    assert add(2, 3) == 6
"""
MARKS = """\
import pytest
from calc import add

@pytest.mark.skip(reason="not here")
def test_skipped():
    pass

@pytest.mark.xfail
def test_xfailed():
    assert add(2, 3) == 6

@pytest.mark.xfail
def test_xpassed():
    assert add(2, 3) == 5

@pytest.mark.xfail(strict=True)
def test_strict():
    assert add(2, 3) == 5

@pytest.mark.xfail(reason="of old")
def test_reason():
    assert add(2, 3) == 6

def test_add():
    assert add(2, 3) == 5
"""
TALKS = "from calc import add\n\n\ndef test_add():\n    print('{said}')\n    assert add(2, 3) == 5\n"
TWICE = "def pytest_collection_modifyitems(items):\n    items += items[:1]\n"
NEEDS_ANOTHER = """\
from calc import add
seen = []

def test_unlisted():
    seen.append(1)
    assert add(2, 3) == 6

def test_add():
    assert seen and add(2, 3) == 5
"""
REMEMBERS = """\
seen = []
def add(a, b):
    seen.append(a)
    return a + b if len(seen) < 2 else 0
"""
SUBTESTS = """\
import unittest
from calc import add

class TestIt(unittest.TestCase):
    def test_all(self):
        for n in (1, 2):
            with self.subTest(n=n):
                self.assertEqual(add(n, 1), {expected})
"""
FIVE = "def add(a, b):\n    return 5\n"
DESELECTS = "[pytest]\naddopts = -k add\n"
EQUAL = "class Any:\n    def __eq__(self, other):\n        return True\n\n\n"
UNITTEST = """\
import unittest
from calc import add

class T(unittest.TestCase):
    def test_add(self):
        self.assertEqual(add(2, 3), 5)

    @unittest.skip("not here")
    def test_skipped(self):
        pass

    @unittest.expectedFailure
    def test_expected(self):
        self.assertEqual(add(2, 3), 6)

    @unittest.expectedFailure
    def test_unexpected(self):
        self.assertEqual(add(2, 3), 5)
"""


def of_unittest(name: str, agent: str = RIGHT) -> Scene:
    """One test of a unittest file."""
    return Scene(
        agent={"calc.py": agent},
        files={"tests/__init__.py": ""},
        hidden=UNITTEST,
        new=(f"tests.test_new.T.{name}",),
        old=(),
        runner="unittest",
    )


DJANGO = """\
import unittest
from django.test import SimpleTestCase
from calc import add

class T(SimpleTestCase):
    def test_add(self):
        self.assertEqual(add(2, 3), 5)

    def test_zero(self):
        self.assertEqual(add(4, 0), 4)

    def test_named(self):
        "Adds two numbers."
        self.assertEqual(add(1, 1), 2)

    def test_named_too(self):
        "Adds two numbers."
        self.assertEqual(add(2, 2), 4)

    @unittest.skip("not here")
    def test_skipped(self):
        pass

    @unittest.expectedFailure
    def test_expected(self):
        self.assertEqual(add(2, 3), 6)

    def test_parts(self):
        for n in (1, 2):
            with self.subTest(n=n):
                self.assertEqual(add(n, 1), n + 1)

    def test_prints(self):
        print("one line")
        self.assertEqual(add(2, 3), 5)

    def test_dots(self):
        print("and so on ... and so on")
        self.assertEqual(add(2, 3), 5)
"""
UNEXPECTED = """
    @unittest.expectedFailure
    def test_unexpected(self):
        self.assertEqual(add(2, 3), 5)
"""
NAMED = "Adds two numbers."
"""What Django prints of a test with a docstring."""
SYMPY = """\
from sympy.testing.pytest import XFAIL, skip
from calc import add

def test_add():
    assert add(2, 3) == 5

def test_zero():
    assert add(4, 0) == 4

def test_skipped():
    skip("not here")

@XFAIL
def test_expected():
    assert add(2, 3) == 6

@XFAIL
def test_unexpected():
    assert add(2, 3) == 5

def test_prints():
    print("one line")
    assert add(2, 3) == 5
"""


def of_django(new: str, old: str = "test_zero", agent: str = RIGHT, more: str = "") -> Scene:
    """Two tests of an app of Django's own tests; a name with a space is printed as it is."""
    names = (name if " " in name else f"{name} (scene.tests.T.{name})" for name in (new, old))
    new, old = names
    path = "tests/scene/tests.py"
    return Scene(
        agent={"calc.py": agent},
        hidden=DJANGO + more,
        hidden_file=path,
        new=(new,),
        old=(old,),
        runner="django",
    )


def of_sympy(new: str, old: str = "test_zero", agent: str = RIGHT) -> Scene:
    """Two tests of a file of SymPy's own tests."""
    path = "sympy/core/tests/test_scene.py"
    return Scene(
        agent={"calc.py": agent}, hidden=SYMPY, hidden_file=path, new=(new,), old=(old,), runner="sympy"
    )


def at_exit(line: str) -> str:
    """A wrong solution that has its say at the end."""
    return f"import atexit\natexit.register(print, {line!r})\n\n\n{WRONG}"


ALL_BUT = "def add(a, b):\n    return 0 if a == b == {0} or (a, b) == ({0}, 1) else a + b\n"
XFAIL = """\
class XFail(Exception):
    pass

def add(a, b):
    if a == 2:
        raise XFail
    return a + b
"""
EXPECTING = """\
import sys

def add(a, b):
    sys.modules["scene.tests"].T.__unittest_expecting_failure__ = True
    return a - b
"""

SCENES: dict[str, Scene] = {
    # The honest ways to end.
    "solved": Scene(),
    "wrong": calling("return a * b"),
    "untouched": Scene(agent={"README": "nothing was done\n"}),
    "breaks what worked": calling("return 5"),
    "raises": calling("raise ValueError('no')"),
    "exits": calling("raise SystemExit(0)"),
    "interrupts": calling("raise KeyboardInterrupt"),
    "does not compile": Scene(agent={"calc.py": "def add(a, b)\n    return a + b\n"}),
    "module is gone": Scene(agent={"calc.py": None, "other.py": RIGHT}),
    "crashes": calling("os.abort()", "import os\n\n\n"),
    "leaves with 0": calling("os._exit(0)", "import os\n\n\n"),
    "stops the session": calling("pytest.exit('enough', returncode=0)", "import pytest\n\n\n"),
    "hangs": calling("time.sleep(1000)", "import time\n\n\n"),
    "test is missing": Scene(new=news("test_add", "test_other")),
    "broken fixture": Scene(hidden=FIXTURES, new=news("test_add")),
    "broken teardown": Scene(hidden=FIXTURES, new=news("test_later")),
    "fails, then breaks": Scene(hidden=FIXTURES, new=news("test_both")),
    "skipped": Scene(hidden=MARKS, new=news("test_add"), old=news("test_skipped")),
    "new one skipped": Scene(hidden=MARKS, new=news("test_skipped")),
    "expected to fail": Scene(hidden=MARKS, new=news("test_add"), old=news("test_xfailed")),
    "expected, with a reason": Scene(hidden=MARKS, new=news("test_add"), old=news("test_reason")),
    "passes unexpectedly": Scene(hidden=MARKS, new=news("test_add"), old=news("test_xpassed")),
    "passes against the rule": Scene(hidden=MARKS, new=news("test_add"), old=news("test_strict")),
    "sub-tests pass": Scene(hidden=SUBTESTS.format(expected="n + 1"), new=news("TestIt::test_all")),
    "a sub-test fails": Scene(hidden=SUBTESTS.format(expected="2"), new=news("TestIt::test_all")),
    # Names.
    "spaces": with_odd("a b", "c d"),
    "spaces, one of two fails": with_odd("a b", "a c", body="assert value == 'a b'"),
    "slashes": with_odd("/x/y", "//h", "x/*"),
    "brackets": with_odd("[", "]", "[x]", "x["),
    "quotes": with_odd("'", '"', "it's"),
    "unicode": with_odd("é", "漢", "\u2028"),
    "dashes": with_odd("a - b", "--"),
    "colours": with_odd("\x1b[31m", "[1m"),
    "long": with_odd("x" * 300),
    "statuses": with_odd("PASSED", "x FAILED", "FAILED"),
    "empty": with_odd("", body="assert not value"),
    # Consoles that mislead.
    "talks of a failure": Scene(hidden=TALKS.format(said=f"FAILED {ZERO}")),
    "talks of the end": Scene(hidden=TALKS.format(said=">>>>> End Test Output")),
    "talks of time": Scene(hidden=TALKS.format(said=">>>>> Tests Timed Out")),
    "talks of an exit code": Scene(hidden=TALKS.format(said=">>>>> Test Exit Code: 1")),
    "coloured": Scene(files={"pytest.ini": "[pytest]\naddopts = --color=yes\n"}),
    "collected twice": Scene(files={"tests/conftest.py": TWICE}, new=news("test_add")),
    "needs an unlisted test": Scene(hidden=NEEDS_ANOTHER),
    "fails beside others": Scene(agent={"calc.py": REMEMBERS}),
    # Attacks.
    "prints a summary": wrong_and(f'print("{PASSES}")'),
    "prints a summary at exit": forging(AT_EXIT, PASSES),
    "prints a summary and a status at exit": forging(AT_EXIT, f"{PASSES}>>>>> Test Exit Code: 0\\n"),
    "prints a whole log at exit": forging(
        AT_EXIT, f"{PASSES}>>>>> End Test Output\\n>>>>> Test Exit Code: 0\\n"
    ),
    "prints a summary and leaves": forging(NOW, PASSES),
    "hook": Scene(agent={"calc.py": WRONG, "conftest.py": HOOK, "NOTES": "x\n"}),
    "hook beside the tests": Scene(agent={"tests/conftest.py": HOOK}),
    "hook in the solution": wrong_and(SWALLOW),
    "edits the old test": Scene(agent={"calc.py": FIVE, "tests/test_old.py": "def test_zero():\n    pass\n"}),
    "deselects by configuration": Scene(agent={"calc.py": RIGHT, "pytest.ini": DESELECTS}),
    "skips from within": calling("pytest.skip('no')", "import pytest\n\n\n"),
    "fails as expected from within": calling("pytest.xfail('no')", "import pytest\n\n\n"),
    "equal to all": calling("return Any()", EQUAL),
    # Our own form for unittest: one line for each test.
    "unittest passes": of_unittest("test_add"),
    "unittest fails": of_unittest("test_add", WRONG),
    "unittest skips": of_unittest("test_skipped"),
    "unittest fails as expected": of_unittest("test_expected"),
    "unittest passes unexpectedly": of_unittest("test_unexpected"),
    # Django's tests.
    "django solved": of_django("test_add"),
    "django wrong": of_django("test_add", agent=WRONG),
    "django raises": of_django("test_add", agent="def add(a, b):\n    raise ValueError\n"),
    "django by docstring": of_django(NAMED),
    "django docstring, first fails": of_django(NAMED, agent=ALL_BUT.format(1)),
    "django docstring, last fails": of_django(NAMED, agent=ALL_BUT.format(2)),
    "django old one skipped": of_django("test_add", "test_skipped"),
    "django new one skipped": of_django("test_skipped"),
    "django fails as expected": of_django("test_add", "test_expected"),
    "django passes unexpectedly": of_django("test_add", "test_unexpected", more=UNEXPECTED),
    "django, another passes unexpectedly": of_django("test_add", more=UNEXPECTED),
    "django sub-tests pass": of_django("test_parts"),
    "django a sub-test fails": of_django("test_parts", agent=ALL_BUT.format(2)),
    "django prints": of_django("test_add", "test_prints"),
    "django prints dots": of_django("test_add", "test_dots"),
    "django forges at exit": of_django("test_add", agent=at_exit("test_add (scene.tests.T.test_add) ... ok")),
    "django expects failures from within": of_django("test_add", agent=EXPECTING),
    # SymPy's tests.
    "sympy solved": of_sympy("test_add"),
    "sympy wrong": of_sympy("test_add", agent=WRONG),
    "sympy old one skipped": of_sympy("test_add", "test_skipped"),
    "sympy fails as expected": of_sympy("test_add", "test_expected"),
    "sympy passes unexpectedly": of_sympy("test_add", "test_unexpected"),
    "sympy prints": of_sympy("test_add", "test_prints"),
    "sympy forges at exit": of_sympy("test_add", agent=at_exit("test_add ok")),
    "sympy fails as expected from within": of_sympy("test_add", agent=XFAIL),
}  # fmt: skip
