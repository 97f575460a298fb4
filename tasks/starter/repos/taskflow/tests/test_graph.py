import pytest

from taskflow import Graph, GraphError, load_graph


def test_order_breaks_ties_by_insertion():
    graph = load_graph("c\nb < c\na < c\nd")
    assert graph.order() == ["c", "d", "b", "a"]


def test_stages():
    graph = load_graph("z < y\ny < x\nx\nw < x")
    assert graph.stages() == [["x"], ["y", "w"], ["z"]]
    assert Graph().stages() == []


def test_neighbours():
    graph = load_graph("a\nb < a\nc < b, a, b")
    assert graph.prerequisites("c") == ["b", "a"]
    assert graph.dependents("a") == ["b", "c"]


def test_size_and_membership():
    graph = load_graph("a 3\nb")
    assert len(graph) == 2
    assert "a" in graph
    assert "x" not in graph
    assert graph.minutes("a") == 3


def test_bad_tasks():
    graph = Graph()
    graph.add("a")
    with pytest.raises(GraphError, match="added twice"):
        graph.add("a")
    with pytest.raises(GraphError, match="negative"):
        graph.add("b", minutes=-1)


def test_unknown_prerequisite():
    with pytest.raises(GraphError, match="'a' comes after unknown 'b'"):
        load_graph("a < b").order()
