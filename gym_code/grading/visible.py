"""The visible tests, run in the agent's own box: what the tool `test` shows. It decides nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from gym_code.grading.run import Plan, run_in_box
from gym_code.types import Cause, ordered_unique

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gym_code.sandbox.base import Sandbox
    from gym_code.types import Task, TestReport

MESSAGE_CHARACTERS = 600
_ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")
"""Where objects lie in memory changes with every run, and what an agent sees must not (law 10)."""


def run_visible_tests(sandbox: Sandbox, task: Task) -> tuple[TestReport, Mapping[str, str]]:
    """`run_tests` for the task's visible tests."""
    return run_tests(sandbox, task, task.visible_tests)


def run_tests(sandbox: Sandbox, task: Task, ids: Sequence[str]) -> tuple[TestReport, Mapping[str, str]]:
    """Run tests by id where the agent works: outcome of every id, and a short message for failed ones by id.

    A message under the empty id is about the whole run (it timed out, the runner is not there). Takes at most
    `task.limits.exec_seconds`. Raises `SandboxError` where the box itself failed.
    """
    plan = Plan(ids=ordered_unique(ids), rerun=False, canary=False, messages=MESSAGE_CHARACTERS)
    run = run_in_box(sandbox, task, plan, timeout=task.limits.exec_seconds)
    messages = {test_id: _ADDRESS.sub("0x...", text) for test_id, text in run.messages.items()}
    if run.cause is not Cause.EXITED:
        messages[""] = f"the test run ended early: {run.cause.value} (limit {task.limits.exec_seconds:g} s)"
    elif run.failure:
        messages[""] = f"the tests could not be started: {run.failure}"
    return run.report, messages
