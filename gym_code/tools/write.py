"""write: create or replace a file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gym_code.tools.spec import Tool, ToolContext
from gym_code.tools.text import path_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gym_code.types import JSON


def _write(context: ToolContext, arguments: Mapping[str, JSON]) -> str:
    path = arguments["path"]
    with path_errors(context.sandbox, path):
        context.sandbox.write(path, arguments["content"].encode())
    return f"Wrote {path}."


WRITE = Tool(
    name="write",
    description="Create a file, or replace one whole. Missing directories are made.",
    parameters={
        "type": "object",
        "properties": {
            "path": {"type": "string", "minLength": 1, "description": "The file."},
            "content": {"type": "string", "description": "All of its text."},
        },
        "required": ["path", "content"],
        "additionalProperties": False,
    },
    run=_write,
)
