"""Tables and sentences as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gym_code.evaluate.report.tables import KIND_WORDS, Cell, Score, Table, cell_text, tables
from gym_code.evaluate.report.text import as_markdown, count, rate_text
from gym_code.types import JSON

MOST_REASON = 200
"""Characters of a reason in a table."""
MOST_LINES = 200
"""Attempts with a line of their own; all are in `report.json` and on the page."""


def report_markdown(summary: Mapping[str, JSON]) -> str:
    """The report of an evaluation."""
    resolved = summary["resolved"]
    headline = "nothing graded" if resolved is None else f"{rate_text(resolved['rate'])} resolved"
    shown = summary["results"][:MOST_LINES]
    attempts = Table(
        title="Every attempt",
        head=("instance", "sample", "status", "FAIL_TO_PASS", "PASS_TO_PASS", "flags", "reason"),
        rows=[_attempt(row) for row in shown],
    )
    parts = [
        f"# {as_markdown(summary['name'])}: {headline}",
        as_markdown(lead(summary)),
        *cautions_markdown(summary["cautions"]),
        *(table_markdown(table) for table in (*tables(summary), *([attempts] if shown else []))),
    ]
    if len(summary["results"]) > len(shown):
        parts.append(f"{len(summary['results']) - len(shown):,} more attempts are in `report.json`.")
    return "\n\n".join(parts) + "\n"


def lead(summary: Mapping[str, JSON]) -> str:
    """Who was asked what, and who graded."""
    samples = f", {summary['samples']} samples of each" if summary["samples"] > 1 else ""
    graders = " and ".join(summary["graders"]) or "nobody yet"
    return (
        f"{summary['model'] or 'no model named'} on {summary['dataset']}: "
        f"{count(summary['instances'], 'instance')}{samples}, "
        f"of {summary['repositories']:,} {'repository' if summary['repositories'] == 1 else 'repositories'}. "
        f"Graded by {graders}."
    )


def table_markdown(table: Table) -> str:
    """A heading, the note, and the table."""
    lines = [_line(as_markdown(name) for name in table.head), _line("---" for _ in table.head)]
    lines += [_line(_cell(cell) for cell in row) for row in table.rows]
    note = [as_markdown(table.note)] if table.note else []
    return "\n\n".join([f"## {as_markdown(table.title)}", *note, "\n".join(lines)])


def cautions_markdown(said: Sequence[str]) -> list[str]:
    """The sentences of caution as one list; nothing where there are none."""
    return ["\n".join(f"- **Note:** {as_markdown(sentence)}" for sentence in said)] if said else []


def _attempt(row: Mapping[str, JSON]) -> list[str]:
    counts = (row[kind] for kind in ("fail_to_pass", "pass_to_pass"))
    tests = [f"{of['passed']} of {of['of']}" if row["ran"] else "none ran" for of in counts]
    return [
        row["instance_id"],
        str(row["sample"]),
        KIND_WORDS[row["kind"]],
        *tests,
        ", ".join(row["flags"]),
        row["reason"][:MOST_REASON],
    ]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(cell: Cell) -> str:
    return cell_text(cell) if isinstance(cell, Score) else as_markdown(cell)
