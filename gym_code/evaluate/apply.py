"""Patches that drifted, made to fit as SWE-bench makes them fit.

Its harness takes a patch whose lines stand elsewhere, whose context is half wrong (`git apply --3way`,
`patch --fuzz=5`), whose counts of lines are wrong or whose ends of lines differ. Our own reader takes offsets
alone. What it refuses is tried here with the harness's commands, in a box of its own: git and patch read
hostile input nowhere else. What they made of the start tree comes out as an ordinary diff, which is then
graded as any other is.

A box has git. `patch` is there where the image has it, as those of SWE-bench do; without it that step fails.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gym_code.grading.plan import MAX_PATCH_BYTES
from gym_code.interop.official import apply_commands
from gym_code.sandbox.base import BoxSpec

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend
    from gym_code.task import Suite

SECONDS = 120.0
"""For all commands together."""
_PATCH = "/tmp/gym-code.patch"
# A copy of what was there before (x.orig) is no change that the patch asks for.
_SCRIPT = f"""\
patch() {{ command patch --no-backup-if-mismatch "$@"; }}
{apply_commands(_PATCH)}[ -n "$applied" ]
"""


def normalised(suite: Suite, task_id: str, patch: bytes, backend: Backend) -> bytes | None:
    """The diff of what SWE-bench's commands make of `patch` on the task's start tree; None: none takes it.

    Raises what `Backend.open` and the box raise.
    """
    if len(patch) > MAX_PATCH_BYTES:
        return None
    task = suite.task(task_id)
    spec = BoxSpec(
        start=suite.start(task_id), environment=task.environment, limits=task.limits, workdir=task.workdir
    )
    with backend.open(spec) as box:
        box.write(_PATCH, patch)
        return box.diff() if box.exec(_SCRIPT, timeout=SECONDS, output_bytes=4096).ok else None
