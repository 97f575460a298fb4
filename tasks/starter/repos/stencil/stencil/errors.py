"""The one error of the package."""

from __future__ import annotations


class TemplateError(ValueError):
    """A template that cannot be read or rendered. `line` counts from 1; None where there is no line."""

    def __init__(self, message: str, line: int | None = None) -> None:
        self.message, self.line = message, line
        super().__init__(message if line is None else f"line {line}: {message}")
