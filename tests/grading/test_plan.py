"""What of a patch reaches the grading box: worked out in memory, so shown without a box."""

from __future__ import annotations

import pytest
from graded_toys import RIGHT, one_file, toy_of_pytest, toy_of_unittest

from gym_code.grading import flags
from gym_code.grading.plan import Refused, make_plan
from gym_code.grading.reward import default_timeout
from gym_code.grading.run import Plan
from gym_code.grading.startup import directories_for_tests, is_startup_change, shadows
from gym_code.types import File

TESTS = ["tests/test_hidden.py"]


def plan_of(changes: dict[str, str | None], gold: bytes | None = None) -> Plan:
    toy = toy_of_pytest()
    answer = toy.answer
    if gold is not None:
        from dataclasses import replace

        answer = replace(answer, gold_patch=gold)
    plan = make_plan(toy.task, answer, toy.base, toy.patch(changes))
    assert not isinstance(plan, Refused)
    return plan


def test_law_5_the_box_receives_the_patch_and_the_hidden_tests() -> None:
    plan = plan_of({"calc.py": RIGHT, "docs/new.md": "x\n"})
    assert sorted(plan.changes) == ["calc.py", "docs/new.md", "tests/test_hidden.py"]
    assert plan.changes["calc.py"] == File(content=RIGHT.encode())
    assert plan.flags == ()


def test_an_empty_patch_stages_the_hidden_tests_alone() -> None:
    assert sorted(plan_of({}).changes) == ["tests/test_hidden.py"]


def test_what_the_gold_patch_touches_too_is_the_agents() -> None:
    gold = one_file("conftest.py", None, "x = 1\n")
    plan = plan_of({"conftest.py": "y = 2\n"}, gold)
    assert plan.changes["conftest.py"] == File(content=b"y = 2\n")
    assert plan.flags == ()
    assert plan_of({"conftest.py": "y = 2\n"}).flags == (flags.STARTUP_RESTORED,)


def test_a_new_test_of_the_agents_own_is_left_out_without_a_flag() -> None:
    plan = plan_of({"tests/test_mine.py": "def test(): pass\n", "calc.py": RIGHT})
    assert "tests/test_mine.py" not in plan.changes
    assert plan.flags == ()


@pytest.mark.parametrize(
    ("path", "before", "after", "steers"),
    [
        ("conftest.py", None, "x", True),
        ("a/b/conftest.py", "x", None, True),
        ("pytest.ini", None, "", True),
        ("lib/x.pth", None, "import os", True),
        ("sitecustomize.py", None, "", True),
        ("evil.dist-info/entry_points.txt", None, "[pytest11]\nevil = calc\n", True),
        ("calc.py", "x", "y", False),
        ("setup.cfg", "[metadata]\nname = a\n", "[metadata]\nname = b\n", False),
        ("setup.cfg", "[metadata]\nname = a\n", "[tool:pytest]\naddopts = -x\n", True),
        ("setup.cfg", None, "not an ini", True),
        ("tox.ini", "[tox]\n", "[tox]\n[pytest]\n", True),
        ("setup.cfg", "[metadata]\n", "[metadata]\n[tool:pytest] # ]\naddopts = -x\n", True),
        ("setup.cfg", "[metadata]\n", "[metadata]\na = b\u2028[tool:pytest]\u2028addopts = -x\n", True),
        ("setup.cfg", "[tool:pytest]\na = b\n", "[metadata]\n\n[tool:pytest]\n# why\na = b\n", False),
        ("pyproject.toml", "[project]\n", "x = " + "9" * 5000, True),
        ("pyproject.toml", "[project]\n", "x = " + "[" * 5000, True),
        ("pyproject.toml", "x = " + "[" * 5000, "x = " + "[" * 5000, False),
        ("pyproject.toml", "[project]\n", "[project]\nx = " + "9" * 400, False),
        ("pyproject.toml", '[project]\nname = "a"\n', '[project]\nname = "b"\n', False),
        ("pyproject.toml", '[project]\nname = "a"\n', '[tool.pytest.ini_options]\naddopts = "-x"\n', True),
        ("pyproject.toml", '[tool.pytest.ini_options]\naddopts = "-x"\n', None, True),
        ("pyproject.toml", '[project]\nname = "a"\n', "= broken", True),
    ],
)
def test_which_changes_steer_the_runner(
    path: str, before: str | None, after: str | None, steers: bool
) -> None:
    files = [None if text is None else File(content=text.encode()) for text in (before, after)]
    assert is_startup_change(path, *files) is steers


