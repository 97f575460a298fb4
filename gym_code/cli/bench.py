"""What a backend costs on this machine: the operations every episode is made of, timed."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from gym_code.grading import grade
from gym_code.sandbox.base import BoxSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from gym_code.sandbox.base import Backend, Sandbox
    from gym_code.task import Suite

T = TypeVar("T")

GRADINGS = 5
"""Most gradings timed: one costs as much as hundreds of the other operations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One operation, timed `runs` times; milliseconds of wall time."""

    operation: str
    runs: int
    median_ms: float
    p90_ms: float


def bench(suite: Suite, task_id: str, backend: Backend, runs: int) -> list[Timing]:
    """Time reset (a fresh box), exec (`true`), write, diff and digest (one edit), fork, grade (gold).

    The first box is opened untimed: it builds the environment and the start layer. Raises `SandboxError`.
    """
    task, answer, start = suite.task(task_id), suite.answer(task_id), suite.start(task_id)
    spec = BoxSpec(start=start, environment=task.environment, limits=task.limits, workdir=task.workdir)
    backend.open(spec).close()
    timings = [_timed("reset", runs, lambda: backend.open(spec), then=_close)]
    with backend.open(spec) as box:
        if backend.capabilities().processes:
            timings.append(_timed("exec", runs, lambda: box.exec(["true"])))
        timings.append(_timed("write", runs, lambda: box.write("bench.txt", b"one line\n")))
        timings.append(_timed("diff", runs, box.diff))
        timings.append(_timed("digest", runs, box.digest))
        timings.append(_timed("fork", runs, lambda: box.fork(1)[0], then=_close))
    gradings = min(runs, GRADINGS)
    timings.append(_timed("grade", gradings, lambda: grade(task, answer, answer.gold_patch, backend, start)))
    return timings


def _close(box: Sandbox) -> None:
    box.close()


def _timed(
    name: str, runs: int, operation: Callable[[], T], then: Callable[[T], None] | None = None
) -> Timing:
    """Time an operation; `then` undoes it, untimed."""
    seconds: list[float] = []
    for _ in range(runs):
        begin = time.perf_counter()
        outcome = operation()
        seconds.append(time.perf_counter() - begin)
        if then is not None:
            then(outcome)
    return Timing(
        operation=name, runs=runs, median_ms=quantile(seconds, 0.5) * 1e3, p90_ms=quantile(seconds, 0.9) * 1e3
    )


def quantile(values: Sequence[float], q: float) -> float:
    """The smallest value that at least the fraction `q` of the values do not exceed.

    >>> quantile([3.0, 1.0, 2.0], 0.5)
    2.0
    """
    return sorted(values)[max(math.ceil(q * len(values)) - 1, 0)]
