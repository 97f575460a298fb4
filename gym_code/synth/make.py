"""`gym-code tasks make`: from a repository to a suite of validated tasks.

fetch -> find layout -> pin and build the environment -> run the suite under coverage -> select -> for each
candidate, in the order of the seed: remove, run, hide, describe, validate -> write. Every function that
becomes no task is counted under a named reason. The same source, seed and limit give the same tasks, whatever
the number of workers; a run that was cut off goes on where it stopped.
"""

from __future__ import annotations

import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from gym_code.errors import ConfigError, SandboxError
from gym_code.synth.baseline import measure, sample
from gym_code.synth.cut import Lost, cut
from gym_code.synth.journal import Journal
from gym_code.synth.sources import open_source
from gym_code.synth.validate import Valid, validate, write, write_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from gym_code.sandbox.base import Backend
    from gym_code.synth.baseline import Baseline
    from gym_code.synth.funnel import Funnel
    from gym_code.synth.removal import Function
    from gym_code.types import JSON

SANDBOX_FAILED = "the sandbox failed twice"
LIMIT = "the limit was reached before"
REPEATS = 2
"""How many times gold must score 1 and the no-op 0 while a task is made; `tasks check` repeats it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeReport:
    """What a run made; `to_json` is what `gym-code tasks make --json` prints."""

    source: str
    funnel: Funnel
    """From the functions of the package to tasks, every loss under its reason."""
    seconds: float
    """Wall time, everything included."""
    measuring_seconds: float
    """The part of it before the first candidate: environment, suite runs, selection."""
    workers: int
    resumed: int
    """Candidates whose result an earlier run had written down: their time is not in `seconds`."""
    stable_tests: int
    suite_seconds: float
    disk_bytes: int
    """Size of all files of the suite."""

    @property
    def accepted(self) -> int:
        """How many tasks there are."""
        return self.funnel.count("accepted")

    @property
    def seconds_a_task(self) -> float | None:
        """Wall time for each accepted task; None without tasks, or where an earlier run did some of them."""
        return None if self.resumed or not self.accepted else round(self.seconds / self.accepted, 2)

    def to_json(self) -> dict[str, JSON]:
        """The report as a JSON object."""
        shares = {
            "selected_of_nontrivial": self.funnel.share("selected", "non-trivial"),
            "accepted_of_tried": self.funnel.share("accepted", "tried"),
        }
        plain = {item.name: getattr(self, item.name) for item in fields(self) if item.name != "funnel"}
        return {**plain, "seconds_a_task": self.seconds_a_task, "funnel": self.funnel.to_json(), **shares}


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What `progress` is called with: after the baseline (`done` 0) and after each candidate, in order."""

    done: int
    total: int
    accepted: int
    last: str
    """The candidate just finished and what became of it."""


def make_suite(
    source: str,
    out: Path,
    *,
    backend: Backend,
    workers: int = 2,
    limit: int | None = None,
    seed: int = 0,
    progress: Callable[[Progress], None] | None = None,
) -> MakeReport:
    """Make tasks from `source` (see `gym_code.synth.sources`) and write them into the suite directory `out`.

    limit: most tasks to accept; None: as many as there are. seed: the order in which candidates are tried.
    Raises `InputError` when the source or its environment cannot be had, `SandboxError` when boxes fail.
    """
    if workers < 1 or (limit is not None and limit < 1):
        raise ConfigError(
            "workers and limit must be positive", expected="int >= 1", found=f"{workers}, {limit}"
        )
    began = time.monotonic()
    base = measure(open_source(source), backend)
    measured = time.monotonic() - began
    tell = progress or (lambda _: None)
    order = sample(base.candidates, seed)
    tell(Progress(done=0, total=len(order), accepted=0, last=_about(base)))
    losses: list[str] = []
    accepted = tried = resumed = 0
    write_source(out, base)
    with Journal(out, base) as journal:
        for tried, (function, result) in enumerate(_results(base, order, journal, backend, workers), 1):
            resumed += journal.known(function.key) is not None
            if isinstance(result, Lost):
                losses.append(result.reason)
                journal.lost(result)
            else:
                accepted += 1
                if isinstance(result, Valid):
                    write(out, base, result)
                    journal.made(function.key, result.task_id)
            what = f"{result.reason}: {result.detail}" if isinstance(result, Lost) else "accepted"
            tell(Progress(done=tried, total=len(order), accepted=accepted, last=f"{function.key}: {what}"))
            if accepted == limit:
                break
    return MakeReport(
        source=base.source.origin,
        funnel=base.funnel.then([LIMIT] * (len(order) - tried)).then(losses),
        seconds=round(time.monotonic() - began, 1),
        measuring_seconds=round(measured, 1),
        workers=workers,
        resumed=resumed,
        stable_tests=len(base.stable),
        suite_seconds=round(base.suite_seconds, 2),
        disk_bytes=sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
    )


def attempt(base: Baseline, function: Function, backend: Backend) -> Valid | Lost:
    """Make one candidate into a valid task, or say why not. A failure of the sandbox is tried once more."""
    for last in (False, True):
        try:
            with backend.open(base.box()) as box:
                found = cut(base, function, box)
            return found if isinstance(found, Lost) else validate(base, found, backend, repeats=REPEATS)
        except SandboxError as error:
            if last:
                return Lost(key=function.key, reason=SANDBOX_FAILED, detail=str(error))
    raise AssertionError("unreachable")


def _results(
    base: Baseline, order: Sequence[Function], journal: Journal, backend: Backend, workers: int
) -> Iterator[tuple[Function, Valid | Lost | str]]:
    """Every candidate with its result, in order. What the journal knows is not tried again (str: a task id).

    A few are worked on ahead of the one that is waited for; those past a limit are thrown away, so that the
    number of workers changes nothing but the time.
    """
    waiting: deque[tuple[Function, Future[Valid | Lost] | Lost | str]] = deque()
    pending = iter(order)
    pool = ThreadPoolExecutor(max_workers=workers, thread_name_prefix="make")
    try:
        while True:
            while len(waiting) < 2 * workers and (function := next(pending, None)) is not None:
                known = journal.known(function.key)
                waiting.append((function, known or pool.submit(attempt, base, function, backend)))
            if not waiting:
                return
            function, result = waiting.popleft()
            yield function, result if isinstance(result, Lost | str) else result.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _about(base: Baseline) -> str:
    stages = ", ".join(f"{stage.count} {stage.name}" for stage in base.funnel.stages)
    return (
        f"{base.source.name} {base.source.version}: {len(base.stable)} stable tests in "
        f"{base.suite_seconds:.1f} s; functions: {stages}"
    )
