"""Run tests in a box: one command, one answer over the private channel; the console is never read."""

from __future__ import annotations

import marshal
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from gym_code.grading import flags
from gym_code.grading.channel import Frames, new_key, read_frames
from gym_code.grading.runners import program, runner_named
from gym_code.sandbox.base import BoxSpec
from gym_code.types import Cause, Outcome, TestReport

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gym_code.sandbox.base import Backend, Sandbox
    from gym_code.types import File, StartTree, Task

PYTHON = "python3"
"""The interpreter of the environment, found on the box's own PATH."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What one run does: change the tree of a clean box, then run tests by id."""

    ids: tuple[str, ...]
    changes: Mapping[str, File | None] = field(default_factory=dict)
    """New content by path; None removes."""
    modules: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Module name and path of each unittest id whose file is known."""
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
        stdin=key + _message(task, plan, runner.source),
        output_bytes=4096,
        channel=True,
    )
    frames = read_frames(result.channel, key, len(plan.ids))
    report, notes = _judge(plan, frames, result.cause)
    second = frames.outcomes(2)
    failed = [index for index, test_id in enumerate(plan.ids) if report[test_id] is not Outcome.PASSED]
    suspects = [plan.ids[index] for index in failed if second.get(index) is Outcome.PASSED]
    return Run(
        report=TestReport(outcomes=report, seconds=result.seconds),
        flags=(*plan.flags, *notes),
        messages={plan.ids[index]: text for index, text in frames.messages().items()},
        cause=result.cause,
        failure=frames.failures[0] if frames.failures else "",
        suspects=tuple(suspects) if len(suspects) == len(failed) else (),
    )


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


def _message(task: Task, plan: Plan, source: str) -> bytes:
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
        "source": source,
        "ids": list(plan.ids),
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
    elif plan.canary and any(_tampered(frames, number, found) for number, found in ((1, first), (2, second))):
        notes[flags.RUNNER_TAMPERED] = None
    return report, list(notes)


def _tampered(frames: Frames, attempt: int, outcomes: Mapping[int, Outcome]) -> bool:
    """Whether the test that must fail did not: it passed, or is missing where others passed.

    A second attempt is a process for each test, and each has a canary of its own.
    """
    canaries = [outcome for of, outcome in frames.canaries if of == attempt]
    passed = sum(outcome is Outcome.PASSED for outcome in outcomes.values())
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
