"""Task graphs: order, critical path, schedules for several workers."""

from taskflow.analysis import ancestors, critical_path, earliest_starts, slack
from taskflow.graph import CycleError, Graph, GraphError
from taskflow.schedule import Schedule, Slot
from taskflow.textformat import dump_graph, load_graph

__all__ = [
    "CycleError",
    "Graph",
    "GraphError",
    "Schedule",
    "Slot",
    "ancestors",
    "critical_path",
    "dump_graph",
    "earliest_starts",
    "load_graph",
    "slack",
]
