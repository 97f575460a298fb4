"""submit: hand in the repository as it stands. The episode sees the call and ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gym_code.tools.spec import Tool, ToolContext

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gym_code.types import JSON


def _submit(context: ToolContext, arguments: Mapping[str, JSON]) -> str:
    return "Submitted."


SUBMIT = Tool(
    name="submit",
    description="Hand in the repository as it stands and end the episode.",
    parameters={"type": "object", "properties": {}, "required": [], "additionalProperties": False},
    run=_submit,
)
