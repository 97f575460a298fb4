"""The tables of a report, from its summary: what Markdown and the page show alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from gym_code.evaluate.report.text import count, points_text, rate_text
from gym_code.types import JSON

Scale = Literal["rate", "difference"]
MOST_NAMED = 10
"""Instances named in one cell; the list of instances can be filtered, and `report.json` names all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A cell with an interval: of a rate (0 to 1), or of a difference of two (-1 to 1)."""

    interval: Mapping[str, JSON]
    scale: Scale = "rate"


Cell = str | Score


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table with a title and a sentence on how to read it. Cells are plain text, from outside or ours."""

    title: str
    note: str = ""
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


KIND_WORDS = {
    "resolved": "resolved",
    "unresolved": "not resolved",
    "empty": "empty patch",
    "no_prediction": "no prediction",
    "infrastructure": "lost to a fault of ours",
    "not_graded": "not graded yet",
}
"""What a report calls each kind of result."""
_KIND_NOTES = {
    "resolved": "every FAIL_TO_PASS and PASS_TO_PASS test passed",
    "unresolved": "graded, and some did not",
    "empty": "the agent changed nothing: failed",
    "no_prediction": "failed, as in SWE-bench",
    "infrastructure": "left out of rates, never failed; retried by the next run",
    "not_graded": "left out of rates",
}


def tables(summary: Mapping[str, JSON]) -> list[Table]:
    """Every table that has something to say, in order of importance."""
    made = [_score(summary), _counts(summary), _passes(summary), _best_of_n(summary)]
    made += [_stratum(summary, name) for name in ("difficulty", "repository", "runner")]
    made += [_flags(summary), _apart(summary)]
    return [table for table in made if table.rows]


def _score(summary: Mapping[str, JSON]) -> Table:
    """The headline by every method, and with what might have been."""
    rows: list[tuple[Cell, Cell, Cell]] = []
    if (resolved := summary["resolved"]) is not None:
        for name, of in (
            ("resolved", "rate"),
            ("resolved, bootstrap", "bootstrap"),
            ("resolved, naive", "naive"),
        ):
            rows.append((name, Score(interval=resolved[of]), resolved[of]["method"]))
    if (bounds := summary["bounds"]) is not None and bounds["lost"]:
        lost = f"{count(bounds['lost'], 'lost attempt')} taken as"
        rows.append((f"{lost} failed", Score(interval=bounds["as_failed"]), "the lowest it can be"))
        rows.append((f"{lost} resolved", Score(interval=bounds["as_resolved"]), "the highest it can be"))
    if (found := summary["stability"]) is not None and found["graded_again"]:
        note = f"patches graded again: {found['graded_again']}, with another verdict: {len(found['flaky'])}"
        if found["stable"] is not None:
            rows.append(("stable gradings only", Score(interval=found["stable"]), note))
        else:
            rows.append(("stable gradings only", "none is stable", note))
    return Table(
        title="Score",
        note="95 % intervals. The first is the one to quote: it allows for instances of one repository being "
        "resolved or missed together.",
        head=("", "resolved", "how"),
        rows=rows,
    )


def _counts(summary: Mapping[str, JSON]) -> Table:
    rows = [
        (KIND_WORDS[kind], f"{number:,}", _KIND_NOTES[kind])
        for kind, number in summary["counts"].items()
        if number
    ]
    title = "Attempts" if summary["samples"] > 1 else "Instances"
    return Table(title=title, head=("", "number", "counted as"), rows=rows)


def _passes(summary: Mapping[str, JSON]) -> Table:
    rows: list[Sequence[Cell]] = []
    if len(summary["passes"]) > 1:
        for each in summary["passes"]:
            used = summary["instances_graded"] - each["left_out"]
            cells = Score(interval=each["any_right"]), Score(interval=each["all_right"])
            rows.append((str(each["k"]), *cells, f"{used:,}"))
    return Table(
        title="Several samples",
        note="pass@k: the chance that at least one of k samples is right; pass^k: that all are. Unbiased, "
        "over instances with k graded samples.",
        head=("k", "pass@k", "pass^k", "instances"),
        rows=rows,
    )


def _best_of_n(summary: Mapping[str, JSON]) -> Table:
    best, rows = summary["best_of_n"], list[Sequence[Cell]]()
    if best is not None and best["chosen"] is not None:
        rows = [
            ("pass@1", Score(interval=best["pass_1"]), ""),
            (
                f"best of {best['n']}",
                Score(interval=best["chosen"]),
                Score(interval=best["over_pass_1"]["difference"], scale="difference"),
            ),
            (
                f"pass@{best['n']}",
                Score(interval=best["pass_n"]),
                Score(interval=best["under_pass_n"]["difference"], scale="difference"),
            ),
        ]
    left_out = "" if best is None or not best["left_out"] else f" {best['left_out']} others are left out."
    return Table(
        title="Best of n",
        note=f"Chosen by {best['selector'] if best else ''}, without the hidden tests; a perfect choice "
        f"would reach pass@n. Over instances with a choice and all samples graded.{left_out} The last column "
        "is the paired difference from the row above, in points.",
        head=("", "resolved", "gain"),
        rows=rows,
    )


def _stratum(summary: Mapping[str, JSON], name: str) -> Table:
    found = summary["strata"][name]
    rows = [
        (each["name"], f"{each['resolved']['tasks']:,}", Score(interval=each["resolved"])) for each in found
    ]
    return Table(
        title=f"By {name}",
        note={
            "difficulty": "",
            "repository": "Each interval is of this repository alone, over its instances.",
            "runner": "",
        }[name],
        head=(name, "instances", "resolved"),
        rows=rows if name == "repository" or len(rows) > 1 else [],
    )


def _flags(summary: Mapping[str, JSON]) -> Table:
    return Table(
        title="Flags",
        note="What the grader noticed; gym_code/grading/flags.py says what each means and what it costs.",
        head=("flag", "attempts", "instances"),
        rows=[(flag, f"{len(of):,}", names(of)) for flag, of in summary["flags"].items()],
    )


def _apart(summary: Mapping[str, JSON]) -> Table:
    """Instances that a reader may have to see to."""
    lists = (
        ("lost to a fault of ours", summary["infrastructure"]),
        ("not graded yet", summary["not_graded"]),
        ("no prediction", summary["no_prediction"]),
        ("gradings differ", summary["stability"]["flaky"] if summary["stability"] else []),
        ("graded by SWE-bench's harness", summary["official"]),
    )
    return Table(
        title="To look at",
        head=("", "attempts", "instances"),
        rows=[(name, f"{len(of):,}", names(of)) for name, of in lists if of],
    )


def cell_text(cell: Cell) -> str:
    """A cell as words."""
    if isinstance(cell, str):
        return cell
    return rate_text(cell.interval) if cell.scale == "rate" else points_text(cell.interval)


def names(attempts: Sequence[Mapping[str, JSON]]) -> str:
    """The instances of attempts, each once, the first `MOST_NAMED` of them."""
    ids = list(dict.fromkeys(each["instance_id"] for each in attempts))
    rest = len(ids) - MOST_NAMED
    return ", ".join(ids[:MOST_NAMED]) + (f" and {rest:,} more" if rest > 0 else "")
