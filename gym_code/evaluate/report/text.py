"""Figures as words, and text from outside made harmless for a page or a Markdown file."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from gym_code.types import JSON

# Control characters, halves of surrogate pairs, and marks that turn the direction of what follows.
_UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]"
)
_MARKS = re.compile(r"[\\`*\[\]|~#!]|(?<!\w)_+|_+(?!\w)")


def clean(text: str) -> str:
    """Text with what no page may hold, or what would show it otherwise than it is, replaced."""
    return _UNSEEN.sub("\ufffd", text)


def as_html(text: str) -> str:
    """Text that cannot be taken for markup, in content or in a quoted attribute."""
    return html.escape(clean(text))


def as_markdown(text: str) -> str:
    """Text on one line that no Markdown reader takes for markup, in a table or elsewhere."""
    line = " ".join(clean(text).split())
    marked = _MARKS.sub(lambda found: "".join(f"\\{mark}" for mark in found[0]), line)
    marked = marked.replace("://", ":\\//")  # nor for a link, which some make of any address
    return marked.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def percent(rate: float) -> str:
    """A rate with one decimal.

    >>> percent(0.4125)
    '41.2 %'
    """
    return f"{100 * rate:.1f} %"


def points(difference: float) -> str:
    """A difference of rates in percentage points.

    >>> points(0.031)
    '+3.1'
    """
    return f"{100 * difference:+.1f}"


def rate_text(interval: Mapping[str, JSON]) -> str:
    """A rate with its interval: `41.2 % [30.1, 53.0]`."""
    return f"{percent(interval['estimate'])} {_ends(interval, '.1f')}"


def points_text(interval: Mapping[str, JSON]) -> str:
    """A difference with its interval, in percentage points: `+3.1 [-0.4, +6.6]`."""
    return f"{points(interval['estimate'])} {_ends(interval, '+.1f')}"


def _ends(interval: Mapping[str, JSON], form: str) -> str:
    return f"[{100 * interval['low']:{form}}, {100 * interval['high']:{form}}]"


def amount(value: float) -> str:
    """A number as short as it can be read: 3 digits, thousands set apart.

    >>> amount(12345.6), amount(0.12345)
    ('12,346', '0.123')
    """
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def count(number: int, noun: str) -> str:
    """A number with its noun, which takes an s.

    >>> count(1, "instance"), count(1200, "instance")
    ('1 instance', '1,200 instances')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
