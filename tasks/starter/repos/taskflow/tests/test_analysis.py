import pytest

from taskflow import GraphError, ancestors, earliest_starts, load_graph

PLAN = """
dig 4
pour 2 < dig
frame 6 < pour
wire 3 < frame
roof 5 < frame
paint 2 < wire, roof
garden 1 < dig
"""


def test_ancestors():
    assert ancestors(load_graph(PLAN), "wire") == {"dig", "pour", "frame"}
    assert ancestors(load_graph(PLAN), "dig") == set()


def test_earliest_starts():
    assert earliest_starts(load_graph(PLAN)) == {
        "dig": 0,
        "pour": 4,
        "frame": 6,
        "wire": 12,
        "roof": 12,
        "paint": 17,
        "garden": 4,
    }


def test_bad_graphs_are_refused():
    with pytest.raises(GraphError):
        earliest_starts(load_graph("a < b"))