@pytest.mark.parametrize(
    ("path", "shadow"),
    [
        ("tests.py", True),
        ("tests.cpython-311-x86_64-linux-gnu.so", True),
        ("tests/test_hidden/__init__.py", True),
        ("tests/test_hidden.abi3.so", True),
        ("tests/test_hidden.py", False),
        ("tests/test_hidden_too.py", False),
        ("testsuite.py", False),
        ("tests.md", False),
        ("src/tests.py", False),
    ],
)
def test_which_files_stand_in_for_a_test_module(path: str, shadow: bool) -> None:
    assert shadows(path, TESTS) is shadow


def test_directories_for_tests_alone() -> None:
    paths = ["tests/unit/test_a.py", "pkg/test/test_b.py", "pkg/mod_test.py", "test_top.py"]
    assert directories_for_tests(paths) == {"tests", "pkg/test"}


def test_a_patch_too_large_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gym_code.grading.plan.MAX_PATCH_BYTES", 10)
    toy = toy_of_unittest()
    plan = make_plan(toy.task, toy.answer, toy.base, toy.answer.gold_patch)
    assert isinstance(plan, Refused)
    assert plan.flag == flags.PATCH_UNREADABLE


def test_law_3_what_a_patch_does_to_our_readers_is_the_agents(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = toy_of_unittest()
    for error in (MemoryError(), RecursionError("too deep"), ValueError("odd")):

        def fail(*args: object, error: Exception = error) -> bool:
            raise error

        monkeypatch.setattr("gym_code.grading.plan.is_startup_change", fail)
        plan = make_plan(toy.task, toy.answer, toy.base, toy.patch({"other.py": "x = 1\n"}))
        assert isinstance(plan, Refused)
        assert plan.flag == flags.PATCH_UNREADABLE
        assert type(error).__name__ in plan.reason
    assert isinstance(make_plan(toy.task, toy.answer, toy.base, toy.answer.gold_patch), Plan)


@pytest.mark.parametrize("value", ["9" * 5000, "[" * 5000])
def test_law_3_a_configuration_beyond_our_parser_is_put_back(value: str) -> None:
    toy = toy_of_pytest()
    honest = toy.patch({"calc.py": RIGHT, "pyproject.toml": f"x = {value}\n"})
    plan = make_plan(toy.task, toy.answer, toy.base, honest)
    assert isinstance(plan, Plan)
    assert plan.flags == (flags.STARTUP_RESTORED,)
    assert set(plan.changes) == {"calc.py", "tests/test_hidden.py"}


def test_modules_of_unittest_ids_are_known_to_the_box() -> None:
    toy = toy_of_unittest()
    plan = make_plan(toy.task, toy.answer, toy.base, b"")
    assert isinstance(plan, Plan)
    hidden = ("tests.test_hidden", "tests/test_hidden.py")
    assert plan.modules[toy.answer.fail_to_pass[0]] == hidden
    assert plan.modules[toy.answer.pass_to_pass[0]] == ("tests.test_visible", "tests/test_visible.py")


def test_the_time_a_run_may_take() -> None:
    from dataclasses import replace

    task = toy_of_unittest().task
    assert default_timeout(task) == 20.0
    assert default_timeout(replace(task, provenance={"gold_seconds": 1.5})) == 20.0
    assert default_timeout(replace(task, provenance={"gold_seconds": 30})) == 300.0


def test_every_flag_is_in_the_table() -> None:
    assert len(flags.ALL) == 18
    for flag in flags.ALL:
        assert f"| {flag} |" in (flags.__doc__ or "")
