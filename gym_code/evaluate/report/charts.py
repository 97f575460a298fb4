"""Drawings as inline SVG: no script, no request, colours from the page's style sheet.

`track` and `bar` are small and stand in a line or a table; `curves` is a figure of its own, drawn in a box of
`WIDTH` x `HEIGHT` units that the page scales to what it has room for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gym_code.evaluate.report.text import amount, as_html, percent
from gym_code.types import JSON

WIDTH, HEIGHT = 440, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 14, 10, 38
"""Margins around what is plotted: the axes' labels stand there."""
LONG, THIN = 200, 22
"""The box of a track or a bar."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Rates with their intervals over x. A step curve keeps its value up to the next point."""

    label: str
    points: Sequence[tuple[float, Mapping[str, JSON]]]
    step: bool = False


def track(interval: Mapping[str, JSON], *, low: float = 0.0, high: float = 1.0) -> str:
    """An interval on a line from low to high; 0 is marked where it lies between."""

    def across(value: float) -> float:
        return round(6 + (value - low) / (high - low) * (LONG - 12), 1)

    middle = THIN // 2
    zero = f'<line class="zero" x1="{across(0)}" x2="{across(0)}" y1="2" y2="{THIN - 2}"/>'
    return (
        f'<svg class="track" viewBox="0 0 {LONG} {THIN}" aria-hidden="true">'
        f'<line class="grid" x1="6" x2="{LONG - 6}" y1="{middle}" y2="{middle}"/>'
        f"{zero if low < 0.0 < high else ''}"
        f'<line class="line l1" x1="{across(interval["low"])}" x2="{across(interval["high"])}" '
        f'y1="{middle}" y2="{middle}"/>'
        f'<circle class="d1" cx="{across(interval["estimate"])}" cy="{middle}" r="4"/></svg>'
    )


def bar(parts: Mapping[str, int]) -> str:
    """What part each has of the whole, side by side; colours follow the names (CSS classes `s-NAME`)."""
    whole, drawn, at = sum(parts.values()), [], 0.0
    for name, number in parts.items():
        wide = 1000 * number / whole if whole else 0.0
        drawn.append(f'<rect class="s-{name}" x="{at:.2f}" y="0" width="{wide:.2f}" height="14"/>')
        at += wide
    return (
        '<svg class="bar" viewBox="0 0 1000 14" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(drawn)}</svg>"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plane:
    """From x in [low, high] and rates in [0, ceiling] to units of the drawing."""

    low: float
    high: float
    ceiling: float

    def across(self, x: float) -> float:
        share = (x - self.low) / ((self.high - self.low) or 1.0)
        return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)

    def up(self, rate: float) -> float:
        return round(HEIGHT - BOTTOM - rate / self.ceiling * (HEIGHT - BOTTOM - TOP), 1)


def curves(title: str, x_label: str, lines: Sequence[Curve], *, whole: bool = False) -> str:
    """A figure of rates over x with their intervals as bands; "" without a point. whole: x is 1, 2, 3 ..."""
    lines = [line for line in lines if line.points]
    if not lines:
        return ""
    top = max(float(of["high"]) for line in lines for _, of in line.points)
    marks = [mark for mark in ticks(0.0, top) if mark <= 1.0]
    plane = _Plane(
        low=1.0 if whole else 0.0,
        high=max(x for line in lines for x, _ in line.points),
        ceiling=max(marks[-1], top),
    )
    parts = [_side(plane.up(mark), f"{100 * mark:.4g} %") for mark in marks]
    parts += [
        _below(plane.across(mark), HEIGHT - BOTTOM + 15, amount(mark))
        for mark in ticks(plane.low, plane.high, 5)
        if plane.low <= mark <= plane.high and (not whole or mark == int(mark))
    ]
    parts.append(_below((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x_label))
    for color, line in enumerate(lines, 1):
        parts += _drawn(plane, color, line)
    return _figure(title, [line.label for line in lines], parts)


def _drawn(plane: _Plane, color: int, line: Curve) -> list[str]:
    """The band, the line, and a dot with its figures at each point."""
    spots = [
        (plane.across(x), plane.up(of["low"]), plane.up(of["estimate"]), plane.up(of["high"]))
        for x, of in line.points
    ]
    dots = [
        _dot(x, y, color, line.label, at, of)
        for (x, _, y, _), (at, of) in zip(spots, line.points, strict=True)
    ]
    if line.step:
        spots = _steps(spots, plane.across(plane.low), plane.up(0.0))
    outline = [(x, low) for x, low, _, _ in spots] + [(x, high) for x, _, _, high in reversed(spots)]
    return [
        f'<polygon class="band b{color}" points="{_path(outline)}"/>',
        f'<polyline class="line l{color}" points="{_path([(x, y) for x, _, y, _ in spots])}"/>',
        *dots,
    ]


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers, about `count` steps apart, that take in low and high.

    >>> ticks(0.13, 0.58)
    [0.0, 0.2, 0.4, 0.6]
    """
    if high <= low:
        return [low]
    size = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor * count >= (high - low) * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


Spot = tuple[float, float, float, float]


def _steps(spots: Sequence[Spot], start: float, ground: float) -> list[Spot]:
    """A corner before each point: nothing is resolved below the first, and a rate holds until the next."""
    made, before = [], (start, ground, ground, ground)
    made.append(before)
    for spot in spots:
        made += [(spot[0], *before[1:]), spot]
        before = spot
    return made


def _dot(x: float, y: float, color: int, label: str, at: float, of: Mapping[str, JSON]) -> str:
    told = (
        f"{label} at {amount(at)}: {percent(of['estimate'])}, {percent(of['low'])} to {percent(of['high'])}"
    )
    return f'<circle class="d{color}" cx="{x}" cy="{y}" r="3"><title>{as_html(told)}</title></circle>'


def _side(y: float, text: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{text}</text>'
    )


def _below(x: float, y: float, text: str) -> str:
    return f'<text x="{x}" y="{y}" text-anchor="middle">{as_html(text)}</text>'


def _figure(title: str, labels: Sequence[str], parts: Sequence[str]) -> str:
    keys = "".join(
        f'<span><i class="k{color}"></i>{as_html(label)}</span>' for color, label in enumerate(labels, 1)
    )
    legend = f'<span class="keys">{keys}</span>' if len(labels) > 1 else ""
    return (
        f"<figure><figcaption>{as_html(title)}{legend}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{as_html(title)}">'
        f"{''.join(parts)}</svg></figure>\n"
    )


def _path(spots: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x},{y}" for x, y in spots)
