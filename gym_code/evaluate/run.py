"""Grade what has no verdict yet: each content once, infrastructure failures again, every attempt kept."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gym_code.errors import InputError, SandboxError, SandboxUnavailable
from gym_code.evaluate.cases import Graded, is_empty
from gym_code.evaluate.store import Attempt, content_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from gym_code.evaluate.cases import Case, Grader
    from gym_code.evaluate.images import Images
    from gym_code.evaluate.store import RunDirectory
    from gym_code.task import Suite

POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A verdict that is wanted."""

    key: str
    case: Case
    grader: Grader

    @property
    def instance_id(self) -> str:
        """The instance it is about."""
        return self.case.instance_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is; `done` counts verdicts and what was given up."""

    done: int
    total: int
    retries: int
    last: Attempt | None = None


def wanted(
    run: RunDirectory,
    suite: Suite,
    cases: Iterable[Case],
    graders: Mapping[str, Grader],
    *,
    timeout: float | None,
    repeat: int,
    cycle: int,
) -> list[Job]:
    """What is left to grade: `repeat` verdicts of this cycle for every content, less those that are there."""
    have = Counter(
        attempt.key
        for attempt in run.attempts
        if attempt.cycle == cycle and attempt.graded.resolved is not None
    )
    jobs: dict[str, Job] = {}
    for case in cases:
        if not is_empty(case.patch):
            grader = graders[case.instance_id]
            task = suite.task(case.instance_id)
            key = content_key(task, case.patch or b"", grader.name, grader.version, timeout)
            jobs.setdefault(key, Job(key=key, case=case, grader=grader))
    return [job for key, job in jobs.items() for _ in range(repeat - have[key])]


def grade_all(
    run: RunDirectory,
    suite: Suite,
    jobs: Sequence[Job],
    *,
    workers: int,
    retries: int,
    cycle: int,
    images: Images,
    on_progress: Callable[[Progress], None] | None = None,
) -> None:
    """Carry out the jobs on `workers` threads, those of one image together.

    images: has the image of an instance ready while a grading runs. retries: how often a job is tried again,
    after all others, when a fault of ours left it without a verdict. Raises `SandboxUnavailable` where
    nothing can be graded any more; what was graded until then is kept.
    """
    _Work(run, suite, retries, cycle, images, on_progress).carry_out(images.ordered(jobs), workers)


class _Work:
    """The queue of one call, its threads, and what they share."""

    def __init__(
        self,
        run: RunDirectory,
        suite: Suite,
        retries: int,
        cycle: int,
        images: Images,
        on_progress: Callable[[Progress], None] | None,
    ) -> None:
        self._run, self._suite, self._retries, self._cycle = run, suite, retries, cycle
        self._images, self._on_progress = images, on_progress
        self._queue: queue.SimpleQueue[tuple[Job, int]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._numbers = Counter(attempt.key for attempt in run.attempts)
        self._left = self._total = self._again = 0
        self._over = threading.Event()
        self._failure: BaseException | None = None

    def carry_out(self, jobs: Sequence[Job], workers: int) -> None:
        self._left = self._total = len(jobs)
        if not jobs:
            return
        for job in jobs:
            self._queue.put((job, 1))
        self._tell(None)
        threads = [
            threading.Thread(target=self._worker, name=f"grader-{number}", daemon=True)
            for number in range(min(workers, len(jobs)))
        ]
        for thread in threads:
            thread.start()
        try:
            self._over.wait()
        finally:
            self._over.set()
            for thread in threads:
                thread.join()
        if self._failure is not None:
            raise self._failure

    def _worker(self) -> None:
        while not self._over.is_set():
            try:
                job, attempt = self._queue.get(timeout=POLL_SECONDS)
            except queue.Empty:
                continue
            try:
                self._grade(job, attempt)
            except BaseException as error:
                # Nothing can be graded here any more, or the disk takes nothing: all threads stop.
                with self._lock:
                    self._failure = self._failure or error
                self._over.set()

    def _grade(self, job: Job, attempt: int) -> None:
        with self._lock:
            self._numbers[job.key] += 1
            number = self._numbers[job.key]
        with self._run.logs(job.instance_id, job.key, number) as folder:
            graded, image, hopeless = self._attempted(job, folder)
        with self._lock:
            kept = Attempt(
                key=job.key,
                instance_id=job.instance_id,
                cycle=self._cycle,
                grader=f"{job.grader.name} {job.grader.version}",
                graded=graded,
                image=image,
            )
            self._run.add(kept)
            if graded.resolved is None and attempt <= self._retries and not hopeless:
                self._again += 1
                self._queue.put((job, attempt + 1))
            else:
                self._left -= 1
            self._tell(kept)
            if not self._left:
                self._over.set()

    def _attempted(self, job: Job, folder: Path) -> tuple[Graded, str, bool]:
        """What the grader found, in which image, and whether trying again cannot help."""
        image = ""
        try:
            with self._images.use(job.instance_id) as used:
                image = used.id
                return job.grader.grade(self._suite, job.case, folder), image, False
        except SandboxUnavailable:
            raise
        except SandboxError as error:
            return _fault(error), image, False
        except InputError as error:
            return _fault(error), image, True
        except OSError:
            raise
        except Exception as error:  # The boundary: one instance that no reader foresaw must not end a run.
            return _fault(error), image, True

    def _tell(self, last: Attempt | None) -> None:
        if self._on_progress is not None:
            self._on_progress(
                Progress(done=self._total - self._left, total=self._total, retries=self._again, last=last)
            )


def _fault(error: Exception) -> Graded:
    return Graded(resolved=None, applied=False, reason=f"{type(error).__name__}: {error}"[:2000])
