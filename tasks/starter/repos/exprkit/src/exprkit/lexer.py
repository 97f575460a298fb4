"""Text to tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

from exprkit.errors import ExprError

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<number>\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)
      | (?P<name>[A-Za-z_][A-Za-z_0-9]*)
      | (?P<symbol>\*\*|//|[-+*/%(),])""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of text. `kind` is number, name, symbol or end; `column` counts from 1."""

    kind: str
    text: str
    column: int


def tokenize(text: str) -> list[Token]:
    """All tokens of a text, white space left out, an `end` token last. Raises ExprError."""
    tokens = []
    position = 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ExprError(f"unexpected character {text[position]!r}", position + 1)
        if match.lastgroup != "space":
            tokens.append(Token(str(match.lastgroup), match.group(), position + 1))
        position = match.end()
    tokens.append(Token("end", "", len(text) + 1))
    return tokens
