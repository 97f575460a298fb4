"""Test ids as SWE-bench's log parsers read them: which tests one stands for, and what becomes of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from graded_toys import RIGHT, WRONG, Toy, one_file, toy_of_pytest

from gym_code.grading import flags, grade
from gym_code.grading.box.printed import combined
from gym_code.grading.box.pytest_runner import Names, printed_forms
from gym_code.types import Outcome

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend


@pytest.mark.parametrize(
    ("nodeid", "forms"),
    [
        ("a.py::t", {"a.py::t"}),
        ("a.py::t[x]", {"a.py::t[x]"}),
        ("a.py::t[a b]", {"a.py::t[a", "a.py::t[a b]"}),
        ("a.py::t[a  b]", {"a.py::t[a", "a.py::t[a b]"}),
        ("a.py::t[/usr/lib/x]", {"a.py::t[/usr/lib/x]", "a.py::t[/x]"}),
        ("a.py::t[//usr/x]", {"a.py::t[//usr/x]"}),
        ("a.py::t[/usr/*]", {"a.py::t[/usr/*]"}),
        ("a.py::t[/a/b c]", {"a.py::t[/a/b", "a.py::t[/a/b c]"}),
        ("a.py::t[x[1]-y]z", {"a.py::t[x[1]-y]z", "a.py::t[x[1]-y]"}),
        ("a.py::t[[31mred]", {"a.py::t[[31mred]", "a.py::t[red]"}),
        ("a.py::t[a\x1bb]", {"a.py::t[a\x1bb]", "a.py::t[ab]"}),
        (
            "a.py::t[MouseButton.LEFT-MouseButton.RIGHT]",
            {"a.py::t[MouseButton.LEFT-MouseButton.RIGHT]", "a.py::t[1-3]"},
        ),
    ],
)
def test_what_parsers_read_of_a_line(nodeid: str, forms: set[str]) -> None:
    assert printed_forms(nodeid) == forms


COLLECTED = [
    "a.py::t[a b]",
    "a.py::t[a c]",
    "a.py::t[a]",
    "a.py::u[log(photon / s)]",
    "a.py::u[log(photon, 2)]",
    "a.py::v[/one/x]",
    "a.py::v[/two/x]",
    "a.py::v[/x]",
]


@pytest.mark.parametrize(
    ("wanted", "meant"),
    [
        ("a.py::t[a b]", ["a.py::t[a b]"]),
        ("a.py::t[a]", ["a.py::t[a]"]),
        ("a.py::t[a", ["a.py::t[a b]", "a.py::t[a c]"]),
        ("a.py::t[", ["a.py::t[a b]", "a.py::t[a c]", "a.py::t[a]"]),
        ("a.py::u[log(pho", ["a.py::u[log(photon / s)]", "a.py::u[log(photon, 2)]"]),
        ("a.py::u", []),
        ("a.py::v[/x]", ["a.py::v[/x]"]),
        ("a.py::gone[x", []),
        ("[100%]", []),
    ],
)
def test_which_tests_an_id_stands_for(wanted: str, meant: list[str]) -> None:
    """The test of that id, else those that are printed so, else those that an id cut short begins."""
    assert Names(dict.fromkeys(COLLECTED)).meant_by(wanted) == meant


def test_a_path_stands_for_every_test_that_is_printed_so() -> None:
    collected = [nodeid for nodeid in COLLECTED if nodeid != "a.py::v[/x]"]
    assert Names(collected).meant_by("a.py::v[/x]") == ["a.py::v[/one/x]", "a.py::v[/two/x]"]


@pytest.mark.parametrize(
    ("ends", "one"),
    [
        (["passed", "passed"], "passed"),
        (["passed", "failed", "error"], "failed"),
        (["xfailed", "passed"], "passed"),
        (["xfailed", "xfailed"], "xfailed"),
        (["skipped", "passed", "xpassed"], "passed"),
        (["skipped", "xfailed"], "xfailed"),
        (["skipped", "skipped"], "skipped"),
        (["xpassed"], "xpassed"),
    ],
)
def test_the_end_of_several_tests_in_one(ends: list[str], one: str) -> None:
    assert combined([(end, "") for end in ends])[0] == one


HIDDEN = """
import pytest
from calc import add
SKIP = pytest.mark.skip

