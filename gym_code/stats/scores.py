"""What stands in a report beside the score: budgets, strata, faults of ours, flaking."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gym_code.errors import InputError
from gym_code.stats.intervals import Interval, cluster_interval


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetPoint:
    """The share of attempts that were resolved at a cost of at most `budget`."""

    budget: float
    resolved: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The score with what our infrastructure lost taken as failed, left out, and taken as resolved.

    The outer two are Manski's (1989) worst-case bounds: whatever the lost tasks would have been, the
    score lies between.
    """

    as_failed: Interval
    excluded: Interval | None
    """None where every task was lost."""
    as_resolved: Interval
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stability:
    """The score by each instance's first grading, and over those alone whose gradings all agree."""

    full: Interval
    stable: Interval | None
    """None where no instance is stable."""
    flaky: tuple[int, ...]
    """Positions of the instances whose gradings differ."""
    graded_once: int
    """Instances that had no second grading to differ from; they count as stable."""


def score_by_budget(
    costs: Sequence[float],
    resolved: Sequence[float],
    clusters: Sequence[str],
    *,
    budgets: Sequence[float] | None = None,
    level: float = 0.95,
) -> list[BudgetPoint]:
    """The score as a function of what an attempt may cost, in turns, tokens, seconds or money.

    A step function, given at `budgets`, or else at each cost where it rises; below the first it is 0.
    Intervals are pointwise, not of the whole curve. It speaks of stopping these attempts early: an agent
    that knew of a budget might have acted otherwise. Raises `InputError` on different lengths and on
    costs that are negative or no number.
    """
    if len(costs) != len(resolved):
        raise InputError("not one cost an attempt", expected=f"{len(resolved)} costs", found=len(costs))
    for at, cost in enumerate(costs):
        if not 0.0 <= cost < math.inf:
            raise InputError("no cost", where=f"attempt {at}", expected="a number >= 0", found=cost)
    if budgets is None:
        budgets = sorted({cost for cost, value in zip(costs, resolved, strict=True) if value > 0})
    return [
        BudgetPoint(
            budget=budget,
            resolved=cluster_interval(
                [value if cost <= budget else 0.0 for cost, value in zip(costs, resolved, strict=True)],
                clusters,
                level=level,
            ),
        )
        for budget in budgets
    ]


def by_stratum(
    values: Sequence[float], clusters: Sequence[str], strata: Sequence[str], *, level: float = 0.95
) -> dict[str, Interval]:
    """The mean of each stratum (difficulty, or any other key) with its interval by cluster, sorted by name.

    Raises `InputError` as `cluster_interval` does.
    """
    if not len(values) == len(clusters) == len(strata):
        raise InputError(
            "not one label a value", expected=f"{len(values)} labels", found=(len(clusters), len(strata))
        )
    return {
        name: cluster_interval(
            [value for value, stratum in zip(values, strata, strict=True) if stratum == name],
            [cluster for cluster, stratum in zip(clusters, strata, strict=True) if stratum == name],
            level=level,
        )
        for name in sorted(set(strata))
    }


def infrastructure_bounds(
    outcomes: Sequence[float | None], clusters: Sequence[str], *, level: float = 0.95
) -> Bounds:
    """Bounds of the score; an outcome of None is a task that no fault of the agent left without a verdict.

    Raises `InputError` as `cluster_interval` does.
    """
    if len(outcomes) != len(clusters):
        raise InputError("not one label a value", expected=f"{len(outcomes)} labels", found=len(clusters))
    known = [(v, cluster) for v, cluster in zip(outcomes, clusters, strict=True) if v is not None]
    excluded = None
    if known:
        excluded = cluster_interval([v for v, _ in known], [cluster for _, cluster in known], level=level)
    return Bounds(
        as_failed=cluster_interval([0.0 if v is None else v for v in outcomes], clusters, level=level),
        excluded=excluded,
        as_resolved=cluster_interval([1.0 if v is None else v for v in outcomes], clusters, level=level),
        lost=len(outcomes) - len(known),
    )


def flake_stable(
    gradings: Sequence[Sequence[bool]], clusters: Sequence[str], *, level: float = 0.95
) -> Stability:
    """The score over instances whose gradings (of one patch, in order) all agree, beside the full one.

    Raises `InputError` where an instance has no grading, and as `cluster_interval` does.
    """
    for at, each in enumerate(gradings):
        if not each:
            raise InputError("no grading", where=f"instance {at}", expected="at least one", found="none")
    full = cluster_interval([float(each[0]) for each in gradings], clusters, level=level)
    flaky = tuple(at for at, each in enumerate(gradings) if len(set(each)) > 1)
    kept = [(each[0], name) for each, name in zip(gradings, clusters, strict=True) if len(set(each)) == 1]
    stable = None
    if kept:
        stable = cluster_interval([float(v) for v, _ in kept], [name for _, name in kept], level=level)
    return Stability(
        full=full,
        stable=stable,
        flaky=flaky,
        graded_once=sum(len(each) == 1 for each in gradings),
    )
