"""What an agent can do in an episode: one module a tool.

Every observation is text of valid Unicode: at most `limits.output_bytes` characters and a few lines of
notes. An observation that begins with `Error: ` says why the call did nothing.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from gym_code.errors import ConfigError, ToolCallError
from gym_code.tools.bash import BASH
from gym_code.tools.edit import EDIT
from gym_code.tools.search import SEARCH
from gym_code.tools.spec import MALFORMED, Tool, ToolContext, check_call, parse_call
from gym_code.tools.submit import SUBMIT
from gym_code.tools.test import TEST
from gym_code.tools.text import valid_unicode
from gym_code.tools.view import VIEW
from gym_code.tools.write import WRITE
from gym_code.types import Task, ToolCall, ToolResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gym_code.sandbox.base import Sandbox

_ORDER = (BASH, VIEW, EDIT, WRITE, SEARCH, TEST, SUBMIT)

TOOLS: Mapping[str, Tool] = MappingProxyType({tool.name: tool for tool in _ORDER})
"""Every tool by name, in the order in which models are told of them."""


def choose_tools(names: Iterable[str] | None) -> Mapping[str, Tool]:
    """Some of the tools by name (None: all) in the usual order; raises `ConfigError` for an unknown one."""
    if names is None:
        return TOOLS
    wanted = set(names)
    if unknown := sorted(wanted - set(TOOLS)):
        raise ConfigError("unknown tool", where="tools", expected=", ".join(TOOLS), found=", ".join(unknown))
    return MappingProxyType({name: tool for name, tool in TOOLS.items() if name in wanted})


def openai_tools(tools: Mapping[str, Tool] = TOOLS) -> list[dict[str, Any]]:
    """The tools in the form that the `tools` field of an OpenAI-compatible chat request takes."""
    return [
        {
            "type": "function",
            "function": {"name": t.name, "description": t.description, "parameters": dict(t.parameters)},
        }
        for t in tools.values()
    ]


def error_result(call_id: str, message: str) -> ToolResult:
    """The observation that a call did nothing, and why."""
    return ToolResult(call_id=call_id, content=valid_unicode(f"Error: {message}"), is_error=True)


def run_tool(call: ToolCall, sandbox: Sandbox, task: Task, tools: Mapping[str, Tool] = TOOLS) -> ToolResult:
    """Carry out one call. Whatever the call got wrong is an observation; only `SandboxError` is raised."""
    try:
        tool = check_call(call, tools)
        content = tool.run(ToolContext(sandbox=sandbox, task=task), call.arguments)
    except ToolCallError as error:
        return error_result(call.id, str(error))
    return ToolResult(call_id=call.id, content=valid_unicode(content))


__all__ = [
    "MALFORMED",
    "TOOLS",
    "Tool",
    "ToolContext",
    "check_call",
    "choose_tools",
    "error_result",
    "openai_tools",
    "parse_call",
    "run_tool",
]
