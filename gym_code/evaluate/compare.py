"""Two evaluations on the instances they share: `gym-code compare A B`.

A side is a run directory, its `report.json`, or a run report of SWE-bench (schema 2). Only verdicts are
compared, so it does not matter who graded; where it might, a warning says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from gym_code.errors import InputError
from gym_code.evaluate.report.cautions import FEW_INSTANCES
from gym_code.evaluate.report.summary import SCHEMA, SCHEMA_VERSION, draws
from gym_code.evaluate.report.text import count
from gym_code.interop import json_lines
from gym_code.interop.dataset import utf8
from gym_code.interop.problems import Problems, fail, kind
from gym_code.stats import (
    Comparison,
    cluster_interval,
    compare,
    smallest_detectable_difference,
    tasks_needed,
)
from gym_code.types import JSON

REPORT = "report.json"
RUN_REPORT_VERSION = 2
"""`schema_version` of SWE-bench's run reports that are understood (its package from 5.0)."""
NO_REPOSITORY = "repository not known"
# SWE-bench's ids are owner__name-number, SWE-smith's owner__name.commit.what-was-done.
_ID = re.compile(r"(?P<owner>[\w.-]+?)__(?P<name>[\w.-]+?)(-\d+|\.[0-9a-f]{8}\..+)")
_LISTS = ("submitted_ids", "incomplete_ids", "resolved_ids", "error_ids", "infra_failure_ids")


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two: what share of its graded samples is resolved, by instance."""

    name: str
    model: str = ""
    dataset: str = ""
    dataset_digest: str = ""
    """Empty where it is not known, as `dataset` is."""
    graders: tuple[str, ...] = ()
    samples: int = 1
    rates: Mapping[str, float]
    lost: tuple[str, ...] = ()
    """Instances of which nothing was graded: a fault of ours, or not yet."""
    repos: Mapping[str, str]
    errors: int = 0
    """Instances that SWE-bench's harness calls errors, and counts as failed."""


def read_side(path: Path) -> Side:
    """One side, from a run directory or a report.

    Raises `InputError` where there is none, `DataError` (file, line, expected, found) where it is another
    kind of file, or broken.
    """
    file = path / REPORT if path.is_dir() else path
    if not file.is_file():
        found = "a directory without one: the evaluation is not finished" if path.is_dir() else "nothing"
        raise InputError("no report", where=str(path), expected=f"a run directory or a {REPORT}", found=found)
    where = (str(file), 1)
    report = json_lines.parse(utf8(file.read_bytes(), where), where, "a report of JSON")
    if isinstance(report, dict) and report.get("schema") == SCHEMA:
        return _ours(report, where)
    if isinstance(report, dict) and "resolved_ids" in report:
        return _swebench(report, where)
    expected = f"a {REPORT} of gym-code evaluate, or a run report of SWE-bench"
    raise fail(where, "", expected, "another kind of file" if isinstance(report, dict) else kind(report))


def compare_sides(a: Side, b: Side, seed: int = 0) -> dict[str, JSON]:
    """B minus A on the instances that both have a verdict for; `seed` is that of the bootstrap.

    Raises `InputError` where there are none.
    """
    shared = sorted(a.rates.keys() & b.rates.keys())
    if not shared:
        raise InputError(
            "nothing to compare",
            where=f"{a.name} and {b.name}",
            expected="an instance with a verdict in both",
            found=f"{count(len(a.rates), 'instance')} and {count(len(b.rates), 'instance')}, none in common",
        )
    repos = [a.repos.get(name) or b.repos.get(name) or _repository(name) for name in shared]
    first, second = [a.rates[name] for name in shared], [b.rates[name] for name in shared]
    found = compare(first, second, repos, seed=seed, draws=draws(repos))
    changed: list[dict[str, JSON]] = [
        {"instance_id": name, "repo": repo, "a": before, "b": after}
        for name, repo, before, after in zip(shared, repos, first, second, strict=True)
    ]
    return {
        "schema": "gym-code comparison",
        "schema_version": 1,
        "seed": seed,
        "a": _about(a, first, repos),
        "b": _about(b, second, repos),
        "shared": len(shared),
        "repositories": len(set(repos)),
        **asdict(found),
        "planned": _planned(found),
        "only_a": sorted(a.rates.keys() - b.rates.keys()),
        "only_b": sorted(b.rates.keys() - a.rates.keys()),
        "gained": sorted((each for each in changed if each["b"] > each["a"]), key=_by_change),
        "lost": sorted((each for each in changed if each["b"] < each["a"]), key=_by_change),
        "warnings": _warnings(a, b, repos),
    }


