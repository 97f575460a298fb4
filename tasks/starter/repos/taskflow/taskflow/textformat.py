"""Graphs as text: one task a line, `name minutes < prerequisite, prerequisite`."""

from __future__ import annotations

from taskflow.graph import Graph, GraphError


def load_graph(text: str) -> Graph:
    """Read a graph. Blank lines and lines that begin with `#` are skipped; minutes default to 1.

    Raises GraphError with the number of a line that cannot be read.
    """
    graph = Graph()
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        head, _, tail = line.partition("<")
        name, *minutes = head.split()[:3] or [""]
        after = [item.strip() for item in tail.split(",") if item.strip()]
        if not name or len(minutes) > 1 or (minutes and not minutes[0].isdecimal()):
            raise GraphError(f"line {number}: expected 'name minutes < prerequisites', found {line!r}")
        graph.add(name, minutes=int(minutes[0]) if minutes else 1, after=after)
    return graph


def dump_graph(graph: Graph) -> str:
    """The text of a graph, tasks in the order in which they were added."""
    lines = []
    for task in graph.tasks():
        after = graph.prerequisites(task)
        lines.append(f"{task} {graph.minutes(task)}" + (f" < {', '.join(after)}" if after else ""))
    return "".join(line + "\n" for line in lines)
