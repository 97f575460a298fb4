"""Every reason for which a function is turned down before anything is cut, each on a small repository."""

import pytest
from synth_toy import PlainBox

from gym_code.synth import select
from gym_code.synth.covered import run_suite
from gym_code.synth.funnel import STAGES, Funnel
from gym_code.synth.hidden import TestIndex
from gym_code.synth.layout import find_layout
from gym_code.synth.removal import functions
from gym_code.types import File

SOURCE = b"""
def kept(x):
    if x > 1:
        return 2
    return 3

def one_line(x): return x

def documented():
    "A docstring alone."

def unseen(x):
    y = x + 1
    return y

def plain(x):
    return kept(x)

def early(x):
    y = x * 2
    return y

EARLY = early(2)

def copied(number):
    result_of_it = number * number + 1
    return result_of_it - number * 3

def dynamic(x):
    while x > 9:
        x -= 1
    return x

def mixed(x):
    x = x or 4
    return [x]

def always(x):
    return x if x else None
"""

CASES = b"""
class Mixin:
    def test_mixed(self):
        from pkg import mixed, always
        always(1)
        assert mixed(0) == [4]
"""

TESTS = b"""
import pytest
from cases import Mixin
from pkg import *

def test_kept():
    assert kept(always(3)) == 2

def test_plain():
    always(early(1))
    assert plain(1) == 3

def test_copied():
    assert copied(always(2)) == -1

class TestMixed(Mixin):
    pass

def later(value):
    exec("def test(self): assert self.f(%d) == 9" % value, space := {})
    space["test"].__globals__["f"] = None
    return space["test"]

class TestDynamic:
    @staticmethod
    def f(x):
        return always(dynamic(x))
    test_made = later(12)
"""

FILES = {
    "pkg/__init__.py": File(content=SOURCE),
    "notes.md": File(
        content=b"> result_of_it = number * number + 1\n> return result_of_it - number * 3\n\nAs it was.\n"
    ),
    "cases.py": File(content=CASES),
    "test_pkg.py": File(content=TESTS),
    "tox.ini": File(content=b"[testenv]\ndeps = pytest\n"),
}


@pytest.fixture(scope="module")
def selected(tmp_path_factory):
    layout = find_layout(FILES)
    found = functions("pkg/__init__.py", SOURCE)
    layout = type(layout)(
        root="", modules=("pkg",), sources=("pkg/__init__.py",), tests=layout.tests, runner="pytest"
    )
    box = PlainBox(FILES, tmp_path_factory.mktemp("select"))
    run = run_suite(box, layout, timeout=60, functions=found)
    index = TestIndex(FILES, layout, run)
    return select.select(found, FILES, layout, index, run, run.passed), run


def test_each_function_is_turned_down_for_its_own_reason(selected):
    (chosen, funnel), run = selected
    assert len(run.passed) == 5, run.console
    assert [function.qualname for function in chosen] == ["kept"]
    assert [stage.count for stage in funnel.stages] == [10, 7, 6, 1]
    assert funnel.lost("covered") == {select.NO_BODY: 2, select.NOT_COVERED: 1}
    assert funnel.lost("non-trivial") == {select.TRIVIAL: 1}
    assert funnel.lost("selected") == {
        select.AT_IMPORT: 1,
        select.ELSEWHERE: 1,
        select.EVERY_TEST: 1,
        select.INHERITED: 1,
        select.MADE_AT_RUN_TIME: 1,
    }


def test_some_tests_of_a_suite_can_be_run_alone(tmp_path):
    layout = find_layout(FILES)
    wanted = "test_pkg.py::test_kept"
    run = run_suite(PlainBox(FILES, tmp_path), layout, timeout=60, files=["test_pkg.py"], tests=[wanted])
    assert (set(run.outcomes), run.complete) == ({wanted}, True)
    case = b"import unittest\nclass T(unittest.TestCase):\n" + b"".join(
        b"    def test_%b(self):\n        pass\n" % name for name in (b"a", b"b")
    )
    files = {"pkg/__init__.py": File(), "test_u.py": File(content=case)}
    run = run_suite(PlainBox(files, tmp_path), find_layout(files), timeout=60, tests=["test_u.T.test_b"])
    assert (set(run.outcomes), run.complete) == ({"test_u.T.test_b"}, True)


def test_a_funnel_adds_up():
    funnel = Funnel.begin(9).then(["a", "b", "a"]).then([]).then(["c"]).then([]).then(["d"])
    assert [stage.count for stage in funnel.stages] == [9, 6, 6, 5, 5, 4]
    assert [stage.name for stage in funnel.stages] == list(STAGES)
    assert funnel.lost("covered") == {"a": 2, "b": 1}
    assert (funnel.share("accepted", "tried"), Funnel.begin(0).share("functions", "functions")) == (0.8, None)
    assert funnel.to_json()[1] == {"stage": "covered", "count": 6, "lost": {"a": 2, "b": 1}}