def _ours(report: Mapping[str, JSON], where: tuple[str, int]) -> Side:
    problems, verdicts, repos = Problems(), dict[str, list[bool]](), dict[str, str]()
    if report.get("schema_version") != SCHEMA_VERSION:
        problems.add(where, "schema_version", str(SCHEMA_VERSION), report.get("schema_version"))
    for name in ("name", "model", "dataset", "dataset_digest"):
        if not isinstance(report.get(name), str):
            problems.add(where, name, "text", kind(report.get(name)))
    if not isinstance(report.get("samples"), int):
        problems.add(where, "samples", "a number", kind(report.get("samples")))
    graders, results = report.get("graders"), report.get("results")
    if not isinstance(graders, dict):
        problems.add(where, "graders", "an object", kind(graders))
    if not isinstance(results, list):
        problems.add(where, "results", "a list", kind(results))
    for number, row in enumerate(results if isinstance(results, list) else ()):
        name, repo, resolved = _verdict(row, (where, f"results[{number}]"), problems)
        verdicts.setdefault(name, []).extend([] if resolved is None else [resolved])
        repos[name] = repo
    problems.raise_any()
    return Side(
        name=report["name"],
        model=report["model"],
        dataset=report["dataset"],
        dataset_digest=report["dataset_digest"],
        graders=tuple(sorted(report["graders"])),
        samples=report["samples"],
        rates={name: sum(each) / len(each) for name, each in verdicts.items() if each},
        lost=tuple(name for name, each in verdicts.items() if not each),
        repos=repos,
    )


def _verdict(row: JSON, at: tuple[tuple[str, int], str], problems: Problems) -> tuple[str, str, bool | None]:
    """Instance, repository and verdict of one row; what is wrong with it is noted."""
    where, place = at
    if not isinstance(row, dict):
        problems.add(where, place, "an object", kind(row))
        return "", "", None
    for field in ("instance_id", "repo"):
        if not isinstance(row.get(field), str):
            problems.add(where, f"{place}.{field}", "text", kind(row.get(field)))
    resolved = row.get("resolved")
    if not (resolved is None or isinstance(resolved, bool)):
        problems.add(where, f"{place}.resolved", "true, false or null", kind(resolved))
    return str(row.get("instance_id")), str(row.get("repo")), resolved


def _swebench(report: Mapping[str, JSON], where: tuple[str, int]) -> Side:
    """A run report of SWE-bench: what is not resolved failed, save what it blames on the infrastructure."""
    problems = Problems()
    if report.get("schema_version") != RUN_REPORT_VERSION:
        problems.add(where, "schema_version", str(RUN_REPORT_VERSION), report.get("schema_version"))
    for name in _LISTS:
        ids = report.get(name)
        if not isinstance(ids, list) or not all(isinstance(each, str) for each in ids):
            problems.add(where, name, "a list of instance ids", kind(ids))
    problems.raise_any()
    ids = {name: frozenset(report[name]) for name in _LISTS}
    lost = ids["infra_failure_ids"] - ids["resolved_ids"]
    known = ids["submitted_ids"] | ids["incomplete_ids"] | ids["resolved_ids"]
    return Side(
        name=Path(where[0]).stem,
        rates={name: float(name in ids["resolved_ids"]) for name in known - lost},
        lost=tuple(sorted(lost)),
        repos={},
        graders=("SWE-bench's run report",),
        errors=len(ids["error_ids"] - lost),
    )


