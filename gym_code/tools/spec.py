"""What a tool is, and how a call is read and checked before the tool runs.

A schema uses the part of JSON Schema that every model provider understands: an object of `string`, `integer`,
`number` and `array` of `string`, with `enum`, `minimum`, `exclusiveMinimum`, `minLength` and `minItems`.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gym_code.errors import ToolCallError
from gym_code.types import JSON, Task, ToolCall

if TYPE_CHECKING:
    from gym_code.sandbox.base import Sandbox

MALFORMED = "$malformed"
"""Key under which `parse_call` keeps text that is no JSON object, so that records and replays hold it."""

_SHOWN_CHARS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """What a tool works on. `task.limits` are those in force, also where an episode has tightened them."""

    sandbox: Sandbox
    task: Task


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One tool: its name, what the model is told of it, the schema of its arguments, and what it does.

    `run` gets validated arguments and returns the observation; it raises `ToolCallError` for what the agent
    got wrong and `SandboxError` for a fault of ours.
    """

    name: str
    description: str
    parameters: Mapping[str, JSON]
    run: Callable[[ToolContext, Mapping[str, JSON]], str]


def parse_call(call_id: str, name: str, arguments: str | Mapping[str, JSON]) -> ToolCall:
    """A call from a model's words. Never raises: text that is no JSON object is explained when the call runs.

    >>> parse_call("1", "view", '{"path": "a.py"}').arguments
    {'path': 'a.py'}
    >>> parse_call("2", "view", "a.py").arguments
    {'$malformed': 'a.py'}
    """
    if not isinstance(arguments, str):
        return ToolCall(id=call_id, name=name, arguments=arguments)
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        value = {MALFORMED: arguments}
    return ToolCall(id=call_id, name=name, arguments=value)


def check_call(call: ToolCall, tools: Mapping[str, Tool]) -> Tool:
    """The tool a call means, its arguments checked against the schema; raises `ToolCallError` otherwise."""
    tool = tools.get(call.name) if isinstance(call.name, str) else None
    if tool is None:
        known = f"The tools are: {', '.join(tools)}."
        raise ToolCallError(f"unknown tool {_show(call.name)}{_hint(call.name, tools)} {known}")
    if not isinstance(call.arguments, Mapping):
        raise ToolCallError(
            f"{tool.name}: the arguments must be a JSON object, found {_kind(call.arguments)}."
        )
    if MALFORMED in call.arguments:
        raise ToolCallError(f"{tool.name}: {_why_malformed(call.arguments[MALFORMED])}")
    _check_arguments(tool, call.arguments)
    return tool


def _check_arguments(tool: Tool, arguments: Mapping[str, JSON]) -> None:
    properties, required = tool.parameters["properties"], tool.parameters.get("required", ())
    for key in arguments:
        if key not in properties:
            hint = f"{_hint(key, properties)} {_usage(tool)}"
            raise ToolCallError(f"{tool.name}: unknown argument {_show(key)}{hint}")
    for key in required:
        if key not in arguments:
            raise ToolCallError(f"{tool.name}: the argument '{key}' is missing. {_usage(tool)}")
    for key, value in arguments.items():
        wrong = _mismatch(properties[key], value)
        if wrong and value is None and key not in required:
            wrong += "; leave the argument out for its default"
        if wrong:
            raise ToolCallError(f"{tool.name}: the argument '{key}' {wrong}.")


def _mismatch(schema: Mapping[str, JSON], value: JSON) -> str:
    """What is wrong with a value, as the end of a sentence about it; empty when nothing is."""
    kind = schema["type"]
    if not _IS[kind](value):
        return f"must be {_NAMES[kind]}, found {_kind(value)}"
    if kind == "array":
        wrong = next(
            (f"[{i}] {why}" for i, v in enumerate(value) if (why := _mismatch(schema["items"], v))), ""
        )
        if len(value) < schema.get("minItems", 0):
            return f"must have at least {schema['minItems']} items, found {len(value)}"
        return wrong
    if kind == "string":
        return _string_mismatch(schema, value)
    if value < schema.get("minimum", -math.inf):
        return f"must be at least {schema['minimum']}, found {_show(value)}"
    if value <= schema.get("exclusiveMinimum", -math.inf):
        return f"must be more than {schema['exclusiveMinimum']}, found {_show(value)}"
    return ""


def _string_mismatch(schema: Mapping[str, JSON], value: str) -> str:
    if "enum" in schema and value not in schema["enum"]:
        return f"must be one of {', '.join(schema['enum'])}, found {_show(value)}"
    if len(value) < schema.get("minLength", 0):
        return "must not be empty"
    if any("\ud800" <= char <= "\udfff" for char in value):
        return "holds half a surrogate pair, which is no Unicode character"
    return ""


def _is_integer(value: JSON) -> bool:
    # JSON has one number type: 3.0 is an integer there, as JSON Schema says, and True is not.
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and value.is_integer()
    )


def _is_number(value: JSON) -> bool:
    return (isinstance(value, int) and not isinstance(value, bool)) or (
        isinstance(value, float) and math.isfinite(value)
    )


_IS: Mapping[str, Callable[[JSON], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": _is_integer,
    "number": _is_number,
    "array": lambda value: isinstance(value, list | tuple),
}
_NAMES: Mapping[str, str] = {
    "string": "a string",
    "integer": "an integer",
    "number": "a number",
    "array": "an array of strings",
}


def _kind(value: JSON) -> str:
    """A value's JSON type, with the value itself where it is short and safe to show."""
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "an array"
    if value is None:
        return "null"
    name = "a string" if isinstance(value, str) else "a boolean" if isinstance(value, bool) else "a number"
    return f"{name}: {_show(value)}"


def _show(value: JSON) -> str:
    if isinstance(value, int) and value.bit_length() > 200:
        return "a very large number"  # str() of one raises beyond 4300 digits
    text = repr(value) if isinstance(value, str) else str(value).lower()
    return text if len(text) <= _SHOWN_CHARS else text[: _SHOWN_CHARS - 3] + "..."


def _hint(word: object, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown word, with the known one it resembles."""
    if not isinstance(word, str):
        return "."
    near = difflib.get_close_matches(word[:_SHOWN_CHARS], list(known), n=1, cutoff=0.5)
    return f"; did you mean '{near[0]}'?" if near else "."


def _usage(tool: Tool) -> str:
    required = tool.parameters.get("required", ())
    words = [name if name in required else f"{name} (optional)" for name in tool.parameters["properties"]]
    return f"The arguments are: {', '.join(words)}." if words else "It takes no arguments."


def _why_malformed(text: JSON) -> str:
    try:
        value = json.loads(text) if isinstance(text, str) else text
    except json.JSONDecodeError as error:
        return f"the arguments are not JSON: {error.msg} at line {error.lineno}, column {error.colno}."
    except (ValueError, RecursionError):
        return "the arguments are not JSON that can be read: a number is too long or the nesting too deep."
    return f"the arguments must be a JSON object, found {_kind(value)}."
