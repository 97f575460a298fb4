import pytest

import taskflow
from taskflow import Graph, GraphError, load_graph


def plan(text, workers):
    return taskflow.Schedule(load_graph(text), workers)


def rows(schedule):
    return [(slot.task, slot.worker, slot.start, slot.end) for slot in schedule.slots]


def test_one_worker_does_one_thing_after_another():
    assert rows(plan("a 2\nb 3 < a\nc 1 < b", 1)) == [("a", 0, 0, 2), ("b", 0, 2, 5), ("c", 0, 5, 6)]


def test_two_workers_share():
    schedule = plan("a 4\nb 3\nc 2", 2)
    assert rows(schedule) == [("a", 0, 0, 4), ("b", 1, 0, 3), ("c", 1, 3, 5)]
    assert schedule.minutes == 5


def test_the_longest_chain_goes_first():
    assert rows(plan("short 3\nhead 1\ntail 5 < head", 1)) == [
        ("head", 0, 0, 1),
        ("tail", 0, 1, 6),
        ("short", 0, 6, 9),
    ]


def test_ties_go_to_the_task_added_first():
    assert plan("b 2\na 2\nc 2", 1).of(0) == ["b", "a", "c"]


def test_workers_wait_for_prerequisites():
    schedule = plan("a 3\nb 1\nc 2 < a, b", 2)
    assert rows(schedule) == [("a", 0, 0, 3), ("b", 1, 0, 1), ("c", 0, 3, 5)]
    assert schedule.idle(0) == 0
    assert schedule.idle(1) == 4


def test_the_lowest_free_worker_is_taken():
    schedule = plan("a 2\nb 2\nc 1 < a, b\nd 1 < c", 3)
    assert schedule.of(0) == ["a", "c", "d"]
    assert schedule.of(1) == ["b"]
    assert schedule.of(2) == []


def test_running_at_a_minute():
    schedule = plan("a 4\nb 3\nc 2", 2)
    assert schedule.at(0) == ["a", "b"]
    assert schedule.at(3) == ["a", "c"]
    assert schedule.at(4) == ["c"]
    assert schedule.at(5) == []


def test_tasks_without_minutes():
    schedule = plan("a 2\nmark 0 < a\nb 1 < mark", 1)
    assert rows(schedule) == [("a", 0, 0, 2), ("mark", 0, 2, 2), ("b", 0, 2, 3)]


def test_empty_graph():
    schedule = taskflow.Schedule(Graph(), 2)
    assert schedule.slots == []
    assert schedule.minutes == 0
    assert schedule.idle(1) == 0


def test_slots_are_values():
    assert plan("a 2", 1).slots == [taskflow.Slot(task="a", worker=0, start=0, end=2)]
    assert len({slot for _ in range(2) for slot in plan("a 2\nb", 2).slots}) == 2


def test_a_worker_is_needed():
    with pytest.raises(ValueError, match="worker") as caught:
        plan("a", 0)
    assert str(caught.value) == "a schedule needs at least one worker, not 0"


def test_bad_graphs_are_refused():
    with pytest.raises(GraphError) as caught:
        plan("a < b", 1)
    assert str(caught.value) == "task 'a' comes after unknown 'b'"
