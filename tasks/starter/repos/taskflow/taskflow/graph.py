"""Tasks, what they depend on, and the orders in which they can run."""

from __future__ import annotations

from collections.abc import Iterable


class GraphError(ValueError):
    """A graph that makes no sense."""


class CycleError(GraphError):
    """Tasks that wait for each other. `cycle` begins and ends with the same task."""

    def __init__(self, cycle: list[str]) -> None:
        self.cycle = cycle
        super().__init__("cycle: " + " -> ".join(cycle))


class Graph:
    """Tasks with durations in minutes and their prerequisites."""

    def __init__(self) -> None:
        self._minutes: dict[str, int] = {}
        self._after: dict[str, tuple[str, ...]] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._minutes

    def __len__(self) -> int:
        return len(self._minutes)

    def add(self, name: str, *, minutes: int = 1, after: Iterable[str] = ()) -> None:
        """Add a task. Raises GraphError if it is there already or `minutes` is negative."""
        if name in self._minutes:
            raise GraphError(f"task {name!r} was added twice")
        if minutes < 0:
            raise GraphError(f"task {name!r} has negative minutes")
        self._minutes[name] = minutes
        self._after[name] = tuple(dict.fromkeys(after))

    def tasks(self) -> list[str]:
        """All tasks in the order in which they were added."""
        return list(self._minutes)

    def minutes(self, name: str) -> int:
        """The duration of a task."""
        return self._minutes[name]

    def prerequisites(self, name: str) -> list[str]:
        """The tasks that must be done before, as given."""
        return list(self._after[name])

    def dependents(self, name: str) -> list[str]:
        """The tasks that directly wait for this one, in the order in which they were added."""
        return [task for task in self._minutes if name in self._after[task]]

    def check(self) -> None:
        """Raise GraphError for a prerequisite that was never added, CycleError for a cycle."""
        for task, before in self._after.items():
            for name in before:
                if name not in self._minutes:
                    raise GraphError(f"task {task!r} comes after unknown {name!r}")
        done: set[str] = set()
        for task in self._minutes:
            self._visit(task, [], done)

    def _visit(self, task: str, path: list[str], done: set[str]) -> None:
        if task in path:
            raise CycleError([*path[path.index(task) :], task])
        if task in done:
            return
        for name in self._after[task]:
            self._visit(name, [*path, task], done)
        done.add(task)

    def stages(self) -> list[list[str]]:
        """Tasks in groups: each group needs only earlier groups, and every task stands as early as it can."""
        self.check()
        level: dict[str, int] = {}
        for task in self._depth_first():
            level[task] = 1 + max((level[name] for name in self._after[task]), default=-1)
        groups: list[list[str]] = [[] for _ in range(max(level.values(), default=-1) + 1)]
        for task in self._minutes:
            groups[level[task]].append(task)
        return groups

    def order(self) -> list[str]:
        """All tasks, stage after stage."""
        return [task for stage in self.stages() for task in stage]

    def _depth_first(self) -> list[str]:
        seen: dict[str, None] = {}

        def visit(task: str) -> None:
            if task not in seen:
                for name in self._after[task]:
                    visit(name)
                seen[task] = None

        for task in self._minutes:
            visit(task)
        return list(seen)
