"""Run tests in a box: one command, one answer over the private channel; the console is never read."""

from __future__ import annotations

import marshal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gym_code.grading import flags
from gym_code.grading.channel import Frames, new_key, read_frames
from gym_code.grading.runners import runner_named
from gym_code.grading.runners.source import program
from gym_code.sandbox.base import BoxSpec
from gym_code.types import Cause, Outcome, TestReport

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gym_code.grading.runners import Runner
    from gym_code.sandbox.base import Backend, Sandbox
    from gym_code.types import ExecResult, File, StartTree, Task

PYTHON = "python3"
"""The interpreter of the environment, found on the box's own PATH."""
PASSED_ALONE = frozenset({Outcome.PASSED})
Accepted = Mapping[str, frozenset[Outcome]]
"""Which outcomes count as passed, by id; PASSED alone for ids that are not there."""
_REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one run does: change the tree of a clean box, then run tests by id."""

    ids: tuple[str, ...]
    changes: Mapping[str, File | None] = field(default_factory=dict)
    """New content by path; None removes."""
    modules: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Module name and path of each unittest id whose file is known."""
    files: tuple[str, ...] = ()
    """Where to look for the tests of ids that name no file: the files of the hidden tests."""
    accepted: Accepted = field(default_factory=dict)
    flags: tuple[str, ...] = ()
    """What was found in the patch."""
    rerun: bool = True
    canary: bool = True
    messages: int = 0
    """Most characters of each failure's message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What came of a plan."""

    report: TestReport
    flags: tuple[str, ...] = ()
    messages: Mapping[str, str] = field(default_factory=dict)
    cause: Cause = Cause.EXITED
    failure: str = ""
    """Why the program in the box could not begin; empty where it did."""
    suspects: tuple[str, ...] = ()
    """Ids that failed among the others and passed alone in the same box. It proves nothing: the first attempt
    may have left files, processes or other tests behind. Empty unless every id that failed is among them."""

    @property
    def abnormal(self) -> bool:
        """Whether the run ended in a way that could be a fault of ours."""
        return not flags.ABNORMAL.isdisjoint(self.flags)


def counts(accepted: Accepted, test_id: str, outcome: Outcome) -> bool:
    """Whether a test that ended so counts as passed."""
    return outcome in accepted.get(test_id, PASSED_ALONE)


def run_in_new_box(task: Task, plan: Plan, backend: Backend, start: StartTree, *, timeout: float) -> Run:
    """Open a clean box, carry out the plan, close it. Raises `SandboxError`."""
    spec = BoxSpec(start=start, environment=task.environment, limits=task.limits, workdir=task.workdir)
    with backend.open(spec) as box:
        return run_in_box(box, task, plan, timeout=timeout)


def run_in_box(box: Sandbox, task: Task, plan: Plan, *, timeout: float) -> Run:
    """Carry out the plan in this box; timeout in seconds. Raises `SandboxError`, `TaskError`."""
    runner = runner_named(task.runner)
    key = new_key()
    result = box.exec(
        _command(task),
        timeout=timeout,
        cwd="/",
        env=_interpreter_environment(task),
        stdin=key + _message(task, plan, runner),
        output_bytes=4096,
        channel=True,
    )
    frames = read_frames(result.channel, key, len(plan.ids))
    report, notes = _judge(plan, frames, result.cause)
    second = frames.outcomes(2)
    failed = [
        index for index, test_id in enumerate(plan.ids) if not counts(plan.accepted, test_id, report[test_id])
    ]
    ends = {plan.ids[index]: second.get(index, Outcome.MISSING) for index in failed}
    suspects = [test_id for test_id, end in ends.items() if counts(plan.accepted, test_id, end)]
    return Run(
        report=TestReport(outcomes=report, seconds=result.seconds),
        flags=(*plan.flags, *notes),
        messages={plan.ids[index]: text for index, text in frames.messages().items()},
        cause=result.cause,
        failure=_failure(frames, result),
        suspects=tuple(suspects) if len(suspects) == len(failed) else (),
    )


def _failure(frames: Frames, result: ExecResult) -> str:
    """Why the program could not begin, in its own words or, where it did not come to speak, the console's.

    Nothing of the tree can write to the console: it is closed before anything of the tree runs.
    """
    if frames.failures:
        return frames.failures[0]
    said = result.stderr.decode("utf-8", "replace").strip()
    return "" if frames.tests or not said else said.splitlines()[-1][:_REASON_CHARACTERS]


