"""Tool calls read from what a model wrote, in the form of its family.

A family's parser takes the text of a turn (without thoughts) and returns the calls as name and arguments, or
a sentence that tells the policy what is wrong. A turn is read whole or not at all: beside a broken call none
is carried out. What the arguments should have been is the tools' affair (`gym_code.tools.check_call`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gym_code.tools import TOOLS
from gym_code.types import JSON, ToolCall

Read = list[tuple[str, dict[str, JSON]]] | str
"""Calls as name and arguments, or what is wrong with them."""

NO_HERMES = 'no tool call found; write one as <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>'
NO_XML = (
    "no tool call found; write one as <tool_call>\n<function=NAME>\n<parameter=KEY>\nVALUE\n</parameter>\n"
    "</function>\n</tool_call>"
)
NO_LLAMA = 'no tool call found; write one as {"name": ..., "parameters": {...}}'

_CLOSE = re.compile(r"\s*</tool_call>")
_FENCED = re.compile(r"<tools>(.*?)</tools>|```(?:json)?\s*([\[{].*?[\]}])\s*```", re.DOTALL)
_FUNCTION = re.compile(r"<function=([^>\n]+)>")
_PARAMETER = re.compile(
    # A value may hold anything but what ends it: `</parameter>` counts where the call goes on or ends.
    r"\s*<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>"
    r"(?=\s*(?:<parameter=[^>\n]+>|</function>\s*(?:</tool_call>|<tool_call>|<function=|\Z)))",
    re.DOTALL,
)
_END = re.compile(r"\s*</function>")
_LLAMA = re.compile(r'\{\s*"(?:name|type|function|parameters)"')
_NEXT = re.compile(r"\s*[;,]?\s*(?=\{)")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """Models that write calls alike."""

    name: str
    signs: tuple[str, ...]
    """What the chat templates of the family have in them, each of these."""
    read: Callable[[str], Read]
    ends: tuple[str, ...] = ()
    """Tokens that end a turn beside the end mark of the template."""


def number_calls(found: Read, turn: int) -> tuple[ToolCall, ...] | str:
    """The calls of a turn as records; their ids name turn and place."""
    if isinstance(found, str):
        return found
    return tuple(
        ToolCall(id=f"call_{turn}_{number}", name=name, arguments=arguments)
        for number, (name, arguments) in enumerate(found)
    )


def hermes_calls(text: str) -> Read:
    """JSON between `<tool_call>` tags (Qwen2.5, Qwen3, the tiny model).

    >>> hermes_calls('I look. <tool_call>{"name": "view", "arguments": {"path": "a.py"}}</tool_call>')
    [('view', {'path': 'a.py'})]
    """
    calls = []
    at = text.find("<tool_call>")
    while at >= 0:
        body = text[at + len("<tool_call>") :].lstrip()
        try:
            data, end = _DECODER.raw_decode(body)
            close = _CLOSE.match(body, end)
        except (ValueError, RecursionError):
            close = None
        if close is None:
            return _why_broken(body)
        call = _call(data, "arguments")
        if isinstance(call, str):
            return call
        calls.append(call)
        text = body[close.end() :]
        at = text.find("<tool_call>")
    return calls or NO_HERMES


def lenient_hermes_calls(text: str) -> Read:
    """`hermes_calls`; a turn without the tag may hold its calls in `<tools>`, in a fence, or be one itself.

    Qwen2.5-Coder, told of `<tool_call>` by its template, answers so all the same (vLLM issue 32926). What
    stands there counts only where it is nothing but a call of one of our tools.
    """
    if "<tool_call>" in text:
        return hermes_calls(text)
    bodies = [match[1] or match[2] or "" for match in _FENCED.finditer(text)] or [text.strip()]
    calls: list[tuple[str, dict[str, JSON]]] = []
    for body in bodies:
        try:
            data = json.loads(body)
        except (ValueError, RecursionError):
            continue
        for item in data if isinstance(data, list) else [data]:
            call = _call(item, "arguments")
            if not isinstance(call, str) and call[0] in TOOLS and "arguments" in item:
                calls.append(call)
    return calls or NO_HERMES


def xml_calls(text: str) -> Read:
    r"""Tags for function and parameters (Qwen3-Coder); the tag around them may be missing.

    Values are text: those of parameters that are no strings are read as JSON, as the tool's schema wants.

    >>> xml_calls("<tool_call>\n<function=view>\n<parameter=path>a.py</parameter>\n</function>\n</tool_call>")
    [('view', {'path': 'a.py'})]
    """
    calls = []
    function = _FUNCTION.search(text)
    while function:
        name, at = function[1].strip(), function.end()
        arguments: dict[str, JSON] = {}
        while parameter := _PARAMETER.match(text, at):
            key = parameter[1].strip()
            arguments[key] = _typed(name, key, parameter[2])
            at = parameter.end()
        end = _END.match(text, at)
        if end is None:
            found = text[at:].strip()[:40] or "the end"
            return (
                f"the call of {name} goes on with <parameter=...> or ends with </function>, found {found!r}"
            )
        calls.append((name, arguments))
        function = _FUNCTION.search(text, end.end())
    return calls or ("the tool call holds no <function=NAME>" if "<tool_call>" in text else NO_XML)


def llama_calls(text: str) -> Read:
    """JSON objects, one after the other, with or without `<|python_tag|>` before them (Llama 3.1 and later).

    >>> llama_calls('{"name": "view", "parameters": {"path": "a.py"}}')
    [('view', {'path': 'a.py'})]
    """
    first = _LLAMA.search(text)
    if first is None:
        return NO_LLAMA
    calls, at = [], first.start()
    while True:
        try:
            data, at = _DECODER.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            return f"the tool call is not valid JSON: {error}"
        call = _call(data, "parameters")
        if isinstance(call, str):
            return call
        calls.append(call)
        following = _NEXT.match(text, at)
        if following is None:
            return calls
        at = following.end()


FAMILIES: Sequence[Family] = (
    Family(name="qwen3-coder", signs=("<tool_call>", "<function=", "<parameter="), read=xml_calls),
    Family(name="hermes", signs=("<tool_call>", "arguments"), read=lenient_hermes_calls),
    Family(name="llama", signs=("<|start_header_id|>", "parameters"), read=llama_calls, ends=("<|eom_id|>",)),
)


def _call(data: JSON, key: str) -> tuple[str, dict[str, JSON]] | str:
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        return f'a tool call is an object {{"name": ..., "{key}": {{...}}}}'
    arguments = data.get(key, {})
    if not isinstance(arguments, dict):
        return f"{key} of {data['name']} must be an object, found {type(arguments).__name__}"
    return data["name"], arguments


def _why_broken(body: str) -> str:
    """What is wrong with what follows `<tool_call>`."""
    inside, closed, _ = body.partition("</tool_call>")
    if not closed:
        return "the tool call is not closed: </tool_call> is missing"
    try:
        json.loads(inside.rstrip())
    except (ValueError, RecursionError) as error:
        return f"the tool call is not valid JSON: {error}"
    return "the tool call is not valid JSON"


def _typed(name: str, key: str, text: str) -> JSON:
    schema = TOOLS[name].parameters["properties"].get(key, {}) if name in TOOLS else {}
    if schema.get("type", "string") == "string":
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
