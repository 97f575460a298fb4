"""Calls are read and checked before a tool runs: what is wrong is explained, never raised."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gym_code.errors import ConfigError, ToolCallError
from gym_code.tools import MALFORMED, TOOLS, check_call, choose_tools, openai_tools, parse_call

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def why(name: str, arguments: str) -> str:
    with pytest.raises(ToolCallError) as caught:
        check_call(parse_call("1", name, arguments), TOOLS)
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        (
            "vew",
            "{}",
            "unknown tool 'vew'; did you mean 'view'? The tools are: bash, view, edit, write, "
            "search, test, submit.",
        ),
        (
            "\U0001f40d",
            "{}",
            "unknown tool '\U0001f40d'. The tools are: bash, view, edit, write, search, test, submit.",
        ),
        (
            "view",
            "{",
            "view: the arguments are not JSON: Expecting property name enclosed in double quotes at "
            "line 1, column 2.",
        ),
        ("view", "", "view: the arguments are not JSON: Expecting value at line 1, column 1."),
        ("view", "[1]", "view: the arguments must be a JSON object, found an array."),
        ("view", '"a.py"', "view: the arguments must be a JSON object, found a string: 'a.py'."),
        (
            "view",
            "[" * 100_000,
            "view: the arguments are not JSON that can be read: a number is too long or the nesting "
            "too deep.",
        ),
        (
            "view",
            "{}",
            "view: the argument 'path' is missing. The arguments are: path, start (optional), end "
            "(optional).",
        ),
        (
            "view",
            '{"path": "a", "strat": 1}',
            "view: unknown argument 'strat'; did you mean 'start'? "
            "The arguments are: path, start (optional), end (optional).",
        ),
        ("submit", '{"x": 1}', "submit: unknown argument 'x'. It takes no arguments."),
        ("view", '{"path": 7}', "view: the argument 'path' must be a string, found a number: 7."),
        ("view", '{"path": ""}', "view: the argument 'path' must not be empty."),
        (
            "view",
            '{"path": "a", "start": "3"}',
            "view: the argument 'start' must be an integer, found a string: '3'.",
        ),
        (
            "view",
            '{"path": "a", "start": true}',
            "view: the argument 'start' must be an integer, found a boolean: true.",
        ),
        (
            "view",
            '{"path": "a", "start": 1.5}',
            "view: the argument 'start' must be an integer, found a number: 1.5.",
        ),
        ("view", '{"path": "a", "start": 0}', "view: the argument 'start' must be at least 1, found 0."),
        (
            "view",
            '{"path": "a", "start": null}',
            "view: the argument 'start' must be an integer, found null; leave the argument out for "
            "its default.",
        ),
        (
            "bash",
            '{"command": "ls", "timeout": 0}',
            "bash: the argument 'timeout' must be more than 0, found 0.",
        ),
        (
            "bash",
            '{"command": "ls", "timeout": NaN}',
            "bash: the argument 'timeout' must be a number, found a number: nan.",
        ),
        (
            "search",
            '{"pattern": "x", "kind": "regex"}',
            "search: the argument 'kind' must be one of text, symbol, found 'regex'.",
        ),
        (
            "test",
            '{"ids": "a::b"}',
            "test: the argument 'ids' must be an array of strings, found a string: 'a::b'.",
        ),
        ("test", '{"ids": []}', "test: the argument 'ids' must have at least 1 items, found 0."),
        (
            "test",
            '{"ids": ["a", 2]}',
            "test: the argument 'ids' [1] must be a string, found a number: 2.",
        ),
        (
            "write",
            '{"path": "a", "content": "\\ud800"}',
            "write: the argument 'content' holds half a surrogate pair, which is no Unicode character.",
        ),
    ],
)
def test_a_wrong_call_is_explained(name: str, arguments: str, expected: str) -> None:
    assert why(name, arguments) == expected


def test_a_number_of_ten_thousand_digits_is_explained() -> None:
    # Python refuses to convert it with a ValueError that is no JSONDecodeError.
    text = '{"path": "a", "start": ' + "9" * 10_000 + "}"
    assert why("view", text).startswith("view: the arguments are not JSON that can be read")


def test_right_calls_pass() -> None:
    call = parse_call("1", "view", '{"path": "gr\\u00fc\\u00dfe.py", "start": 2.0}')
    assert call.arguments == {"path": "grüße.py", "start": 2.0}
    assert check_call(call, TOOLS).name == "view"


def test_text_that_is_no_object_stays_in_the_record() -> None:
    call = parse_call("7", "edit", '{"path": ')
    assert (call.id, call.name, call.arguments) == ("7", "edit", {MALFORMED: '{"path": '})


@given(name=st.sampled_from(sorted(TOOLS)) | st.text(), arguments=st.text() | ANYTHING.map(json.dumps))
def test_no_text_makes_checking_raise_anything_else(name: str, arguments: str) -> None:
    with contextlib.suppress(ToolCallError):
        assert check_call(parse_call("1", name, arguments), TOOLS).name == name


def test_openai_form() -> None:
    view = openai_tools()[1]
    assert view["type"] == "function"
    assert view["function"]["name"] == "view"
    assert view["function"]["parameters"]["required"] == ["path"]
    assert json.loads(json.dumps(openai_tools())) == openai_tools()


def test_tools_can_be_chosen() -> None:
    assert list(choose_tools(["submit", "view"])) == ["view", "submit"]
    with pytest.raises(ConfigError, match=r"expected bash, view.*found fly"):
        choose_tools(["fly"])
