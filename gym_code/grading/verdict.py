"""From a run to a verdict: yes, no, or the proof that the fault is ours (law 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gym_code.grading import flags
from gym_code.grading.run import counts
from gym_code.types import Outcome, TestReport, Verdict, ordered_unique

if TYPE_CHECKING:
    from gym_code.grading.plan import Refused
    from gym_code.grading.run import Accepted, Run
    from gym_code.types import Answer

GRADER_VERSION = "5"
"""Rises with every change that could change a verdict."""


def refused(answer: Answer, refusal: Refused) -> Verdict:
    """The verdict on a patch that could not be applied: no test ran, nothing is resolved."""
    ids = (*answer.fail_to_pass, *answer.pass_to_pass)
    return Verdict(
        resolved=False,
        report=TestReport(outcomes=dict.fromkeys(ids, Outcome.MISSING)),
        flags=(refusal.flag,),
        controls={"reason": refusal.reason},
        grader_version=GRADER_VERSION,
    )


def sandbox_fault(answer: Answer, error: Exception) -> Verdict:
    """No verdict: the sandbox failed, and failed again in a new box."""
    ids = (*answer.fail_to_pass, *answer.pass_to_pass)
    return Verdict(
        resolved=False,
        report=TestReport(outcomes=dict.fromkeys(ids, Outcome.MISSING)),
        flags=(flags.SANDBOX_FAULT,),
        controls={"error": f"{type(error).__name__}: {error}"},
        valid=False,
        grader_version=GRADER_VERSION,
    )


def judged(answer: Answer, accepted: Accepted, run: Run, gold: Run | None = None) -> Verdict:
    """The verdict on a run. `gold` is the control: the gold patch graded under the same conditions.

    An abnormal end is the agent's unless the gold patch fails too.
    """
    resolved = passes(answer, accepted, run)
    notes, controls, valid = run.flags, {}, True
    if resolved and any(run.report.outcomes[test] is Outcome.XFAILED for test in answer.fail_to_pass):
        notes = (*notes, flags.EXPECTED_FAILURE)
    if run.failure:
        controls["failure"] = run.failure
    if gold is not None:
        gold_resolved = passes(answer, accepted, gold)
        controls["gold"] = (
            "resolved" if gold_resolved else f"failed ({', '.join(gold.flags)}) {gold.failure}".strip()
        )
        if not gold_resolved:
            valid = False
            notes = (*notes, flags.GOLD_FAILED)
    return Verdict(
        resolved=resolved,
        report=run.report,
        flags=ordered_unique(notes),
        controls=controls,
        valid=valid,
        grader_version=GRADER_VERSION,
    )


def passes(answer: Answer, accepted: Accepted, run: Run) -> bool:
    """Whether every FAIL_TO_PASS and PASS_TO_PASS test passed, in a run whose outcomes can be believed."""
    ids = (*answer.fail_to_pass, *answer.pass_to_pass)
    outcomes, believed = run.report.outcomes, flags.DISBELIEVED.isdisjoint(run.flags)
    return believed and bool(ids) and all(counts(accepted, i, outcomes.get(i, Outcome.MISSING)) for i in ids)
