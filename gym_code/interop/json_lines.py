"""JSON read strictly, one entry at a time, each with the line it begins on.

`json.loads` forgets lines and lets the last of two equal keys win; here a repeated key and a file cut in the
middle are problems that name their line.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from gym_code.interop.problems import fail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gym_code.types import JSON

_SPACE = re.compile(r"[ \t\r\n]*")


class RepeatedKey(ValueError):
    """An object has a key twice: one of the values would be lost."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    data = dict(pairs)
    if len(data) < len(pairs):
        keys = [key for key, _ in pairs]
        raise RepeatedKey(f"the key {next(key for key in keys if keys.count(key) > 1)!r} twice")
    return data


_DECODER = json.JSONDecoder(object_pairs_hook=_once)


def parse(text: str, where: tuple[str, int], expected: str = "JSON") -> JSON:
    """The value of a text that begins at (file, line). Raises `DataError`."""
    reader = _Reader(text, where)
    value, _ = reader.value(expected)
    reader.end()
    return value


def entries(text: str, file: str) -> Iterator[tuple[str | None, JSON, int]]:
    """(key, value, line) of a JSON list (key None) or object; raises `DataError` where it breaks off."""
    reader = _Reader(text, (file, 1))
    mark = reader.take("[{", "a list or an object")
    close = "]" if mark == "[" else "}"
    seen: dict[str, int] = {}
    if reader.peek() == close:
        reader.take(close, close)
    else:
        while True:
            key, line = None, reader.line
            if mark == "{":
                key, line = reader.value("an instance id in quotes")
                if not isinstance(key, str):
                    raise fail((file, line), "", "an instance id in quotes", key)
                if key in seen:
                    raise fail((file, line), key, f"an id once (first on line {seen[key]})", "it again")
                seen[key] = line
                reader.take(":", "`:`")
            value, line = reader.value("a value")
            yield key, value, line
            if reader.take(f",{close}", f"`,` or `{close}`") == close:
                break
    reader.end()


class _Reader:
    """A place in a text."""

    def __init__(self, text: str, where: tuple[str, int]) -> None:
        self._text, (self._file, self._first) = text, where
        self._at = self._counted = 0
        self._lines = 0

    @property
    def line(self) -> int:
        """The line of the next token."""
        self._skip()
        self._lines += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._first + self._lines

    def peek(self) -> str:
        self._skip()
        return self._text[self._at : self._at + 1]

    def take(self, marks: str, expected: str) -> str:
        mark = self.peek()
        if not mark or mark not in marks:
            raise fail((self._file, self.line), "", expected, self._found())
        self._at += 1
        return mark

    def value(self, expected: str) -> tuple[JSON, int]:
        line = self.line
        try:
            value, self._at = _DECODER.raw_decode(self._text, self._at)
        except json.JSONDecodeError as error:
            at = self._first + self._text.count("\n", 0, error.pos)
            cut = error.pos >= len(self._text.rstrip()) or error.msg.startswith("Unterminated")
            found = f"the end: the file is cut (begins on line {line})" if cut else error.msg
            raise fail((self._file, at), "", expected, found) from None
        except (ValueError, RecursionError) as error:  # A repeated key, a number too long, lists too deep.
            raise fail((self._file, line), "", expected, error) from None
        return value, line

    def end(self) -> None:
        if self.peek():
            raise fail((self._file, self.line), "", "the end", self._found())

    def _found(self) -> str:
        return repr(self._text[self._at : self._at + 40]) if self.peek() else "the end: the file is cut"

    def _skip(self) -> None:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at
