"""From a patch to a plan: what the clean box's tree must hold before the tests run.

The base, plus the agent's patch, minus what is not the agent's to change, plus the hidden tests. All of
it is worked out here, on the host, in memory; the box receives finished files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gym_code.diff import UnsafePathError, touched_paths
from gym_code.errors import PatchError
from gym_code.grading import flags
from gym_code.grading.run import Plan
from gym_code.grading.runners import runner_named
from gym_code.grading.startup import directories_for_tests, is_bytecode, is_startup_change, shadows
from gym_code.patch import apply_patch, with_changes
from gym_code.types import ordered_unique

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gym_code.grading.run import Accepted
    from gym_code.patch import Changes
    from gym_code.types import Answer, File, Task

MAX_PATCH_BYTES = 32 * 1024**2
"""A longer patch is not read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """Why a patch cannot be graded by running tests: it resolves nothing."""

    flag: str
    reason: str


def make_plan(
    task: Task,
    answer: Answer,
    base: Mapping[str, File],
    patch: bytes,
    accepted: Accepted | None = None,
) -> Plan | Refused:
    """The plan that grades `patch` from the start tree `base`.

    Raises `PatchError` only for the task's own test patch: a task that cannot be graded.
    """
    ids = ordered_unique((*answer.fail_to_pass, *answer.pass_to_pass))
    hidden = apply_patch(base, answer.test_patch)
    runner = runner_named(task.runner)
    graded = with_changes(base, hidden)
    files = {test_id: runner.file_of(test_id, graded) for test_id in ids}
    tests = frozenset(path for path in files.values() if path is not None) | frozenset(hidden)
    gold = touched_paths(answer.gold_patch)
    try:
        kept, found = _only_the_agents(base, _read(base, patch), tests, gold)
        fitting = _fitting(kept, hidden, base)
    except UnsafePathError as error:
        return Refused(flag=flags.PATCH_UNSAFE_PATH, reason=str(error))
    except _UnreadableError as error:
        return Refused(flag=flags.PATCH_UNREADABLE, reason=str(error))
    except PatchError as error:
        return Refused(flag=flags.PATCH_DOES_NOT_APPLY, reason=str(error))
    except Exception as error:  # The boundary: whatever an agent's bytes do to our readers is the agent's.
        return Refused(flag=flags.PATCH_UNREADABLE, reason=f"{type(error).__name__}: {error}"[:300])
    if len(fitting) < len(kept):
        found = ordered_unique((*found, flags.TESTS_RESTORED))
    changes = {**fitting, **hidden}
    return Plan(
        ids=ids,
        changes={path: file for path, file in changes.items() if file != base.get(path)},
        modules=_modules(files) if task.runner == "unittest" else {},
        files=tuple(path for path, file in hidden.items() if file is not None),
        accepted=accepted or {},
        flags=found,
    )


class _UnreadableError(PatchError):
    """Told apart from a patch that reads well and does not fit."""


def _read(base: Mapping[str, File], patch: bytes) -> Changes:
    if len(patch) > MAX_PATCH_BYTES:
        raise _UnreadableError("patch is too large", expected=f"{MAX_PATCH_BYTES} bytes", found=len(patch))
    try:
        touched_paths(patch)
    except UnsafePathError:
        raise
    except PatchError as error:
        raise _UnreadableError(str(error)) from error
    return apply_patch(base, patch)


def _only_the_agents(
    base: Mapping[str, File], wanted: Changes, tests: frozenset[str], gold: frozenset[str]
) -> tuple[Changes, tuple[str, ...]]:
    """The agent's changes without those that are not its to make, and the flags of what was left out.

    What the gold patch touches too is left to the agent, except the graded tests themselves.
    """
    directories = tuple(f"{directory}/" for directory in directories_for_tests(tests))
    kept: Changes = {}
    found: dict[str, None] = {}
    for path, file in wanted.items():
        before = base.get(path)
        if file == before:
            continue
        if path in tests:
            found[flags.TESTS_RESTORED] = None
        elif path in gold:
            kept[path] = file
        elif is_bytecode(path):
            found[flags.BYTECODE_DROPPED] = None
        elif is_startup_change(path, before, file):
            found[flags.STARTUP_RESTORED] = None
        elif path.startswith(directories):
            if before is not None:  # A new test file of the agent's own is no interference.
                found[flags.TESTS_RESTORED] = None
        elif before is None and shadows(path, tests):
            found[flags.SHADOW_DROPPED] = None
        else:
            kept[path] = file
    return kept, tuple(found)


def _fitting(kept: Changes, hidden: Changes, base: Mapping[str, File]) -> Changes:
    """The agent's changes without a file in place of a directory of what stays, or the other way round."""
    fixed = {path for path in with_changes(base, hidden) if path in hidden or path not in kept}
    directories = {
        "/".join(parts[:end]) for path in fixed for parts in [path.split("/")] for end in range(1, len(parts))
    }

    def fits(path: str, file: File | None) -> bool:
        parents = path.split("/")[:-1]
        above = ("/".join(parents[:end]) for end in range(1, len(parents) + 1))
        return file is None or (path not in directories and fixed.isdisjoint(above))

    return {path: file for path, file in kept.items() if fits(path, file)}


def _modules(files: Mapping[str, str | None]) -> dict[str, tuple[str, str]]:
    return {
        test_id: (path.removesuffix(".py").replace("/", "."), path)
        for test_id, path in files.items()
        if path is not None
    }
