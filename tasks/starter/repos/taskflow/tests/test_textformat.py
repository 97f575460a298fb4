import pytest

from taskflow import GraphError, dump_graph, load_graph


def test_round_trip():
    text = "a 1\nb 20 < a\nc 0 < a, b\n"
    assert dump_graph(load_graph(text)) == text


def test_defaults_comments_and_blank_lines():
    assert dump_graph(load_graph("# plan\n\n  a\nb<a\n")) == "a 1\nb 1 < a\n"


def test_bad_lines():
    with pytest.raises(GraphError, match="line 2: expected"):
        load_graph("a\nb x < a")
    with pytest.raises(GraphError, match="line 1"):
        load_graph("< a")
    with pytest.raises(GraphError, match="line 1"):
        load_graph("a 1 2")
