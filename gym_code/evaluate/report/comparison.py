"""A comparison of two evaluations as tables, Markdown and a page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from gym_code.evaluate.report.markdown import cautions_markdown, table_markdown
from gym_code.evaluate.report.page import cautions_html, table_html, whole_page
from gym_code.evaluate.report.tables import Cell, Score, Table
from gym_code.evaluate.report.text import as_html, as_markdown, count, percent, points_text
from gym_code.types import JSON


def finding(summary: Mapping[str, JSON]) -> str:
    """The outcome in a sentence."""
    difference = summary["difference"]
    on = (
        f"on {count(summary['shared'], 'instance')} of "
        f"{summary['repositories']:,} {'repository' if summary['repositories'] == 1 else 'repositories'}"
    )
    told = f"{points_text(difference)} points, B minus A, {on}."
    if difference["low"] > 0.0:
        return f"B resolves more: {told}"
    if difference["high"] < 0.0:
        return f"A resolves more: {told}"
    return f"The two cannot be told apart: {told}"


def comparison_tables(summary: Mapping[str, JSON], *, most: int = 1_000_000) -> list[Table]:
    """The tables of a comparison; of the instances that changed, the first `most` each way."""
    made = [_sides(summary), _difference(summary), _planned(summary)]
    for title, key in (("Better in B", "gained"), ("Better in A", "lost")):
        made.append(_changed(title, summary[key], most))
    return [table for table in made if table.rows]


def comparison_json(summary: Mapping[str, JSON]) -> str:
    """The comparison as JSON."""
    return json.dumps(summary, indent=1) + "\n"


def comparison_markdown(summary: Mapping[str, JSON]) -> str:
    """The comparison as Markdown."""
    parts = [f"# {as_markdown(_title(summary))}", finding(summary)]
    parts += cautions_markdown(summary["warnings"])
    return "\n\n".join([*parts, *map(table_markdown, comparison_tables(summary))]) + "\n"


def comparison_page(summary: Mapping[str, JSON]) -> str:
    """The comparison as one page without a script."""
    body = (
        f"<h1>{as_html(_title(summary))}</h1>\n<p>{as_html(finding(summary))}</p>\n"
        f"{cautions_html(summary['warnings'])}\n{''.join(map(table_html, comparison_tables(summary)))}"
    )
    return whole_page(_title(summary), body)


def _title(summary: Mapping[str, JSON]) -> str:
    return f"{summary['a']['name']} and {summary['b']['name']}"


def _sides(summary: Mapping[str, JSON]) -> Table:
    rows: list[Sequence[Cell]] = []
    for letter in ("a", "b"):
        side = summary[letter]
        graders = " and ".join(side["graders"])
        rows.append((letter.upper(), side["name"], side["model"], Score(interval=side["resolved"]), graders))
    return Table(
        title="The two",
        note=f"On the {count(summary['shared'], 'instance')} that both have a verdict for.",
        head=("", "run", "model", "resolved", "graded by"),
        rows=rows,
    )


def _difference(summary: Mapping[str, JSON]) -> Table:
    rows: list[Sequence[Cell]] = [
        (name, Score(interval=summary[key], scale="difference"), summary[key]["method"])
        for name, key in (("difference", "difference"), ("paired bootstrap", "bootstrap"))
    ]
    if (test := summary["mcnemar"]) is not None:
        rows.append((
            "McNemar's test",
            f"p {test['exact']:.3g}, mid-p {test['mid_p']:.3g}",
            f"{test['only_first']:,} resolved by A alone, {test['only_second']:,} by B alone; instances "
            "taken as independent",
        ))  # fmt: skip
    return Table(
        title="B minus A",
        note="In percentage points, with 95 % intervals. The first is the one to quote: it allows for "
        "instances of one repository going together.",
        head=("", "points", "how"),
        rows=rows,
    )


def _planned(summary: Mapping[str, JSON]) -> Table:
    planned, rows = summary["planned"], list[Sequence[Cell]]()
    if summary["detectable"] is not None:
        rows.append(("as noisy as this one", _points(summary["detectable"])))
    if planned["smallest_detectable"] is not None:
        told = f"by McNemar's test, where {percent(planned['discordance'])} of instances differ"
        rows.append((told, _points(planned["smallest_detectable"])))
    if planned["tasks_needed"] is not None:
        rows.append(("for the difference seen", count(planned["tasks_needed"], "instance")))
    return Table(
        title="What could have been found",
        note="The smallest true difference that a comparison of so many instances finds with 80 % power, "
        "and how many instances the difference seen here would take.",
        head=("", ""),
        rows=rows,
    )


def _points(difference: float) -> str:
    return f"{100 * difference:.1f} points"


def _changed(title: str, changed: Sequence[Mapping[str, JSON]], most: int) -> Table:
    rest = len(changed) - most
    return Table(
        title=f"{title}: {count(len(changed), 'instance')}",
        note=f"The first {most}." if rest > 0 else "",
        head=("instance", "repository", "A", "B"),
        rows=[
            (each["instance_id"], each["repo"], _verdict(each["a"]), _verdict(each["b"]))
            for each in changed[:most]
        ],
    )


def _verdict(rate: float) -> str:
    return {0.0: "no", 1.0: "yes"}.get(rate, percent(rate))
