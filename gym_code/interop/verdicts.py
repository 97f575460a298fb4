"""SWE-bench's rules: which outcomes of tests make an instance resolved (`swebench.harness.grading`, 5.0.2).

| outcome | FAIL_TO_PASS | PASS_TO_PASS | either, under `fail_only` |
|---|---|---|---|
| passed, xfailed | success | success | success |
| skipped | failure | success where `skipped_kept`, else failure | success |
| failed | failure | failure | failure |
| error, xpassed, missing, duplicated | failure | failure | success, if any test of the run reported |

`fail_only` is for parsers that record failures alone: a test they do not name has passed. A run of which no
test reported is no run there, and resolves nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from gym_code.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gym_code.types import Answer

EvalType = Literal["pass_and_fail", "fail_only"]
Status = dict[str, dict[str, list[str]]]
"""`tests_status` of SWE-bench's report.json: list of tests by kind of test and by `success` or `failure`."""

FAIL_TO_PASS, PASS_TO_PASS = "FAIL_TO_PASS", "PASS_TO_PASS"
FAIL_TO_FAIL, PASS_TO_FAIL = "FAIL_TO_FAIL", "PASS_TO_FAIL"
_PASSING = frozenset({Outcome.PASSED.value, Outcome.XFAILED.value})


def tests_status(
    answer: Answer,
    outcomes: Mapping[str, str],
    *,
    eval_type: EvalType = "pass_and_fail",  # noqa: PT028 (no test: named after the field it makes)
    skipped_kept: bool,
) -> Status:
    """How each test of the answer counts; a test without an outcome is missing.

    outcomes: values of `Outcome` by test id. skipped_kept: whether a skipped PASS_TO_PASS test is kept, as it
    is where SWE-bench's parser sees skips by test (django's does; pytest's summary does not name them).
    FAIL_TO_FAIL and PASS_TO_FAIL are there and empty, as in SWE-bench's own reports.
    """
    if eval_type == "fail_only":
        ids = (*answer.fail_to_pass, *answer.pass_to_pass)
        ran = any(outcomes.get(test, Outcome.MISSING) != Outcome.MISSING for test in ids)
        good = frozenset(Outcome) - {Outcome.FAILED} if ran else frozenset[str]()
        fixed, maintained = good, good
    else:
        fixed = _PASSING
        maintained = _PASSING | {Outcome.SKIPPED.value} if skipped_kept else _PASSING
    return {
        FAIL_TO_PASS: _divided(answer.fail_to_pass, outcomes, fixed),
        PASS_TO_PASS: _divided(answer.pass_to_pass, outcomes, maintained),
        FAIL_TO_FAIL: _divided((), outcomes, frozenset()),
        PASS_TO_FAIL: _divided((), outcomes, frozenset()),
    }


def accepted(answer: Answer, *, skipped_kept: bool) -> dict[str, frozenset[Outcome]]:
    """The outcomes with which each test of an answer counts as passed, for `gym_code.grading.grade`.

    A test of both lists has to satisfy both.
    """
    good = frozenset(map(Outcome, _PASSING))
    kept = good | {Outcome.SKIPPED} if skipped_kept else good
    return dict.fromkeys(answer.pass_to_pass, kept) | dict.fromkeys(answer.fail_to_pass, good)


def is_resolved(status: Mapping[str, Mapping[str, Sequence[str]]]) -> bool:
    """Whether no FAIL_TO_PASS or PASS_TO_PASS test failed: SWE-bench's RESOLVED_FULL."""
    return not status[FAIL_TO_PASS]["failure"] and not status[PASS_TO_PASS]["failure"]


def _divided(tests: Sequence[str], outcomes: Mapping[str, str], good: frozenset[str]) -> dict[str, list[str]]:
    divided: dict[str, list[str]] = {"success": [], "failure": []}
    for test in tests:
        outcome = outcomes.get(test, Outcome.MISSING)
        divided["success" if outcome in good else "failure"].append(test)
    return divided
