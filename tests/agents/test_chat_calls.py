import time

import pytest

from agents.toolcalls import hermes_calls, lenient_hermes_calls, llama_calls, number_calls, xml_calls
from gym_code.types import ToolCall

VIEW = ("view", {"path": "a.py"})
VIEW_JSON = '{"name": "view", "arguments": {"path": "a.py"}}'
SUBMIT_JSON = '{"name": "submit", "arguments": {}}'


def xml(name: str, **arguments: str) -> str:
    values = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in arguments.items())
    return f"<tool_call>\n<function={name}>\n{values}</function>\n</tool_call>"


def test_calls_are_numbered_by_turn_and_place() -> None:
    assert number_calls([VIEW, ("submit", {})], 3) == (
        ToolCall(id="call_3_0", name="view", arguments={"path": "a.py"}),
        ToolCall(id="call_3_1", name="submit", arguments={}),
    )
    assert number_calls("no tool call found", 3) == "no tool call found"


def test_an_argument_may_hold_the_tags_of_a_call() -> None:
    text = '<tool_call>{"name": "write", "arguments": {"content": "<tool_call>x</tool_call>"}}</tool_call>'
    assert hermes_calls(text) == [("write", {"content": "<tool_call>x</tool_call>"})]
    assert xml_calls(xml("write", content=text)) == [("write", {"content": text})]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("I give up.", "no tool call found"),
        (VIEW_JSON, "no tool call found"),
        ("<tool_call>\n{oops\n</tool_call>", "not valid JSON: Expecting property name"),
        (f"<tool_call>{VIEW_JSON} and more</tool_call>", "not valid JSON: Extra data"),
        ('<tool_call>{"name": "view", "argum', "is not closed"),
        (f"<tool_call>{VIEW_JSON}</tool_call><tool_call>{VIEW_JSON}", "is not closed"),
        (
            '<tool_call>{"name": "bash", "arguments": {"command": "a\nb"}}</tool_call>',
            "Invalid control character",
        ),
        (f"<tool_call>{'[' * 9999}</tool_call>", "not valid JSON"),
    ],
)
def test_what_is_wrong_with_a_hermes_call_is_said(text: str, problem: str) -> None:
    assert problem in str(hermes_calls(text))


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (f"```json\n{VIEW_JSON}\n```", [VIEW]),
        (f"First:\n```\n{VIEW_JSON}\n```\nthen\n```json\n{SUBMIT_JSON}\n```", [VIEW, ("submit", {})]),
        (f"<tools>\n[{VIEW_JSON}, {SUBMIT_JSON}]\n</tools>", [VIEW, ("submit", {})]),
        (f"\n{VIEW_JSON}\n", [VIEW]),
        (f"Such as ```json\n{SUBMIT_JSON}\n```: <tool_call>{VIEW_JSON}</tool_call>", [VIEW]),
    ],
)
def test_qwen25_coders_other_ways_are_read(text: str, calls: list[object]) -> None:
    assert lenient_hermes_calls(text) == calls


@pytest.mark.parametrize(
    "text",
    [
        f"I would call {VIEW_JSON} now.",
        '```json\n{"name": "gym-code", "arguments": {}}\n```',
        '```json\n{"name": "submit"}\n```',
        '```python\nprint("view")\n```',
        "```json\n{oops}\n```",
        '["view"]',
    ],
)
def test_what_only_looks_like_a_call_is_none(text: str) -> None:
    assert "no tool call found" in lenient_hermes_calls(text)


def test_a_turn_of_blank_lines_is_read_at_once() -> None:
    began = time.process_time()
    assert "no tool call found" in lenient_hermes_calls("<tools>" + "\n" * 2000)
    assert time.process_time() - began < 1


def test_values_of_xml_calls_take_the_types_of_the_schema() -> None:
    text = xml("view", path="7", start="3", end="soon", more="4")
    assert xml_calls(text) == [("view", {"path": "7", "start": 3, "end": "soon", "more": "4"})]
    assert xml_calls(xml("test", ids='["a::b"]')) == [("test", {"ids": ["a::b"]})]
    assert xml_calls(xml("nothing", start="3")) == [("nothing", {"start": "3"})]


def test_xml_values_keep_their_lines() -> None:
    value = "\n  def f():\n    return '</parameter>'\n"
    assert xml_calls(xml("write", path="a", content=value)) == [("write", {"path": "a", "content": value})]


def test_xml_calls_without_the_tag_around_them_are_read() -> None:
    text = "I look.\n<function=view>\n<parameter=path>\na.py\n</parameter>\n</function>\n</tool_call>"
    assert xml_calls(text) == [VIEW]
    assert xml_calls(xml("view", path="a.py") + "\n" + xml("submit")) == [VIEW, ("submit", {})]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("I give up.", "no tool call found"),
        (f"<tool_call>{VIEW_JSON}</tool_call>", "holds no <function=NAME>"),
        ("<tool_call><function=view>", "the call of view goes on with .*, found 'the end'"),
        ("<function=view>\n<parameter=path>\na.p", "found '<parameter=path>.*a.p'"),
        (f"<function=view>{VIEW_JSON}</function>", "or ends with </function>, found '{"),
    ],
)
def test_what_is_wrong_with_an_xml_call_is_said(text: str, problem: str) -> None:
    found = xml_calls(text)
    assert isinstance(found, str)
    with pytest.raises(ValueError, match=problem):
        raise ValueError(found)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ('{"name": "view", "parameters": {"path": "a.py"}}', [VIEW]),
        ('<|python_tag|>{"name": "view", "parameters": {"path": "a.py"}}', [VIEW]),
        ('I look. {"type": "function", "name": "view", "parameters": {"path": "a.py"}}', [VIEW]),
        ('{"name": "submit", "parameters": {}}; {"name": "submit"}\nDone.', [("submit", {}), ("submit", {})]),
    ],
)
def test_llama_calls_are_json_objects_in_a_row(text: str, calls: list[object]) -> None:
    assert llama_calls(text) == calls


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("I give up { so }.", "no tool call found"),
        ('{"name": "view", "parameters": {"path": ', "not valid JSON"),
        ('{"name": "view", "parameters": "a.py"}', "parameters of view must be an object, found str"),
        ('{"parameters": {}}', 'is an object {"name": ..., "parameters": {...}}'),
        ('{"name": "submit", "parameters": {}}; {', "not valid JSON"),
    ],
)
def test_what_is_wrong_with_a_llama_call_is_said(text: str, problem: str) -> None:
    assert problem in str(llama_calls(text))
