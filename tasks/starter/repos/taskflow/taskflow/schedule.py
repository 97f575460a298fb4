"""Who does what when, with a limited number of workers."""

from __future__ import annotations

from dataclasses import dataclass

from taskflow.graph import Graph


@dataclass(frozen=True, slots=True)
class Slot:
    """One task in a schedule: minutes from `start` up to `end`, and the worker, counted from 0."""

    task: str
    worker: int
    start: int
    end: int


class Schedule:
    """A plan for `workers` people that all begin at minute 0.

    Whenever a worker is free, the ready task with the longest chain of minutes still hanging on it (its own
    included) is started; ties go to the task added first, and tasks to the free worker with the lowest number.
    Raises ValueError for fewer than one worker, GraphError for a graph that makes no sense.
    """

    def __init__(self, graph: Graph, workers: int) -> None:
        if workers < 1:
            raise ValueError(f"a schedule needs at least one worker, not {workers}")
        self.workers = workers
        self._slots = _plan(graph, workers)

    @property
    def slots(self) -> list[Slot]:
        """All slots by start, then by worker."""
        return sorted(self._slots, key=lambda slot: (slot.start, slot.worker, slot.end))

    @property
    def minutes(self) -> int:
        """The length of the whole plan."""
        return max((slot.end for slot in self._slots), default=0)

    def of(self, worker: int) -> list[str]:
        """The tasks of one worker, in order."""
        return [slot.task for slot in self.slots if slot.worker == worker]

    def idle(self, worker: int) -> int:
        """Minutes of the whole plan during which a worker has nothing to do."""
        return self.minutes - sum(slot.end - slot.start for slot in self._slots if slot.worker == worker)

    def at(self, minute: int) -> list[str]:
        """The tasks running at a minute, by worker."""
        running = (slot for slot in self._slots if slot.start <= minute < slot.end)
        return [slot.task for slot in sorted(running, key=lambda slot: slot.worker)]


def _chains(graph: Graph) -> dict[str, int]:
    chains: dict[str, int] = {}
    for task in reversed(graph.order()):
        chains[task] = graph.minutes(task) + max((chains[name] for name in graph.dependents(task)), default=0)
    return chains


def _plan(graph: Graph, workers: int) -> list[Slot]:
    chains = _chains(graph)
    waiting = sorted(graph.tasks(), key=lambda task: -chains[task])
    ends: dict[str, int] = {}
    free_at = [0] * workers
    slots: list[Slot] = []
    now = 0
    while waiting:
        worker = min((w for w in range(workers) if free_at[w] <= now), default=None)
        ready = (t for t in waiting if all(ends.get(name, now + 1) <= now for name in graph.prerequisites(t)))
        task = next(ready, None)
        if worker is None or task is None:
            now = min(end for end in [*free_at, *ends.values()] if end > now)
            continue
        waiting.remove(task)
        ends[task] = free_at[worker] = now + graph.minutes(task)
        slots.append(Slot(task, worker, now, ends[task]))
    return slots
