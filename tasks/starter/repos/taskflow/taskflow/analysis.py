"""What a graph says about the plan as a whole. All functions raise GraphError for a graph that makes no sense."""

from __future__ import annotations

from taskflow.graph import Graph


def ancestors(graph: Graph, name: str) -> set[str]:
    """Everything that must be done before a task, directly or not."""
    graph.check()
    found: set[str] = set()
    waiting = graph.prerequisites(name)
    while waiting:
        task = waiting.pop()
        if task not in found:
            found.add(task)
            waiting += graph.prerequisites(task)
    return found


def earliest_starts(graph: Graph) -> dict[str, int]:
    """The minute at which each task can begin when nobody has to wait for a worker, in the order of `tasks()`."""
    starts: dict[str, int] = {}
    for task in graph.order():
        ends = (starts[name] + graph.minutes(name) for name in graph.prerequisites(task))
        starts[task] = max(ends, default=0)
    return {task: starts[task] for task in graph.tasks()}


def critical_path(graph: Graph) -> list[str]:
    """The longest chain of tasks, first to last: the plan cannot be shorter than the sum of its minutes.

    Of equally long chains, the one whose last task was added first is taken, and the same rule picks every
    task before it. Empty for an empty graph.
    """
    starts = earliest_starts(graph)
    ends = {task: start + graph.minutes(task) for task, start in starts.items()}
    place = {task: index for index, task in enumerate(graph.tasks())}
    candidates = list(starts)
    path: list[str] = []
    while candidates:
        last = min(candidates, key=lambda task: (-ends[task], place[task]))
        path.append(last)
        candidates = graph.prerequisites(last)
    return path[::-1]


def slack(graph: Graph) -> dict[str, int]:
    """Minutes by which each task can be late without making the whole plan longer, in the order of `tasks()`."""
    starts = earliest_starts(graph)
    total = max((start + graph.minutes(task) for task, start in starts.items()), default=0)
    latest: dict[str, int] = {}
    for task in reversed(graph.order()):
        deadline = min((latest[name] for name in graph.dependents(task)), default=total)
        latest[task] = deadline - graph.minutes(task)
    return {task: latest[task] - start for task, start in starts.items()}
