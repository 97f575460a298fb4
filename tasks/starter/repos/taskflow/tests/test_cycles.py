import pytest

from taskflow import CycleError, load_graph


def cycle(text):
    with pytest.raises(CycleError) as caught:
        load_graph(text).check()
    return caught.value.cycle


def test_two_tasks():
    assert cycle("a < b\nb < a") == ["a", "b", "a"]


def test_a_task_after_itself():
    assert cycle("a < a") == ["a", "a"]


def test_the_way_to_the_cycle_is_left_out():
    assert cycle("start < a\na < b\nb < c\nc < a") == ["a", "b", "c", "a"]
    assert cycle("x < y\ny < z\nz < z") == ["z", "z"]


def test_the_message_shows_the_cycle_alone():
    with pytest.raises(CycleError) as caught:
        load_graph("a < b\nb < c\nc < b").order()
    assert str(caught.value) == "cycle: b -> c -> b"


def test_diamonds_are_no_cycles():
    assert load_graph("a\nb < a\nc < a\nd < b, c").order() == ["a", "b", "c", "d"]
