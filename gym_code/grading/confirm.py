"""A test that failed among others and passed alone: whether it passes where nothing ran before it.

The program in the box runs a failed test again at once, which is cheap and shows most failures to be real.
That one passes there shows nothing: the first attempt could leave a marker, a process or other tests behind.
So each such test is run once more in a clean box of its own, and only that counts.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from gym_code.grading import flags
from gym_code.grading.run import counts
from gym_code.types import TestReport, ordered_unique

if TYPE_CHECKING:
    from collections.abc import Callable

    from gym_code.grading.run import Plan, Run


def confirmed(plan: Plan, run: Run, carry_out: Callable[[Plan, float], Run], seconds: float) -> Run:
    """`run` with the suspects that pass alone in a clean box counted as passed.

    Stops at the first that fails: one failure decides. carry_out: carries out a plan in a new box within
    that many seconds. seconds: for all of it together, so that a patch with a thousand flaking tests
    cannot take a thousand times as long. Raises what `carry_out` raises.
    """
    if run.abnormal or flags.RUNNER_TAMPERED in run.flags:
        return run
    outcomes, notes = dict(run.report.outcomes), list(run.flags)
    until = time.monotonic() + seconds
    for test_id in run.suspects:
        left = until - time.monotonic()
        if left <= 0:
            break
        alone = carry_out(replace(plan, ids=(test_id,), rerun=False), left)
        notes += alone.flags
        outcome = alone.report.outcomes[test_id]
        if not counts(plan.accepted, test_id, outcome) or alone.abnormal:
            break
        outcomes[test_id] = outcome
        notes.append(flags.FLAKY_RECOVERED)
    report = TestReport(outcomes=outcomes, seconds=run.report.seconds)
    return replace(run, report=report, flags=ordered_unique(notes))
