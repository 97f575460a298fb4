import pytest

import taskflow
from taskflow import CycleError, Graph, load_graph

PLAN = """
dig 4
pour 2 < dig
frame 6 < pour
wire 3 < frame
roof 5 < frame
paint 2 < wire, roof
garden 1 < dig
"""


def test_the_longest_chain():
    assert taskflow.critical_path(load_graph(PLAN)) == ["dig", "pour", "frame", "roof", "paint"]


def test_a_long_task_alone_beats_a_chain():
    assert taskflow.critical_path(load_graph("a 2\nb 2 < a\nc 9")) == ["c"]


def test_minutes_count_not_the_number_of_tasks():
    assert taskflow.critical_path(load_graph("a 1\nb 1 < a\nc 1 < b\nd 5\ne 1 < d, c")) == ["d", "e"]


def test_ties_go_to_the_last_task_added_first():
    assert taskflow.critical_path(load_graph("b 3\na 3")) == ["b"]
    assert taskflow.critical_path(load_graph("x 1\ny 2 < x\nz 2 < x")) == ["x", "y"]


def test_ties_inside_the_chain():
    assert taskflow.critical_path(load_graph("q 2\np 2\nend 1 < p, q")) == ["q", "end"]


def test_tasks_without_minutes_are_part_of_it():
    assert taskflow.critical_path(load_graph("a 3\ndone 0 < a")) == ["a"]
    assert taskflow.critical_path(load_graph("done 0 < a\na 3")) == ["a", "done"]


def test_empty_graph():
    assert taskflow.critical_path(Graph()) == []
    assert taskflow.slack(Graph()) == {}


def test_slack():
    assert taskflow.slack(load_graph(PLAN)) == {
        "dig": 0,
        "pour": 0,
        "frame": 0,
        "wire": 2,
        "roof": 0,
        "paint": 0,
        "garden": 14,
    }


def test_slack_of_a_chain_is_shared():
    assert taskflow.slack(load_graph("a 1\nb 2 < a\nc 10\nd 1 < b, c")) == {"a": 7, "b": 7, "c": 0, "d": 0}


def test_slack_keeps_the_order_of_tasks():
    assert list(taskflow.slack(load_graph("z < a\na\nm"))) == ["z", "a", "m"]


def test_cycles_are_refused():
    for function in ("critical_path", "slack"):
        with pytest.raises(CycleError) as caught:
            getattr(taskflow, function)(load_graph("a < b\nb < a"))
        assert caught.value.cycle == ["a", "b", "a"]