@pytest.mark.parametrize("v", ["a b", "a c"])
def test_space(v): assert add(1, 2) == 3
@pytest.mark.parametrize("v", ["/one/x", "/two/x"])
def test_path(v): assert add(1, 2) == (3 if v == "/one/x" else 4)
@pytest.mark.parametrize("v", ["log(photon / s)", "log(photon, 2)", pytest.param("log(pho)", marks=SKIP)])
def test_cut(v): assert add(1, 2) == 3
@pytest.mark.xfail
def test_known(): assert False
@pytest.mark.skip
def test_skipped(): pass
def test_option(colour): assert colour == "blue"
"""
CONFTEST = """
import pytest
def pytest_addoption(parser): parser.addoption("--colour")
@pytest.fixture
def colour(request): return request.config.getoption("--colour")
"""
ENDS = {
    "test_space[a": "passed",
    "test_space[a b]": "passed",
    "test_path[/x]": "failed",
    "test_path[/one/x]": "passed",
    "test_cut[log(pho": "passed",
    "test_known": "xfailed",
    "test_skipped": "skipped",
    "test_option": "passed",
    "test_gone[x": "missing",
}


def instance(hidden: str = HIDDEN, *keep: str) -> Toy:
    """A task as it is imported, with options in its configuration."""
    made = toy_of_pytest(hidden)
    options = made.base["pyproject.toml"].content.replace(b"--nope", b"--colour=blue")
    base = {
        **made.base,
        "conftest.py": replace(made.base["calc.py"], content=CONFTEST.encode()),
        "pyproject.toml": replace(made.base["pyproject.toml"], content=options),
    }
    answer = replace(
        made.answer,
        fail_to_pass=("tests/test_hidden.py::test_space[a",),
        pass_to_pass=keep,
        test_patch=one_file("tests/test_hidden.py", None, hidden),
    )
    return replace(made, task=replace(made.task, ids="swebench"), answer=answer, base=base)


@pytest.mark.sandbox
def test_ids_of_instances_run_with_the_options_of_their_tree(backend: Backend) -> None:
    made = instance(HIDDEN, *(f"tests/test_hidden.py::{name}" for name in list(ENDS)[1:]), "[100%]", "[ 42%]")
    verdict = made.grade(backend, made.answer.gold_patch).verdict
    assert verdict is not None
    ends = {test.partition("::")[2] or test: str(end) for test, end in verdict.report.outcomes.items()}
    assert ends == {**ENDS, "[100%]": "passed", "[ 42%]": "passed"}
    assert (verdict.flags, verdict.controls) == ((), {})


@pytest.mark.sandbox
def test_other_rules_of_passing_decide_the_verdict_and_what_is_run_again(backend: Backend) -> None:
    """A test that is skipped, or fails as expected, passes by the rule that says so and by no other."""
    names = [f"tests/test_hidden.py::{name}" for name in ("test_known", "test_skipped")]
    made = instance(HIDDEN, *names)
    kept = frozenset({Outcome.PASSED, Outcome.XFAILED, Outcome.SKIPPED})
    accepted = dict.fromkeys(names, kept)
    graded = {
        rule is None: grade(
            made.task, made.answer, made.answer.gold_patch, backend, made.start, accepted=rule
        )
        for rule in (None, accepted)
    }
    assert graded[True].value == 0.0
    assert graded[True].parts == {"fail_to_pass": 1.0, "pass_to_pass": 0.0, "shaped": 0.0}
    assert graded[False].value == 1.0
    assert graded[False].verdict is not None
    assert graded[False].verdict.flags == ()
    assert graded[False].parts == {"fail_to_pass": 1.0, "pass_to_pass": 1.0, "shaped": 1.0}
    assert grade(made.task, made.answer, b"", backend, made.start, accepted=accepted).value == 0.0


@pytest.mark.sandbox
def test_law_4_a_run_in_which_nothing_passes_is_still_watched(backend: Backend) -> None:
    """What forges an expected failure is told by the test that must fail, as what forges a pass is."""
    names = ["tests/test_hidden.py::test_known"]
    made = replace(instance(HIDDEN), answer=replace(instance(HIDDEN).answer, fail_to_pass=tuple(names)))
    forged = "import pytest, _pytest.python as own\nown.Function.runtest = lambda self: pytest.xfail('ha')\n"
    rule = dict.fromkeys(names, frozenset({Outcome.XFAILED}))
    reward = grade(
        made.task, made.answer, made.patch({"calc.py": forged + RIGHT}), backend, made.start, accepted=rule
    )
    assert reward.value == 0.0
    assert reward.verdict is not None
    assert reward.verdict.flags == (flags.RUNNER_TAMPERED,)


@pytest.mark.sandbox
def test_law_4_a_plugin_by_metadata_of_the_agents_is_put_back(backend: Backend) -> None:
    """Installed plugins are loaded for instances, and metadata in the tree would install one."""
    made = instance()
    attack: dict[str, str | None] = {
        "evil.dist-info/METADATA": "Metadata-Version: 2.1\nName: evil\nVersion: 1\n",
        "evil.dist-info/entry_points.txt": "[pytest11]\nevil = plugin_of_mine\n",
        "plugin_of_mine.py": "import os\nos._exit(0)\n",
    }
    for code, value in ((WRONG + "#\n", 0.0), (RIGHT, 1.0)):
        reward = made.grade(backend, made.patch({**attack, "calc.py": code}))
        assert reward.value == value, reward.verdict
        assert reward.verdict is not None
        assert flags.STARTUP_RESTORED in reward.verdict.flags


@pytest.mark.sandbox
def test_options_that_pytest_does_not_have_are_passed_over(backend: Backend) -> None:
    made = replace(instance(), base=toy_of_pytest().base)
    assert made.grade(backend, made.answer.gold_patch).value == 1.0
    assert made.grade(backend, b"").value == 0.0


@pytest.mark.sandbox
def test_a_pytest_that_cannot_start_is_no_fault_of_the_agents_where_it_never_could(backend: Backend) -> None:
    made = instance()
    base = {**made.base, "conftest.py": replace(made.base["calc.py"], content=b"import nothing_here\n")}
    reward = replace(made, base=base).grade(backend, b"")
    assert reward.value is None
    assert reward.verdict is not None
    assert reward.verdict.flags == (flags.NOTHING_REPORTED, flags.GOLD_FAILED)
    expected = "RuntimeError: pytest could not start: an option or a conftest file is wrong"
    assert reward.verdict.controls["failure"] == expected


FAKE_PYTEST = """
import sys
for frame in [sys._getframe()]:
    while frame is not None:
        report = frame.f_locals.get("report")
        if report is not None:
            report.outcome(0, "passed")
            report.canary("failed")
        frame = frame.f_back
