"""The score of parts of a data set: by difficulty, by repository, by runner."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict

from gym_code.evaluate.report.instances import Instance
from gym_code.stats import by_stratum
from gym_code.types import JSON

UNKNOWN = "not known"
LADDER = ("<15 min fix", "15 min - 1 hour", "1-4 hours", ">4 hours", "easy", "medium", "hard")
"""Labels in the field's use (the first four are SWE-bench Verified's), from easy to hard."""
MOST_REPOSITORIES = 40
"""The largest repositories that have a line each; the rest share one."""


def strata(graded: Sequence[Instance]) -> dict[str, JSON]:
    """By what instances differ in: a list of {name, resolved}; empty where it is known of none.

    Difficulties go from easy to hard, repositories from the one with the most instances down.
    """
    levels = [UNKNOWN if each.difficulty is None else each.difficulty for each in graded]
    repos, order = _repositories([each.repo for each in graded])
    runners = [each.runner for each in graded]
    known = any(each.difficulty is not None for each in graded)
    return {
        "difficulty": _scores(graded, levels, sorted(set(levels), key=_rung)) if known else [],
        "repository": _scores(graded, repos, order),
        "runner": _scores(graded, runners, _by_size(runners)),
    }


def _scores(graded: Sequence[Instance], labels: Sequence[str], order: Sequence[str]) -> list[JSON]:
    if not graded:
        return []
    found = by_stratum([each.rate for each in graded], [each.repo for each in graded], labels)
    return [{"name": name, "resolved": asdict(found[name])} for name in order]


def _rung(label: str) -> tuple[int, int, str]:
    """Known labels in their order, then others by name, then what is not known."""
    if label in LADDER:
        return 0, LADDER.index(label), label
    return (2 if label == UNKNOWN else 1), 0, label


def _by_size(labels: Sequence[str]) -> list[str]:
    counts = Counter(labels)
    return sorted(counts, key=lambda name: (-counts[name], name))


def _repositories(repos: Sequence[str]) -> tuple[list[str], list[str]]:
    """A label for each, one for all beyond the largest, and the order of labels, that one last."""
    order = _by_size(repos)
    if len(order) <= MOST_REPOSITORIES:
        return list(repos), order
    named = order[: MOST_REPOSITORIES - 1]
    rest, known = f"{len(order) - len(named)} others", frozenset(named)
    return [repo if repo in known else rest for repo in repos], [*named, rest]
