"""Template text to pieces."""

from __future__ import annotations

import re
from dataclasses import dataclass

from stencil.errors import TemplateError

_TAG = re.compile(r"\{\{(?P<value>.*?)\}\}|\{%(?P<block>.*?)%\}|\{#(?P<comment>.*?)#\}", re.DOTALL)
_OPENING = re.compile(r"\{[{%#]")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a template. `kind` is text, value or block; tags come without their braces and outer spaces."""

    kind: str
    content: str
    line: int


def split(text: str) -> list[Piece]:
    """The pieces of a template, comments left out. Raises TemplateError for a tag that is never closed."""
    pieces: list[Piece] = []
    position = 0
    for match in _TAG.finditer(text):
        _add_text(pieces, text, position, match.start())
        if match.lastgroup in ("value", "block"):
            line = text.count("\n", 0, match.start()) + 1
            pieces.append(Piece(match.lastgroup, match.group(match.lastgroup).strip(), line))
        position = match.end()
    _add_text(pieces, text, position, len(text))
    return pieces


def _add_text(pieces: list[Piece], text: str, start: int, end: int) -> None:
    line = text.count("\n", 0, start) + 1
    opening = _OPENING.search(text, start, end)
    if opening is not None:
        raise TemplateError("a tag is never closed", text.count("\n", 0, opening.start()) + 1)
    if start < end:
        pieces.append(Piece("text", text[start:end], line))
