"""Curves as inline SVG: no script, no request, colours from the page's style sheet, values on hover.

Every chart is drawn in one box of `WIDTH` x `HEIGHT` units, which the page scales to what it has room for.
"""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

WIDTH, HEIGHT = 440, 230
LEFT, RIGHT, TOP, BOTTOM = 46, 12, 10, 24
"""Margins around what is plotted: labels of the axes stand there."""
HOVERS = 200
"""Most columns that tell their values: more could not be hit."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One line. `intervals` (low, high at each point) makes it dots with bars.

    `color` is a number from 1, its place among the series without one; `faint` steps back.
    """

    label: str
    points: Sequence[Point]
    intervals: Sequence[Point] = ()
    color: int = 0
    faint: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scale:
    """From values to units of the drawing."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = self.low, self.high
        if self.log:
            value, low, high = math.log10(value), math.log10(low), math.log10(high)
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)


def line_chart(
    title: str, series: Sequence[Series], *, bounds: Sequence[float] = (), log: bool = False
) -> str:
    """A figure of lines over steps; nothing ("") where no series has a point.

    bounds: what the y axis shows at least. log: a logarithmic y axis, values of 0 left out.
    """
    if log:
        series = [replace(s, points=[p for p in s.points if p[1] > 0]) for s in series]
    series = [s for s in series if s.points]
    if not series:
        return ""
    across = _steps_scale([x for s in series for x, _ in s.points])
    values = [y for s in series for _, y in s.points]
    values += [y for s in series for pair in s.intervals for y in pair]
    marks, up = _values_scale([*values, *bounds], log)
    parts = [_axes(across, up, marks)]
    colors = [one.color or number for number, one in enumerate(series, 1)]
    for one, color in zip(series, colors, strict=True):
        spots = [(across(x), up(y)) for x, y in one.points]
        parts.append(_dots(one, spots, up, color) if one.intervals else _line(one, spots, color))
    known = {s.label: dict(s.points) for s in series}
    parts.append(_hovers(across, sorted({x for s in series for x, _ in s.points}), known, number_text))
    return _figure(title, list(zip(known, colors, strict=True)), parts)


def share_chart(title: str, steps: Sequence[float], parts: Mapping[str, Sequence[float]]) -> str:
    """A figure of what part each has of the whole, stacked to 100 % at every step."""
    parts = {name: values for name, values in parts.items() if any(values)}
    if not steps or not parts:
        return ""
    across, up = _steps_scale(steps), _Scale(low=0, high=1, start=HEIGHT - BOTTOM, end=TOP)
    wholes = [sum(values) or 1.0 for values in zip(*parts.values(), strict=True)]
    shares = {name: [v / w for v, w in zip(values, wholes, strict=True)] for name, values in parts.items()}
    drawn, below = [], [0.0] * len(steps)
    for number, values in enumerate(shares.values(), 1):
        above = [low + value for low, value in zip(below, values, strict=True)]
        outline = [(across(x), up(y)) for x, y in zip(steps, above, strict=True)]
        outline += [(across(x), up(y)) for x, y in reversed(list(zip(steps, below, strict=True)))]
        if len(steps) == 1:  # an area needs a width
            outline = [(LEFT, outline[0][1]), (WIDTH - RIGHT, outline[0][1])]
            outline += [(WIDTH - RIGHT, up(below[0])), (LEFT, up(below[0]))]
        drawn.append(f'<polygon class="area a{number}" points="{_path(outline)}"/>')
        below = above
    axes = _axes(across, up, [(value, f"{value:.0%}") for value in (0, 0.25, 0.5, 0.75, 1)])
    known = {name: dict(zip(steps, values, strict=True)) for name, values in shares.items()}
    hovers = _hovers(across, steps, known, lambda share: f"{share:.0%}")
    return _figure(title, [(name, n) for n, name in enumerate(parts, 1)], [*drawn, axes, hovers])


def sparkline(values: Sequence[float]) -> str:
    """A small line of values between 0 and 1."""
    if not values:
        return ""
    across = _Scale(low=0, high=max(len(values) - 1, 1), start=2, end=98)
    up = _Scale(low=0, high=1, start=20, end=2)
    spots = [(across(x), up(y)) for x, y in enumerate(values)]
    line = f'<polyline class="line l1" points="{_path(spots)}"/>'
    return f'<svg class="spark" viewBox="0 0 100 22" aria-hidden="true">{line}</svg>'


def span(before: float, after: float) -> str:
    """Where a rate went, on a track from 0 to 1."""
    across = _Scale(low=0, high=1, start=5, end=95)
    return (
        '<svg class="spark" viewBox="0 0 100 22" aria-hidden="true">'
        '<line class="grid" x1="5" x2="95" y1="11" y2="11"/>'
        f'<line class="line l1" x1="{across(before)}" x2="{across(after)}" y1="11" y2="11"/>'
        f'<circle class="hollow" cx="{across(before)}" cy="11" r="4"/>'
        f'<circle class="dot d1" cx="{across(after)}" cy="11" r="4"/></svg>'
    )


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers, about `count` steps apart, that take in low and high.

    >>> ticks(0.13, 0.58)
    [0.0, 0.2, 0.4, 0.6]
    """
    size = 10.0 ** math.floor(math.log10((high - low) / count))
    step = next(size * factor for factor in (1, 2, 5, 10) if size * factor * count >= (high - low) * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def number_text(value: float) -> str:
    """A number as short as it can be read: 3 digits, thousands set apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _steps_scale(steps: Sequence[float]) -> _Scale:
    low, high = min(steps), max(steps)
    return _Scale(low=low, high=high if high > low else low + 1, start=LEFT, end=WIDTH - RIGHT)


def _values_scale(values: Sequence[float], log: bool) -> tuple[list[tuple[float, str]], _Scale]:
    """The marks of the y axis with their text, and its scale, which ends at the outer marks."""
    low, high = min(values), max(values)
    if log:
        first = math.floor(math.log10(low))
        last = max(math.ceil(math.log10(high)), first + 1)
        every = max(1, (last - first) // 4)
        marks = [10.0**n for n in range(first, last + every, every)]
    else:
        marks = ticks(low, high) if high > low else ticks(min(low, 0.0), max(low, 0.0) or 1.0)
    scale = _Scale(low=marks[0], high=marks[-1], start=HEIGHT - BOTTOM, end=TOP, log=log)
    return [(mark, number_text(mark)) for mark in marks], scale


def _axes(across: _Scale, up: _Scale, marks: Sequence[tuple[float, str]]) -> str:
    made = []
    for value, text in marks:
        y = up(value)
        made.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>')
        made.append(f'<text x="{LEFT - 6}" y="{y + 4}" text-anchor="end">{text}</text>')
    for value in ticks(across.low, across.high, 5):
        if across.low <= value <= across.high and value == int(value):
            made.append(
                f'<text x="{across(value)}" y="{HEIGHT - 6}" text-anchor="middle">{int(value)}</text>'
            )
    return "".join(made)


def _line(series: Series, spots: Sequence[Point], color: int) -> str:
    faint = " faint" if series.faint else ""
    if len(spots) == 1:
        return f'<circle class="dot d{color}{faint}" cx="{spots[0][0]}" cy="{spots[0][1]}" r="3"/>'
    return f'<polyline class="line l{color}{faint}" points="{_path(spots)}"/>'


def _dots(series: Series, spots: Sequence[Point], up: _Scale, color: int) -> str:
    made = []
    for (x, y), (low, high) in zip(spots, series.intervals, strict=True):
        made.append(f'<line class="line l{color}" x1="{x}" x2="{x}" y1="{up(low)}" y2="{up(high)}"/>')
        made.append(f'<circle class="dot d{color}" cx="{x}" cy="{y}" r="4"/>')
    return "".join(made)


def _hovers(
    across: _Scale,
    steps: Sequence[float],
    known: Mapping[str, Mapping[float, float]],
    text: Callable[[float], str],
) -> str:
    """Columns that show a line and the values of their step under the pointer."""
    made = []
    shown = steps[:: math.ceil(len(steps) / HOVERS)]
    wide = round((WIDTH - LEFT - RIGHT) / len(shown), 1)
    for step in shown:
        told = [f"{label}: {text(values[step])}" for label, values in known.items() if step in values]
        title = html.escape("\n".join([f"step {int(step)}", *told]))
        x = across(step)
        made.append(
            f'<g class="hover"><rect x="{round(x - wide / 2, 1)}" y="{TOP}" width="{wide}" '
            f'height="{HEIGHT - TOP - BOTTOM}"/><line x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
            f"<title>{title}</title></g>"
        )
    return "".join(made)


def _figure(title: str, keys: Sequence[tuple[str, int]], parts: Sequence[str]) -> str:
    told = "".join(f'<span><i class="k{color}"></i>{html.escape(label)}</span>' for label, color in keys)
    legend = f'<span class="keys">{told}</span>' if len(keys) > 1 else ""
    return (
        f"<figure><figcaption>{html.escape(title)}{legend}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(title)}">'
        f"{''.join(parts)}</svg></figure>\n"
    )


def _path(spots: Sequence[Point]) -> str:
    return " ".join(f"{x},{y}" for x, y in spots)
