"""What an evaluation came to, as JSON: every figure of a report, from the verdicts alone.

Nothing in it depends on when or how often something ran: an evaluation that was broken off and went on has
the same summary as one that was not. Rates are fractions of 1; an interval is a `gym_code.stats.Interval`
with its fields as keys.

Units of counting: *instances* for rates, pass@k and strata, each with the mean of its graded samples, so that
samples of one instance never pass for independent; *attempts* (one sample of one instance) for what an
attempt has of its own: its cost, its gradings, its loss to a fault of ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from gym_code.evaluate.report.cautions import cautions
from gym_code.evaluate.report.instances import KINDS, Instance, by_instance, kind
from gym_code.evaluate.report.strata import strata
from gym_code.evaluate.results import Evaluation, Result
from gym_code.interop.verdicts import FAIL_TO_PASS, PASS_TO_PASS, tests_status
from gym_code.stats import (
    Interval,
    cluster_bootstrap,
    cluster_interval,
    compare,
    flake_stable,
    infrastructure_bounds,
    naive_interval,
    passes_over_tasks,
    score_by_budget,
)
from gym_code.types import JSON, Answer, Outcome

SCHEMA, SCHEMA_VERSION = "gym-code evaluation", 1
BUDGETS = {"turns": "turns", "tokens": "tokens", "seconds": "agent_seconds", "cost": "cost"}
"""What an attempt may be charged, and the field of `Result` that holds it."""
MOST_BUDGETS = 16
"""Points of a curve: more could not be told apart."""
MOST_TESTS = 20
"""Tests of an attempt named in a report; SWE-bench's own `report.json` of the instance has all of them."""
_RESAMPLED = 10_000_000
"""Clusters drawn in all by one bootstrap: 10,000 draws of up to 1,000 repositories, fewer of more."""
OFFICIAL = "official"
"""How the name of SWE-bench's own grader begins."""


def summarise(evaluation: Evaluation, seed: int = 0) -> dict[str, JSON]:
    """The content of `report.json`. `seed` is that of the bootstraps."""
    results = evaluation.results
    instances = by_instance(results)
    graded = [each for each in instances if each.verdicts]
    summary: dict[str, JSON] = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "name": evaluation.name,
        "model": evaluation.model,
        "models": sorted({result.model for result in results if result.model}),
        "dataset": evaluation.dataset,
        "dataset_digest": evaluation.dataset_digest,
        "samples": evaluation.samples,
        "seed": seed,
        "instances": len(instances),
        "instances_graded": len(graded),
        "repositories": len({each.repo for each in instances}),
        "graders": dict(sorted(Counter(each.grader for each in results if each.grader).items())),
        "counts": _counts(results),
        "resolved": _resolved(graded, seed),
        "passes": _passes(graded, evaluation.samples),
        "chosen": dict(sorted(evaluation.chosen.items())),
        "best_of_n": _best_of_n(evaluation, seed),
        "strata": strata(graded),
        "budgets": _budgets(results),
        "stability": _stability(results),
        "bounds": _bounds(results),
        "flags": _flags(results),
        "official": _named(result for result in results if result.grader.startswith(OFFICIAL)),
        "infrastructure": _named(result for result in results if result.status == "infrastructure"),
        "no_prediction": _named(result for result in results if kind(result) == "no_prediction"),
        "not_graded": _named(result for result in results if kind(result) == "not_graded"),
    }
    summary["cautions"] = cautions(summary)
    summary["results"] = [_row(result) for result in results]
    return summary


