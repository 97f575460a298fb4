"""`gym-code tasks make`: from a repository to a suite of validated tasks.

fetch -> find layout -> pin and build the environment -> run the suite under coverage -> for each candidate,
in the order of the seed: remove, run, hide, describe, validate -> write. Every candidate that becomes no
task is counted under a named reason. The same source, seed and limit give the same tasks, whatever the number
of workers; a run that was cut off goes on where it stopped.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from gym_code.errors import ConfigError, SandboxError
from gym_code.synth.baseline import measure, sample
from gym_code.synth.cut import Lost, cut
from gym_code.synth.journal import Journal
from gym_code.synth.sources import open_source
from gym_code.synth.validate import Valid, validate, write, write_source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from concurrent.futures import Future
    from pathlib import Path

    from gym_code.sandbox.base import Backend
    from gym_code.synth.baseline import Baseline
    from gym_code.synth.removal import Function
    from gym_code.types import JSON

SANDBOX_FAILED = "the sandbox failed twice"
REPEATS = 2
"""How many times gold must score 1 and the no-op 0 while a task is made; `tasks check` repeats it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeReport:
    """What a run made; `to_json` is the last line that `gym-code tasks make --json` prints.

    `candidates` are the functions that stable tests cover; `selected` of them were tried (all, unless a limit
    was reached), `accepted` became tasks, and `losses` counts the others by reason, so that
    selected = accepted + sum of losses.
    """

    source: str
    candidates: int
    selected: int
    accepted: int
    seconds: float
    workers: int
    disk_bytes: int
    """Size of all files of the suite."""
    losses: Mapping[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, JSON]:
        """The report as a JSON object."""
        return {**asdict(self), "losses": dict(self.losses)}


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
    tell = progress or (lambda _: None)
    order = sample(base.candidates, seed)
    tell(Progress(done=0, total=len(order), accepted=0, last=_about(base)))
    losses: Counter[str] = Counter()
    accepted = tried = 0
    write_source(out, base)
    with Journal(out, base) as journal:
        for tried, (function, result) in enumerate(_results(base, order, journal, backend, workers), 1):
            if isinstance(result, Lost):
                losses[result.reason] += 1
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
        source=source,
        candidates=len(order),
        selected=tried,
        accepted=accepted,
        seconds=round(time.monotonic() - began, 1),
        workers=workers,
        disk_bytes=sum(path.stat().st_size for path in out.rglob("*") if path.is_file()),
        losses=dict(sorted(losses.items())),
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
    skipped = ", ".join(f"{count} {reason}" for reason, count in sorted(base.skipped.items()))
    return (
        f"{base.source.name} {base.source.version}: {len(base.stable)} stable tests in "
        f"{base.suite_seconds:.1f} s; left out: {skipped or 'nothing'}"
    )