def _command(task: Task) -> Sequence[str]:
    runner = runner_named(task.runner)
    # Looking through site-packages takes a third of the start-up time of an interpreter that needs none.
    bare = not runner.needs_packages and not task.environment.packages
    return (PYTHON, "-s", "-B", *(("-S",) if bare else ()), "-c", program("main.py"))


def _interpreter_environment(task: Task) -> dict[str, str]:
    """Variables that steer the interpreter are for the tests, not for the program that starts them.

    The hash seed is fixed: an order of sets that changes with every run is noise in rewards.
    """
    own = {name: "" for name in task.environment.env if name.startswith("PYTHON")}
    return {**own, "PYTHONHASHSEED": "0"}


def _message(task: Task, plan: Plan, runner: Runner) -> bytes:
    deletes = [_raw(path) for path, file in sorted(plan.changes.items()) if file is None]
    writes = [
        (_raw(path), file.content, file.executable, None if file.link is None else _raw(file.link))
        for path, file in sorted(plan.changes.items())
        if file is not None
    ]
    env = dict(task.environment.env)
    paths = [task.workdir, *(f"{task.workdir}/{entry}" for entry in _python_path(task))]
    plugins = [name for name in env.get("PYTEST_PLUGINS", "").split(",") if name]
    message = {
        "workdir": _raw(task.workdir),
        "deletes": deletes,
        "writes": writes,
        "source": runner.source,
        "ids": list(plan.ids),
        "accepted": [sorted(map(str, plan.accepted.get(i, PASSED_ALONE))) for i in plan.ids],
        "printed": task.ids == "swebench",
        "late": task.ids == "swebench" and runner.is_package,
        "files": list(plan.files),
        "modules": dict(plan.modules),
        "paths": paths,
        "env": env,
        "plugins": plugins,
        "rerun": plan.rerun,
        "messages": plan.messages,
        "canary": plan.canary,
    }
    return marshal.dumps(message, 2)  # Version 2 is read by every Python 3.


def _python_path(task: Task) -> list[str]:
    return [
        entry for entry in task.environment.env.get("PYTHONPATH", "").split(":") if entry not in ("", ".")
    ]


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _judge(plan: Plan, frames: Frames, cause: Cause) -> tuple[dict[str, Outcome], list[str]]:
    """Outcome by id, and what was noticed."""
    first, second = frames.outcomes(1), frames.outcomes(2)
    report: dict[str, Outcome] = {}
    notes: dict[str, None] = {}
    for index, test_id in enumerate(plan.ids):
        outcome = first.get(index, Outcome.MISSING)
        again = second.get(index)
        if outcome is Outcome.DUPLICATED or again is Outcome.DUPLICATED:
            outcome = Outcome.DUPLICATED
            notes[flags.DUPLICATE_REPORT] = None
        report[test_id] = outcome
    if frames.noise:
        notes[flags.CHANNEL_NOISE] = None
    ending = _ending(frames, cause, reported=bool(first))
    if ending:
        notes[ending] = None
    elif plan.canary and any(_tampered(plan, frames, number) for number in (1, 2)):
        notes[flags.RUNNER_TAMPERED] = None
    return report, list(notes)


def _tampered(plan: Plan, frames: Frames, attempt: int) -> bool:
    """Whether the test that must fail did not: it passed, or is missing where others count as passed.

    A second attempt is a process for each test, and each has a canary of its own.
    """
    canaries = [outcome for of, outcome in frames.canaries if of == attempt]
    passed = sum(
        counts(plan.accepted, plan.ids[index], end) for index, end in frames.outcomes(attempt).items()
    )
    if len(canaries) < (min(passed, 1) if attempt == 1 else passed):
        return True
    return any(outcome not in (Outcome.FAILED, Outcome.ERROR) for outcome in canaries)


def _ending(frames: Frames, cause: Cause, *, reported: bool) -> str | None:
    """The flag of an abnormal end; None where every test had its turn."""
    if cause is Cause.TIMED_OUT:
        return flags.TIMED_OUT
    if cause is Cause.OUT_OF_MEMORY:
        return flags.OUT_OF_MEMORY
    if not reported:
        return flags.NOTHING_REPORTED
    if frames.status != 0 or cause is not Cause.EXITED:
        return flags.CRASHED
    return None
