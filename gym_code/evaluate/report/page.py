"""The page of an evaluation: one file that asks the network for nothing.

Whatever comes from outside (ids, reasons, names of tests, models, flags) goes through `as_html`, or reaches
the page's script as JSON in which no markup can begin, and becomes text there. The policy in the page's head
lets only that one script run, so that even a hole in this could not be used.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from gym_code.evaluate.report.charts import Curve, bar, curves, track
from gym_code.evaluate.report.instances import KINDS
from gym_code.evaluate.report.markdown import lead
from gym_code.evaluate.report.tables import KIND_WORDS, Cell, Score, Table, cell_text, tables
from gym_code.evaluate.report.text import as_html, clean, percent
from gym_code.types import JSON

_STYLE = Path(__file__).with_name("page.css")
_SCRIPT = Path(__file__).with_name("page.js")
_LONG_CELL = 40
_BUDGET_LABELS = {"turns": "turns", "tokens": "tokens", "seconds": "seconds of the agent", "cost": "cost"}


def report_page(summary: Mapping[str, JSON], logs: Mapping[tuple[str, int], JSON]) -> str:
    """The HTML of a report. `logs`: {folder, files} of an attempt, by (instance id, sample)."""
    shown = tables(summary)
    score, rest = shown[:1], shown[1:]
    body = f"""<h1>{as_html(summary["name"])}</h1>
<p>{as_html(lead(summary))}</p>
<section class="hero"><div>{_headline(summary)}</div><div>{_parts(summary)}</div></section>
{cautions_html(summary["cautions"])}
{"".join(map(table_html, score))}
{_charts(summary)}
{"".join(map(table_html, rest))}
{_instances(summary, logs)}"""
    return whole_page(f"{summary['name']}: evaluation", body, script=_SCRIPT.read_text(encoding="utf-8"))


def whole_page(title: str, body: str, *, script: str = "") -> str:
    """A page around a body, with the house's style and a policy that lets nothing else run or load."""
    style = _STYLE.read_text(encoding="utf-8")
    allowed = f"script-src '{_digest(script)}'; " if script else ""
    policy = f"default-src 'none'; {allowed}style-src '{_digest(style)}'; base-uri 'none'; form-action 'none'"
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/>
<meta http-equiv="Content-Security-Policy" content="{policy}"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{as_html(title)}</title>
<style>{style}</style></head><body>
{body}
{f"<script>{script}</script>" if script else ""}
</body></html>
"""


def table_html(table: Table) -> str:
    """A heading, the note, and the table; every interval is drawn beside its figures."""
    drawn = [any(isinstance(row[at], Score) for row in table.rows) for at in range(len(table.head))]
    head = "".join(
        f'<th colspan="{2 if two else 1}">{as_html(name)}</th>'
        for name, two in zip(table.head, drawn, strict=True)
    )
    rows = "".join(
        f"<tr>{''.join(_cell(cell, two) for cell, two in zip(row, drawn, strict=True))}</tr>\n"
        for row in table.rows
    )
    note = f"<p>{as_html(table.note)}</p>" if table.note else ""
    return (
        f'<h2>{as_html(table.title)}</h2>{note}<div class="wide"><table><tr>{head}</tr>{rows}</table></div>\n'
    )


def cautions_html(said: Sequence[str]) -> str:
    """The sentences of caution, in a box; nothing where there are none."""
    items = "".join(f"<li>{as_html(sentence)}</li>" for sentence in said)
    return f'<ul class="caution">{items}</ul>' if items else ""


def _digest(content: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()


def _cell(cell: Cell, two: bool) -> str:
    """One cell, or two where others of the column are drawn."""
    if isinstance(cell, Score):
        drawn = track(cell.interval, low=0.0 if cell.scale == "rate" else -1.0)
        return f'<td class="score">{cell_text(cell)}</td><td>{drawn}</td>'
    span = ' colspan="2"' if two else ""
    kind = ' class="long"' if len(cell) > _LONG_CELL else ""
    return f"<td{span}{kind}>{as_html(cell)}</td>"


def _headline(summary: Mapping[str, JSON]) -> str:
    if summary["resolved"] is None:
        return '<div class="big">no score</div><p>Nothing is graded.</p>'
    rate = summary["resolved"]["rate"]
    return (
        f'<div class="big">{percent(rate["estimate"])} <small>resolved</small></div>{track(rate)}'
        f"<p>95 % interval {100 * rate['low']:.1f} to {percent(rate['high'])}, {as_html(rate['method'])}.</p>"
    )


def _parts(summary: Mapping[str, JSON]) -> str:
    counts = {name: number for name, number in summary["counts"].items() if number}
    keys = "".join(
        f'<span><i class="s-{name}"></i>{number:,} {KIND_WORDS[name]}</span>'
        for name, number in counts.items()
    )
    what = "attempts" if summary["samples"] > 1 else "instances"
    return (
        f'<div><b>{len(summary["results"]):,}</b> {what}</div>{bar(counts)}<div class="legend">{keys}</div>'
    )


def _charts(summary: Mapping[str, JSON]) -> str:
    made = ""
    if len(summary["passes"]) > 1:
        lines = [
            Curve(label=label, points=[(each["k"], each[key]) for each in summary["passes"]])
            for label, key in (("pass@k", "any_right"), ("pass^k", "all_right"))
        ]
        made += curves("Several samples", "k", lines, whole=True)
    for name, found in summary["budgets"].items():
        points = [(point["budget"], point["resolved"]) for point in found["points"]]
        if found["largest"] > points[-1][0]:  # what more was spent resolved no more
            points.append((found["largest"], points[-1][1]))
        unknown = f" ({found['unknown']:,} attempts of unknown cost left out)" if found["unknown"] else ""
        label = f"at most so many {_BUDGET_LABELS[name]}{unknown}" if name != "cost" else f"cost{unknown}"
        made += curves(
            f"Resolved within {_BUDGET_LABELS[name]}",
            label,
            [Curve(label="resolved", points=points, step=True)],
        )
    return f'<h2>Samples and budgets</h2><section class="grid">{made}</section>' if made else ""


def _instances(summary: Mapping[str, JSON], logs: Mapping[tuple[str, int], JSON]) -> str:
    """The controls of the list and the data it is made from."""
    data = {
        "samples": summary["samples"],
        "words": KIND_WORDS,
        "kinds": [name for name in KINDS if summary["counts"][name]],
        "flags": list(summary["flags"]),
        "chosen": summary["chosen"],
        "rows": [
            {**row, "logs": logs.get((row["instance_id"], row["sample"]))} for row in summary["results"]
        ],
    }
    return f"""<h2>Instances</h2>
<noscript><p>This list needs a script; report.json holds the same.</p></noscript>
<div class="filters">
<input id="find" type="search" placeholder="id, repository, flag, reason" aria-label="Find"/>
<select id="status" aria-label="Status"><option value="">every status</option></select>
<select id="flag" aria-label="Flag"><option value="">any flag or none</option></select></div>
<p id="told" aria-live="polite"></p>
<div id="list"></div>
<button id="more" type="button" hidden>Show more</button>
<script type="application/json" id="data">{_embedded(data)}</script>"""


def _embedded(data: JSON) -> str:
    """JSON in which no tag, comment or entity can begin, its text cleaned as the rest of the page's."""
    text = clean(json.dumps(data, separators=(",", ":"), ensure_ascii=False))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
