"""From a patch to a reward nobody can forge: plan, run, verdict, reward.

`plan` works out on the host what a clean box's tree must hold, `run` runs the tests there by id,
`verdict` decides outside the box, `reward` gives the number. `box/` holds the programs sent into the box,
`runners/` names them.
"""

from __future__ import annotations

from gym_code.grading.check import TaskCheck, check_task
from gym_code.grading.reward import grade
from gym_code.grading.verdict import GRADER_VERSION
from gym_code.grading.visible import run_tests, run_visible_tests

__all__ = ["GRADER_VERSION", "TaskCheck", "check_task", "grade", "run_tests", "run_visible_tests"]
