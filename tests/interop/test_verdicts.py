"""SWE-bench's rules over outcomes, beside its own functions."""

from __future__ import annotations

from typing import Any

import pytest
import swebench_oracle
from hypothesis import assume, given
from hypothesis import strategies as st

from gym_code.interop import verdicts
from gym_code.types import Answer, Outcome

EMPTY: dict[str, list[str]] = {"success": [], "failure": []}


def answer(fail_to_pass: tuple[str, ...], pass_to_pass: tuple[str, ...]) -> Answer:
    return Answer(
        task_id="t",
        fail_to_pass=fail_to_pass,
        pass_to_pass=pass_to_pass,
        gold_patch=b"",
        test_patch=b"",
    )


def test_passed_and_xfailed_pass_and_all_else_fails() -> None:
    tests = tuple(outcome.value for outcome in Outcome)
    status = verdicts.tests_status(
        answer(tests, tests), dict(zip(tests, tests, strict=True)), runner="pytest"
    )
    good = ["passed", "xfailed"]
    bad = ["failed", "error", "skipped", "xpassed", "duplicated", "missing"]
    assert status == {
        "FAIL_TO_PASS": {"success": good, "failure": bad},
        "PASS_TO_PASS": {"success": good, "failure": bad},
        "FAIL_TO_FAIL": EMPTY,
        "PASS_TO_FAIL": EMPTY,
    }


@pytest.mark.parametrize(
    ("runner", "fixed", "kept"),
    [
        ("pytest", ["xfailed"], ["xfailed"]),
        ("django", [], ["skipped"]),
        ("sympy", [], []),
        ("unittest", [], []),
    ],
)
def test_what_else_counts_is_what_a_parser_sees(runner: str, fixed: list[str], kept: list[str]) -> None:
    tests = ("xfailed", "skipped", "xpassed")
    status = verdicts.tests_status(answer(tests, tests), dict(zip(tests, tests, strict=True)), runner=runner)
    assert status["FAIL_TO_PASS"]["success"] == fixed
    assert status["PASS_TO_PASS"]["success"] == kept


def test_a_test_of_both_kinds_must_satisfy_both() -> None:
    found = verdicts.accepted(answer(("new", "both"), ("old", "both")), runner="django")
    assert found == {
        "new": {Outcome.PASSED},
        "old": {Outcome.PASSED, Outcome.SKIPPED},
        "both": {Outcome.PASSED},
    }


def test_one_failure_of_either_kind_resolves_nothing() -> None:
    tests = answer(("new",), ("old",))
    for outcomes, resolved in (
        ({"new": "passed", "old": "passed"}, True),
        ({"new": "passed", "old": "xfailed"}, True),
        ({"new": "passed", "old": "failed"}, False),
        ({"new": "passed"}, False),
        ({"old": "passed"}, False),
        ({}, False),
    ):
        assert verdicts.is_resolved(verdicts.tests_status(tests, outcomes, runner="pytest")) is resolved


def test_where_only_failures_are_recorded_silence_passes_but_not_that_of_a_run_that_never_was() -> None:
    tests = answer(("new", "hidden"), ("old",))
    ran = verdicts.tests_status(
        tests, {"new": "passed", "old": "error"}, eval_type="fail_only", runner="pytest"
    )
    assert verdicts.is_resolved(ran)
    failed = verdicts.tests_status(tests, {"new": "failed"}, eval_type="fail_only", runner="pytest")
    assert failed["FAIL_TO_PASS"] == {"success": ["hidden"], "failure": ["new"]}
    none = dict.fromkeys(("new", "hidden", "old"), "missing")
    assert not verdicts.is_resolved(
        verdicts.tests_status(tests, none, eval_type="fail_only", runner="pytest")
    )


@pytest.fixture(scope="module")
def theirs() -> Any:
    return swebench_oracle.module("swebench.harness.grading")


SEEN = {"passed": "PASSED", "xfailed": "XFAIL", "failed": "FAILED", "error": "ERROR", "skipped": "SKIPPED"}
"""What their parsers call an outcome; a test that is missing is in no log."""
NAMES = st.sampled_from("abcdef")


@given(
    st.dictionaries(NAMES, st.sampled_from([*SEEN, "missing"])),
    st.lists(NAMES),
    st.lists(NAMES),
    st.sampled_from(["pass_and_fail", "fail_only"]),
)
def test_the_lists_are_those_of_swebench(
    theirs: Any, outcomes: dict[str, str], new: list[str], old: list[str], eval_type: verdicts.EvalType
) -> None:
    seen = {test: SEEN[outcome] for test, outcome in outcomes.items() if outcome in SEEN}
    assume(eval_type == "pass_and_fail" or seen.keys() & {*new, *old})  # Else their log is refused before.
    report = theirs.get_eval_tests_report(
        seen, {"FAIL_TO_PASS": new, "PASS_TO_PASS": old}, eval_type=theirs.EvalType(eval_type)
    )
    tests = answer(tuple(new), tuple(old))
    status = verdicts.tests_status(tests, outcomes, eval_type=eval_type, runner="official")
    assert status == report
    assert verdicts.is_resolved(status) == (theirs.get_resolution_status(report) == "RESOLVED_FULL")