def draws(repos: Sequence[str]) -> int:
    """How often a bootstrap draws the repositories (or tasks, of one): memory stays below half a gigabyte."""
    repositories = len(set(repos))
    resampled = repositories if repositories > 1 else len(repos)
    return max(1_000, min(10_000, _RESAMPLED // max(1, resampled)))


def _counts(results: Sequence[Result]) -> dict[str, int]:
    counted = Counter(kind(result) for result in results)
    return {each: counted[each] for each in KINDS}


def _named(results: Iterable[Result]) -> list[JSON]:
    return [{"instance_id": result.instance_id, "sample": result.sample} for result in results]


def _resolved(graded: Sequence[Instance], seed: int) -> JSON:
    """The headline: the mean over instances, by three methods; None where nothing is graded."""
    if not graded:
        return None
    rates, repos = [each.rate for each in graded], [each.repo for each in graded]
    return {
        "rate": asdict(cluster_interval(rates, repos)),
        "naive": asdict(naive_interval(rates)),
        "bootstrap": asdict(cluster_bootstrap(rates, repos, seed=seed, draws=draws(repos))),
    }


def _passes(graded: Sequence[Instance], samples: int) -> list[JSON]:
    """pass@k and pass^k for each k that some instance has graded samples for."""
    counts = [(len(each.verdicts), sum(each.verdicts)) for each in graded]
    repos = [each.repo for each in graded]
    most = max((n for n, _ in counts), default=0)
    return [asdict(passes_over_tasks(counts, repos, k)) for k in range(1, min(samples, most) + 1)]


def _best_of_n(evaluation: Evaluation, seed: int) -> JSON:
    """The chosen samples beside pass@1 and pass@n, on the instances all of whose samples are graded."""
    if not evaluation.chosen:
        return None
    verdicts: dict[str, dict[int, bool | None]] = {}
    for result in evaluation.results:
        verdicts.setdefault(result.instance_id, {})[result.sample] = result.resolved
    repo_of = {result.instance_id: result.repo for result in evaluation.results}
    names = [
        name for name, of in verdicts.items() if None not in of.values() and evaluation.chosen.get(name) in of
    ]
    found: dict[str, JSON] = {
        "selector": evaluation.selector,
        "n": evaluation.samples,
        "instances": len(names),
        "left_out": len(verdicts) - len(names),
    }
    if not names:
        return found | dict.fromkeys(("chosen", "pass_1", "pass_n", "over_pass_1", "under_pass_n"))
    repos = [repo_of[name] for name in names]
    chosen = [float(bool(verdicts[name][evaluation.chosen[name]])) for name in names]
    one = [sum(map(bool, verdicts[name].values())) / len(verdicts[name]) for name in names]
    every = [float(any(verdicts[name].values())) for name in names]
    gain = compare(one, chosen, repos, seed=seed, draws=draws(repos))
    short = compare(chosen, every, repos, seed=seed, draws=draws(repos))
    return found | {
        "chosen": asdict(cluster_interval(chosen, repos)),
        "pass_1": asdict(cluster_interval(one, repos)),
        "pass_n": asdict(cluster_interval(every, repos)),
        "over_pass_1": {"difference": asdict(gain.difference), "bootstrap": asdict(gain.bootstrap)},
        "under_pass_n": {"difference": asdict(short.difference), "bootstrap": asdict(short.bootstrap)},
    }


def _attempt_clusters(results: Sequence[Result]) -> list[str]:
    """What attempts are taken to go together by: the repository, or where there is only one, the instance."""
    repos = [result.repo for result in results]
    return repos if len(set(repos)) > 1 else [result.instance_id for result in results]


def _budgets(results: Sequence[Result]) -> dict[str, JSON]:
    """The score against what an attempt may cost, for each kind of cost that is known of some attempts."""
    found: dict[str, JSON] = {}
    judged = [result for result in results if result.resolved is not None]
    for name, field in BUDGETS.items():
        known = [(float(cost), result) for result in judged if (cost := getattr(result, field)) is not None]
        rising = sorted({cost for cost, result in known if result.resolved})
        if not rising or rising[-1] == 0.0:  # a local model costs nothing: no curve
            continue
        few = min(MOST_BUDGETS, len(rising))
        points = score_by_budget(
            [cost for cost, _ in known],
            [float(bool(result.resolved)) for _, result in known],
            _attempt_clusters([result for _, result in known]),
            budgets=[rising[(len(rising) * (n + 1)) // few - 1] for n in range(few)],
        )
        found[name] = {
            "attempts": len(known),
            "unknown": len(judged) - len(known),
            "largest": max(cost for cost, _ in known),
            "points": [{"budget": point.budget, "resolved": asdict(point.resolved)} for point in points],
        }
    return found


def _stability(results: Sequence[Result]) -> JSON:
    """The score over attempts whose gradings all agree; what needed no grading agrees with itself."""
    judged = [result for result in results if result.resolved is not None]
    if not judged:
        return None
    gradings = [_counting_first(result.gradings, bool(result.resolved)) for result in judged]
    found = flake_stable(gradings, _attempt_clusters(judged))
    return {
        "full": asdict(found.full),
        "stable": _or_none(found.stable),
        "flaky": _named(judged[at] for at in found.flaky),
        "graded_again": len(judged) - found.graded_once,
    }


def _counting_first(gradings: Sequence[bool], counts: bool) -> list[bool]:
    """The verdict that counts, which after a regrade need not be the oldest, and then the others."""
    return [counts, *gradings[1:]] if len(set(gradings)) < 2 else sorted(gradings, reverse=counts)


def _bounds(results: Sequence[Result]) -> JSON:
    """The score with what our faults lost as failed, left out, and as resolved; not yet graded is neither."""
    ended = [result for result in results if kind(result) != "not_graded"]
    if not ended:
        return None
    outcomes = [None if result.resolved is None else float(result.resolved) for result in ended]
    found = infrastructure_bounds(outcomes, _attempt_clusters(ended))
    return {
        "as_failed": asdict(found.as_failed),
        "excluded": _or_none(found.excluded),
        "as_resolved": asdict(found.as_resolved),
        "lost": found.lost,
    }


def _or_none(interval: Interval | None) -> JSON:
    return None if interval is None else asdict(interval)


def _flags(results: Sequence[Result]) -> dict[str, JSON]:
    """The attempts that carry each flag."""
    seen = sorted({flag for result in results for flag in result.flags})
    return {flag: _named(result for result in results if flag in result.flags) for flag in seen}


def _row(result: Result) -> dict[str, JSON]:
    """One attempt. Seconds and number of gradings are left out: they differ where a run was broken off."""
    return {
        "instance_id": result.instance_id,
        "sample": result.sample,
        "model": result.model,
        "repo": result.repo,
        "difficulty": result.difficulty,
        "runner": result.runner,
        "grader": result.grader,
        "kind": kind(result),
        "resolved": result.resolved,
        "applied": result.applied,
        "flags": list(result.flags),
        "reason": result.reason,
        "patch_bytes": None if result.patch is None else len(result.patch),
        "gradings": list(result.gradings),
        "turns": result.turns,
        "tokens": result.tokens,
        "cost": result.cost,
        "agent_seconds": result.agent_seconds,
        **_tests(result),
    }


def _tests(result: Result) -> dict[str, JSON]:
    """How many tests did as they should by SWE-bench's rules, and the first that did not."""
    answer = Answer(
        task_id=result.instance_id,
        fail_to_pass=result.fail_to_pass,
        pass_to_pass=result.pass_to_pass,
        gold_patch=b"",
        test_patch=b"",
    )
    runner = OFFICIAL if result.grader.startswith(OFFICIAL) else result.runner
    status = tests_status(answer, result.outcomes, runner=runner)
    failed = [*status[FAIL_TO_PASS]["failure"], *status[PASS_TO_PASS]["failure"]] if result.outcomes else []
    return {
        "ran": bool(result.outcomes),
        "fail_to_pass": _passed(status[FAIL_TO_PASS]),
        "pass_to_pass": _passed(status[PASS_TO_PASS]),
        "not_passed": {test: str(result.outcomes.get(test, Outcome.MISSING)) for test in failed[:MOST_TESTS]},
    }


def _passed(divided: Mapping[str, Sequence[str]]) -> dict[str, int]:
    passed = len(divided["success"])
    return {"passed": passed, "of": passed + len(divided["failure"])}
