"""Filters: functions from a value (and arguments) to a value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

Filter = Callable[..., Any]


class Safe(str):
    """Text that is not escaped any more."""

    __slots__ = ()


def to_text(value: Any) -> str:
    """What a value prints as: nothing for None, `true` and `false`, otherwise its text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def escaped(value: Any) -> str:
    """The text of a value with `&`, `<`, `>` and both quotes replaced by entities; `Safe` text stays as it is."""
    return str(value) if isinstance(value, Safe) else escape(to_text(value), quote=True)


def default(value: Any, replacement: Any = "") -> Any:
    """The replacement for None and for an empty text, list or dictionary; zero and false are values."""
    return replacement if value is None or (hasattr(value, "__len__") and len(value) == 0) else value


def join(value: Any, separator: str = ", ") -> str:
    """The texts of the items, with a separator between them."""
    return separator.join(to_text(item) for item in value or ())


def truncate(value: Any, length: int = 40, ending: str = "...") -> str:
    """At most `length` characters, the ending included; cut at a space where there is one, trailing spaces dropped."""
    text = to_text(value)
    if len(text) <= length:
        return text
    room = max(length - len(ending), 0)
    head = text[:room]
    if text[room] != " " and " " in head:
        head = head[: head.rindex(" ")]
    return (head.rstrip() + ending)[:length]


def plural(value: Any, many: str = "s", one: str = "") -> str:
    """`one` for the number 1 or a collection of one item, `many` otherwise."""
    count = len(value) if hasattr(value, "__len__") else value
    return one if count == 1 else many


FILTERS: Mapping[str, Filter] = {
    "upper": lambda value: to_text(value).upper(),
    "lower": lambda value: to_text(value).lower(),
    "title": lambda value: to_text(value).title(),
    "trim": lambda value: to_text(value).strip(),
    "length": lambda value: len(value or ()),
    "safe": lambda value: Safe(to_text(value)),
    "default": default,
    "join": join,
    "truncate": truncate,
    "plural": plural,
}
