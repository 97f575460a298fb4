"""SWE-bench's rules: which outcomes of tests make an instance resolved (`swebench.harness.grading`, 5.0.2).

| outcome | FAIL_TO_PASS | PASS_TO_PASS | either, under `fail_only` |
|---|---|---|---|
| passed | success | success | success |
| xfailed | success for `pytest` and `official`, else failure | the same | success |
| skipped | failure | success for `django` and `official`, else failure | success |
| failed | failure | failure | failure |
| error, xpassed, missing, duplicated | failure | failure | success, if any test of the run reported |

By runner, since what counts is what its parsers see of a run: pytest's summary names the tests that failed as
expected and not those that were skipped, Django's the other way round, SymPy's neither. `official`: the
outcomes are what its parsers saw. `fail_only` is for parsers that record failures alone: a test they do not
name has passed. A run of which no test reported is no run there, and resolves nothing.
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
_SEES_XFAILED, _SEES_SKIPPED = ("pytest", "official"), ("django", "official")


def accepted(
    answer: Answer, *, runner: str, eval_type: EvalType = "pass_and_fail"
) -> dict[str, frozenset[Outcome]]:
    """Which outcomes count as success, by test id; an id in both lists must satisfy both.

    runner: `Task.runner`, or `official`.
    """
    fixed, kept = _good(runner, eval_type)
    found = dict.fromkeys(answer.pass_to_pass, kept)
    return found | {test: fixed & found.get(test, fixed) for test in answer.fail_to_pass}


def tests_status(
    answer: Answer,
    outcomes: Mapping[str, str],
    *,
    runner: str,
    eval_type: EvalType = "pass_and_fail",  # noqa: PT028 (no test: named after the field it makes)
) -> Status:
    """How each test of the answer counts; a test without an outcome is missing.

    outcomes: values of `Outcome` by test id. runner: `Task.runner`, or `official`. FAIL_TO_FAIL and
    PASS_TO_FAIL are there and empty, as in SWE-bench's own reports.
    """
    fixed, kept = _good(runner, eval_type)
    ids = (*answer.fail_to_pass, *answer.pass_to_pass)
    if not any(outcomes.get(test, Outcome.MISSING) != Outcome.MISSING for test in ids):
        fixed = kept = frozenset()
    return {
        FAIL_TO_PASS: _divided(answer.fail_to_pass, outcomes, fixed),
        PASS_TO_PASS: _divided(answer.pass_to_pass, outcomes, kept),
        FAIL_TO_FAIL: _divided((), outcomes, frozenset()),
        PASS_TO_FAIL: _divided((), outcomes, frozenset()),
    }


def is_resolved(status: Mapping[str, Mapping[str, Sequence[str]]]) -> bool:
    """Whether no FAIL_TO_PASS or PASS_TO_PASS test failed: SWE-bench's RESOLVED_FULL."""
    return not status[FAIL_TO_PASS]["failure"] and not status[PASS_TO_PASS]["failure"]


def _good(runner: str, eval_type: EvalType) -> tuple[frozenset[Outcome], frozenset[Outcome]]:
    """What counts for FAIL_TO_PASS and for PASS_TO_PASS."""
    if eval_type == "fail_only":
        silent = frozenset(Outcome) - {Outcome.FAILED}
        return silent, silent
    fixed = frozenset({Outcome.PASSED, *([Outcome.XFAILED] if runner in _SEES_XFAILED else [])})
    return fixed, fixed | frozenset([Outcome.SKIPPED] if runner in _SEES_SKIPPED else [])


def _divided(
    tests: Sequence[str], outcomes: Mapping[str, str], good: frozenset[Outcome]
) -> dict[str, list[str]]:
    divided: dict[str, list[str]] = {"success": [], "failure": []}
    for test in tests:
        outcome = outcomes.get(test, Outcome.MISSING)
        divided["success" if outcome in good else "failure"].append(test)
    return divided