def _repository(instance_id: str) -> str:
    found = _ID.fullmatch(instance_id)
    return f"{found['owner']}/{found['name']}" if found else NO_REPOSITORY


def _about(side: Side, rates: Sequence[float], repos: Sequence[str]) -> dict[str, JSON]:
    return {
        "name": side.name,
        "model": side.model,
        "dataset": side.dataset,
        "dataset_digest": side.dataset_digest,
        "graders": list(side.graders),
        "samples": side.samples,
        "ungraded": len(side.lost),
        "resolved": asdict(cluster_interval(rates, repos)),
    }


def _planned(found: Comparison) -> dict[str, JSON]:
    """What a comparison of so many tasks can find, and how many the difference seen would take (80 % power).

    For verdicts of yes and no by Connor's formula for McNemar's test, tasks divided by the design effect
    where that is above 1. For rates over samples by the noise seen: its variance falls as tasks are added.
    """
    tasks, seen = found.difference.tasks, abs(found.difference.estimate)
    if found.mcnemar is None:
        needed = None
        if found.detectable is not None and seen > 0.0:
            needed = math.ceil(tasks * (found.detectable / seen) ** 2)
        return {"discordance": None, "smallest_detectable": None, "tasks_needed": needed}
    discordant = found.mcnemar.only_first + found.mcnemar.only_second
    if discordant == 0:
        return {"discordance": 0.0, "smallest_detectable": None, "tasks_needed": None}
    share, effect = discordant / tasks, max(1.0, found.design_effect or 1.0)
    return {
        "discordance": share,
        "smallest_detectable": smallest_detectable_difference(tasks, share, design_effect=effect),
        "tasks_needed": tasks_needed(min(seen, share), share, design_effect=effect) if seen > 0.0 else None,
    }


def _by_change(each: Mapping[str, JSON]) -> tuple[float, str]:
    return -abs(each["b"] - each["a"]), each["instance_id"]


def _warnings(a: Side, b: Side, repos: Sequence[str]) -> list[str]:
    """What may make the difference another than that of the two agents."""
    said = []
    if a.dataset_digest and b.dataset_digest and a.dataset_digest != b.dataset_digest:
        said.append(
            f"The data sets differ ({a.dataset} and {b.dataset}): instances of one id may be different tasks."
        )
    for side in (a, b):
        if not side.dataset_digest:
            said.append(f"The data set of {side.name} is not known: that it is the same is taken on trust.")
        if side.errors:
            said.append(
                f"{count(side.errors, 'error')} of SWE-bench's harness in {side.name}: counted as failed, as "
                "it counts them."
            )
        if side.lost:
            said.append(f"{count(len(side.lost), 'instance')} of {side.name} without a verdict: left out.")
    for here, there in ((a, b), (b, a)):
        if alone := here.rates.keys() - there.rates.keys() - set(there.lost):
            said.append(f"{count(len(alone), 'instance')} only in {here.name}: left out.")
    if set(a.graders) != set(b.graders):
        names = [" and ".join(side.graders) or "nobody" for side in (a, b)]
        said.append(f"Graded by {names[0]} on one side and by {names[1]} on the other.")
    if a.samples != b.samples:
        said.append(
            f"{a.samples} and {b.samples} samples of each instance: the difference is one of pass@1 "
            "all the same."
        )
    if len(repos) < FEW_INSTANCES:
        said.append(
            f"Only {count(len(repos), 'instance')} in common: hardly any two agents could be told apart."
        )
    if NO_REPOSITORY in repos:
        number = repos.count(NO_REPOSITORY)
        said.append(f"The repository of {count(number, 'instance')} is not known: taken as one.")
    elif len(set(repos)) == 1:
        said.append("All instances are of one repository: nothing is known of others.")
    return said
