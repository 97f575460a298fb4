"""What a backend costs on this machine: the operations every episode is made of, timed.

`gym-code bench` times one backend; `benchmarks/sandbox` times the same operations beside other projects.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from gym_code.errors import SandboxError, TaskError
from gym_code.grading import grade
from gym_code.sandbox.base import BoxSpec

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend, Sandbox
    from gym_code.task import Suite

T = TypeVar("T")

GRADINGS = 5
"""Most gradings timed: one costs as much as hundreds of the other operations."""
PROCESSES = ("exec", "grade")
"""Operations that a backend without processes leaves out."""


class Subject:
    """A backend and a task whose operations are timed one at a time, in one box that `reset` renews.

    The first box is opened untimed: it builds the environment and the start layer. Raises `SandboxError`.
    """

    def __init__(self, suite: Suite, task_id: str, backend: Backend) -> None:
        self.suite, self.backend = suite, backend
        self.task, self.answer, self.start = suite.task(task_id), suite.answer(task_id), suite.start(task_id)
        self.spec = BoxSpec(
            start=self.start,
            environment=self.task.environment,
            limits=self.task.limits,
            workdir=self.task.workdir,
        )
        self.box: Sandbox = backend.open(self.spec)

    def measure(self, operation: str) -> float:
        """Carry out one of `OPERATIONS`; its seconds. Raises `SandboxError`, `TaskError`."""
        return OPERATIONS[operation](self)

    def reset(self) -> float:
        """A fresh box in place of the last one, whose end is not timed."""
        self.box.close()
        self.box, seconds = timed(lambda: self.backend.open(self.spec))
        return seconds

    def once(self) -> float:
        """A fresh box, one command in it, and its end."""

        def use() -> None:
            with self.backend.open(self.spec) as box:
                run(box, ["true"])

        return timed(use)[1]

    def fork(self) -> float:
        """One fork; its end is not timed."""
        (other,), seconds = timed(lambda: self.box.fork(1))
        other.close()
        return seconds

    def restore(self) -> float:
        """Back to a snapshot that was taken, untimed, after which a file was written."""
        name = self.box.snapshot()
        self.edit(b"another line\n")
        return timed(lambda: self.box.restore(name))[1]

    def edit(self, content: bytes = b"one line\n") -> float:
        """A file is written: what diff, digest, snapshot and fork have to carry."""
        return timed(lambda: self.box.write("bench.txt", content))[1]

    def grade(self) -> float:
        """The gold patch graded. Raises `TaskError` where it does not earn 1: nothing was measured then."""
        reward, seconds = timed(
            lambda: grade(self.task, self.answer, self.answer.gold_patch, self.backend, self.start)
        )
        if reward.value != 1.0:
            raise TaskError(
                "the gold patch is no solution here", where=self.task.id, expected="1.0", found=reward.value
            )
        return seconds


OPERATIONS: Mapping[str, Callable[[Subject], float]] = MappingProxyType(
    {
        "reset": Subject.reset,
        "exec": lambda subject: timed(lambda: run(subject.box, ["true"]))[1],
        "shell": lambda subject: timed(lambda: run(subject.box, "true"))[1],
        "python": lambda subject: timed(lambda: run(subject.box, "python3 -c 1"))[1],
        "write": Subject.edit,
        "diff": lambda subject: timed(subject.box.diff)[1],
        "digest": lambda subject: timed(subject.box.digest)[1],
        "snapshot": lambda subject: timed(subject.box.snapshot)[1],
        "restore": Subject.restore,
        "fork": Subject.fork,
        "once": Subject.once,
        "grade": Subject.grade,
    }
)
"""Each carries out one operation and returns its seconds."""
COMMAND = ("reset", "exec", "write", "diff", "digest", "fork", "grade")
"""What `gym-code bench` times, in this order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One operation, timed `runs` times; milliseconds of wall time."""

    operation: str
    runs: int
    median_ms: float
    p90_ms: float


def bench(suite: Suite, task_id: str, backend: Backend, runs: int) -> list[Timing]:
    """Time reset (a fresh box), exec (`true`), write, diff and digest (one edit), fork, grade (gold).

    Raises `SandboxError`, `TaskError`.
    """
    subject = Subject(suite, task_id, backend)
    able = backend.capabilities().processes
    timings = []
    for operation in COMMAND:
        if not able and operation in PROCESSES:
            continue
        times = min(runs, GRADINGS) if operation == "grade" else runs
        seconds = [subject.measure(operation) for _ in range(times)]
        timings.append(
            Timing(
                operation=operation,
                runs=times,
                median_ms=quantile(seconds, 0.5) * 1e3,
                p90_ms=quantile(seconds, 0.9) * 1e3,
            )
        )
    subject.box.close()
    return timings


def timed(operation: Callable[[], T]) -> tuple[T, float]:
    """What an operation returns, and its seconds of wall time."""
    begin = time.perf_counter()
    outcome = operation()
    return outcome, time.perf_counter() - begin


def run(box: Sandbox, command: Sequence[str] | str) -> None:
    """Run a command that cannot fail; raises `SandboxError` where it does: its time would mean nothing."""
    result = box.exec(command)
    if not result.ok:
        raise SandboxError(
            f"{command!r} ended with {result.exit_code} ({result.cause.value}): {result.stderr[:200]!r}"
        )


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least the fraction `q` of the values do not exceed.

    >>> quantile([3.0, 1.0, 2.0], 0.5)
    2.0
    """
    return sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]
