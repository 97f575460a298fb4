"""Names to values while a template is rendered."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stencil.errors import TemplateError


class Context:
    """Values by name, in layers: the innermost layer that has a name wins."""

    def __init__(self, values: Mapping[str, Any], *, strict: bool = False) -> None:
        self._layers: list[Mapping[str, Any]] = [values]
        self._strict = strict

    def push(self, values: Mapping[str, Any]) -> None:
        """Put a layer on top."""
        self._layers.append(values)

    def pop(self) -> None:
        """Take the top layer away."""
        self._layers.pop()

    def look_up(self, path: str, line: int) -> Any:
        """The value of a dotted path; None for an unknown one, or TemplateError in strict mode."""
        name, *steps = path.split(".")
        layer = next((layer for layer in reversed(self._layers) if name in layer), None)
        if layer is None:
            return self._unknown(path, line)
        value = layer[name]
        for step in steps:
            found, value = _step(value, step)
            if not found:
                return self._unknown(path, line)
        return value

    def _unknown(self, path: str, line: int) -> None:
        if self._strict:
            raise TemplateError(f"unknown name {path!r}", line)


def _step(value: Any, step: str) -> tuple[bool, Any]:
    if isinstance(value, Mapping):
        return step in value, value.get(step)
    if step.isdecimal() and isinstance(value, (list, tuple)):
        return int(step) < len(value), value[int(step)] if int(step) < len(value) else None
    if step.startswith("_"):
        return False, None
    return hasattr(value, step), getattr(value, step, None)
