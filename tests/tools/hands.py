"""A hand that uses tools in one box, as an agent would."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from toys import ADD, LIMITS, ToySuite

from gym_code.sandbox.base import BoxSpec
from gym_code.tools import parse_call, run_tool

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend, Sandbox
    from gym_code.types import Task, ToolResult


class Hand:
    """The box holds the toy `toy__add-1`."""

    def __init__(self, backend: Backend, **limits: Any) -> None:
        suite = ToySuite(limits=replace(LIMITS, **limits))
        self.task: Task = suite.task(ADD.id)
        spec = BoxSpec(start=suite.start(ADD.id), environment=self.task.environment, limits=self.task.limits)
        self.box: Sandbox = backend.open(spec)

    def __call__(self, name: str, **arguments: object) -> ToolResult:
        return run_tool(parse_call("1", name, arguments), self.box, self.task)

    def says(self, name: str, **arguments: object) -> str:
        """What a call that is no error shows."""
        result = self(name, **arguments)
        assert not result.is_error, result.content
        return result.content

    def error(self, name: str, **arguments: object) -> str:
        """What a call that is an error shows, without the word."""
        result = self(name, **arguments)
        assert result.is_error, result.content
        assert result.content.startswith("Error: ")
        return result.content.removeprefix("Error: ")
