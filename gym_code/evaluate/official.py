"""SWE-bench's own grading as a grader of an evaluation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gym_code.errors import InputError
from gym_code.evaluate.cases import Graded
from gym_code.interop.official import TIMEOUT, check_row, grade_row, installed_version
from gym_code.interop.taskrepo import plain_row
from gym_code.sandbox.dockerd import connect
from gym_code.sandbox.images import named_image
from gym_code.suite import DirectorySuite

if TYPE_CHECKING:
    from pathlib import Path

    from gym_code.evaluate.cases import Case
    from gym_code.task import Suite
    from gym_code.types import JSON


class OfficialGrader:
    """Runs an instance's eval script in its image and judges the log with the package `swebench`.

    A log is the agent's to write: a patch that prints what its parser looks for is believed here. This grader
    is for what has no runner of ours, and to compare with. timeout: seconds for applying and testing, default
    that of SWE-bench's harness. Raises `ConfigError` where the package is not installed.
    """

    name = "official"

    def __init__(self, timeout: float | None = None) -> None:
        self._timeout = TIMEOUT if timeout is None else timeout
        self.version = installed_version()

    def grade(self, suite: Suite, case: Case, folder: Path) -> Graded:
        """Grade a patch; the harness's logs go into `folder`. Raises as `grade_row` does."""
        row, task = row_of(suite, case.instance_id), suite.task(case.instance_id)
        check_row(row)
        name = task.environment.image or str(row["image"])
        client = connect()
        try:
            image = str(named_image(client, name)["Id"])
        finally:
            client.close()
        found = grade_row(row, image, case.patch or b"", folder, limits=task.limits, timeout=self._timeout)
        return Graded(
            resolved=found.resolved,
            applied=found.applied,
            outcomes=found.outcomes,
            flags=found.flags,
            reason=found.reason,
            seconds=found.seconds,
        )


def row_of(suite: Suite, task_id: str) -> dict[str, JSON]:
    """The row of a task. Raises `InputError` for a suite that has no files."""
    if not isinstance(suite, DirectorySuite):
        raise InputError(
            "SWE-bench's own grader cannot run it",
            where=task_id,
            expected="a suite of files, with an eval.sh for each task",
            found=suite.name,
        )
    return plain_row(suite.path / "tasks" / task_id)