"""


@pytest.mark.sandbox
@pytest.mark.parametrize(
    "name", ["pytest.py", "pytest/__init__.py", "_pytest/__init__.py", "pluggy.py", "re.py"]
)
def test_law_4_nothing_new_in_the_tree_stands_in_for_the_runner(backend: Backend, name: str) -> None:
    made = instance()
    for code, value in ((WRONG + "#\n", 0.0), (RIGHT, 1.0)):
        reward = made.grade(backend, made.patch({name: FAKE_PYTEST, "calc.py": code}))
        assert reward.value == value, reward.verdict


@pytest.mark.sandbox
def test_an_expected_failure_of_what_was_to_be_fixed_is_flagged(backend: Backend) -> None:
    """Code that calls `pytest.xfail` resolves an instance by SWE-bench's rule; a reader can see it."""
    made = instance()
    rule = dict.fromkeys(made.answer.fail_to_pass, frozenset({Outcome.PASSED, Outcome.XFAILED}))
    later = "import pytest\n\n\ndef add(a, b):\n    pytest.xfail('later')\n"
    seen = {}
    for code in (later, RIGHT):
        patch = made.patch({"calc.py": code})
        verdict = grade(made.task, made.answer, patch, backend, made.start, accepted=rule).verdict
        assert verdict is not None
        seen[code] = (verdict.resolved, verdict.flags)
    assert seen == {later: (True, (flags.EXPECTED_FAILURE,)), RIGHT: (True, ())}
