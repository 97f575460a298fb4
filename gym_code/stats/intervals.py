"""Intervals of a mean over tasks that belong to repositories (clusters).

Notation: G clusters, H strata; `counts_GH` tasks and `sums_GH` values summed, cell by cell.

Which variance, degrees of freedom and scale were taken was decided by simulation
(tests/test_stats_coverage.py): CR2, Bell-McCaffrey, logit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gym_code.errors import InputError
from gym_code.stats.quantiles import normal_quantile, t_quantile

Array = NDArray[np.float64]

ASSUMED_ICC = 0.2
"""Correlation within a repository that is assumed where all tasks agree and none can be estimated."""

SAME = 1e-12
"""A variance this small beside that of independent tasks is rounding: all clusters have one rate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate and its confidence interval; `method` says how it was computed.

    >>> low_and_high = cluster_interval([1, 1, 0, 1, 0, 0], ["a", "a", "a", "b", "b", "c"])
    >>> low_and_high.clusters, low_and_high.method
    (3, 'CR2 by cluster, Bell-McCaffrey t, logit')
    """

    estimate: float
    low: float
    high: float
    standard_error: float | None
    """On the scale of the estimate; None where the method has none."""
    df: float | None
    """Degrees of freedom; None where the method needs none."""
    tasks: int
    clusters: int
    method: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A weighted mean with its cluster-robust variance. `df` is 0 where no two clusters can be compared."""

    mean: float
    variance: float
    df: float
    tasks: int
    clusters: int
    effective_tasks: float
    """The tasks of a simple random sample with the same variance, were tasks independent (Kish 1965)."""
    concentration: float
    """The sum of the squared weights of the clusters: 1/G for equal ones, 1 for a single one."""


def naive_interval(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Wilson's score interval (Wilson 1927), as if tasks were independent: too narrow where they are not.

    Values lie in [0, 1]; for rates between 0 and 1 it is on the safe side. Raises `InputError` on bad input.
    """
    array = checked(values, level=level)
    mean = float(array.mean())
    low, high = _wilson(mean, len(array), level)
    return Interval(
        estimate=mean,
        low=low,
        high=high,
        standard_error=math.sqrt(mean * (1 - mean) / len(array)),
        df=None,
        tasks=len(array),
        clusters=len(array),
        method="Wilson, tasks taken as independent",
    )


def cluster_interval(values: Sequence[float], clusters: Sequence[str], *, level: float = 0.95) -> Interval:
    """The mean of values in [0, 1] with an interval that allows for tasks of one cluster going together.

    Variance: CR2 of Bell and McCaffrey (2002), which for a mean is sum_g s_g^2 / (1 - n_g/n) / n^2, with
    s_g the sum of the residuals of cluster g. Quantile: t with their Satterthwaite degrees of freedom,
    which are few where one repository holds most tasks (3.3 for SWE-bench Verified's 12). Scale: logit,
    the delta method, as R's `svyciprop(method="logit")`, which stays within [0, 1].

    Where that is impossible, `method` says so:
    - one cluster: nothing is known of other repositories; Wilson's interval over tasks, for this one alone;
    - all tasks 0, or all 1: Clopper-Pearson with tasks deflated by the design effect 1 + (n sum_g w_g^2 -
      1) ICC (Kish 1965, as Korn and Graubard 1998), where the ICC is assumed (`ASSUMED_ICC`), for nothing
      can estimate it;
    - all clusters at one rate: the variance of independent tasks, with the same t quantile.

    Raises `InputError` on values outside [0, 1], on different lengths and on nothing.
    """
    array = checked(values, clusters, level=level)
    return _interval(estimated(array, clusters), level)


def post_stratified(
    values: Sequence[float],
    clusters: Sequence[str],
    strata: Sequence[str],
    shares: Mapping[str, float],
    *,
    level: float = 0.95,
) -> Interval:
    """The mean over strata with known shares, sum_h W_h mean_h, and the interval of `cluster_interval`.

    `shares` gives every stratum's part of the population (they sum to 1), for a sample that holds too
    many of some. The variance is CR2 of a regression on the strata; a stratum that lies within one
    cluster adds nothing to it, so such strata make the interval too narrow. Raises `InputError` where a
    stratum has no share or no tasks.
    """
    array = checked(values, clusters, strata, level=level)
    present = sorted(set(strata))
    if sorted(shares) != present or not math.isclose(sum(shares.values()), 1.0, abs_tol=1e-9):
        raise InputError(
            "the shares do not fit the strata",
            expected=f"shares of {', '.join(present)} that sum to 1",
            found=dict(shares),
        )
    return _interval(estimated(array, clusters, strata, shares), level)


def checked(values: Sequence[float], *labels: Sequence[str], level: float, low: float = 0.0) -> Array:
    """The values as an array: at least one, each in [low, 1], with a label each."""
    array = np.asarray(values, dtype=float)
    if array.size == 0:
        raise InputError("no values", expected="at least one value", found="none")
    for each in labels:
        if len(each) != array.size:
            raise InputError("not one label a value", expected=f"{array.size} labels", found=len(each))
    wrong = ~((array >= low) & (array <= 1.0))
    if wrong.any():
        at = int(np.argmax(wrong))
        raise InputError(
            "not a rate", where=f"value {at}", expected=f"a number from {low:g} to 1", found=float(array[at])
        )
    if not 0.0 < level < 1.0:
        raise InputError("impossible level", expected="a level between 0 and 1", found=level)
    return array


def estimated(
    values: Array,
    clusters: Sequence[str],
    strata: Sequence[str] | None = None,
    shares: Mapping[str, float] | None = None,
) -> Estimate:
    """The mean, or the mean over strata weighted by shares, with CR2 variance and Bell-McCaffrey df."""
    _, cluster_of = np.unique(np.asarray(clusters), return_inverse=True)
    if strata is None or shares is None:
        stratum_of, share_H = np.zeros(len(values), dtype=int), np.ones(1)
    else:
        names, stratum_of = np.unique(np.asarray(strata), return_inverse=True)
        share_H = np.array([shares[str(name)] for name in names])
    shape = (int(cluster_of.max()) + 1, len(share_H))
    cell = cluster_of * shape[1] + stratum_of
    counts_GH = np.bincount(cell, minlength=shape[0] * shape[1]).reshape(shape).astype(float)
    sums_GH = np.bincount(cell, weights=values, minlength=shape[0] * shape[1]).reshape(shape)
    total_H = counts_GH.sum(axis=0)
    mean_H = sums_GH.sum(axis=0) / total_H
    variance, df = _cr2(counts_GH, sums_GH - counts_GH * mean_H, share_H / total_H)
    weight_G = (counts_GH * (share_H / total_H)).sum(axis=1)
    return Estimate(
        mean=float(share_H @ mean_H),
        variance=variance,
        df=df,
        tasks=len(values),
        clusters=shape[0],
        effective_tasks=float(1.0 / (share_H**2 / total_H).sum()),
        concentration=float((weight_G**2).sum()),
    )


def _cr2(counts_GH: Array, residuals_GH: Array, weight_H: Array) -> tuple[float, float]:
    """Bell and McCaffrey's variance and degrees of freedom of a weighted mean of strata.

    In a regression on strata the adjustment (I - H_gg)^(-1/2) only scales the residuals of a cell, by (1
    - n_gh/n_h)^(-1/2); a cell that is its whole stratum has no residual and is dropped (pseudo-inverse).
    The variance is a quadratic form sum_g (p_g' y)^2; df = (tr M)^2 / tr(M^2), M_gk = p_g' p_k, for
    independent tasks.
    """
    total_H = counts_GH.sum(axis=0)
    rest_GH = 1.0 - counts_GH / total_H
    scale_GH = np.zeros_like(counts_GH)
    np.divide(weight_H, np.sqrt(rest_GH), out=scale_GH, where=rest_GH > 0.0)
    variance = float(((scale_GH * residuals_GH).sum(axis=1) ** 2).sum())
    scaled_GH = scale_GH * counts_GH
    M = np.diag((scale_GH * scaled_GH).sum(axis=1)) - (scaled_GH / total_H) @ scaled_GH.T
    squares = float((M**2).sum())
    return variance, float(np.trace(M) ** 2 / squares) if squares > 0.0 else 0.0


def _interval(found: Estimate, level: float) -> Interval:
    mean, method = found.mean, "CR2 by cluster, Bell-McCaffrey t, logit"
    independent = mean * (1.0 - mean) / found.effective_tasks
    variance: float | None
    df: float | None = found.df
    if found.clusters == 1 or found.df == 0.0:
        low, high = _wilson(mean, found.effective_tasks, level)
        variance, df, method = independent, None, "Wilson over tasks: no clusters to compare"
    elif mean * (1.0 - mean) <= SAME:
        reach = all_agree_reach(found, level)
        low, high = (0.0, reach) if mean < 0.5 else (1.0 - reach, 1.0)
        variance, df, method = (
            None,
            None,
            f"Clopper-Pearson, all tasks agree, ICC {ASSUMED_ICC} assumed",
        )
    else:
        variance = found.variance
        if variance <= SAME * independent:
            variance, method = independent, "tasks taken as independent: all clusters at one rate, t, logit"
        low, high = _logit(mean, variance, t_quantile(0.5 + level / 2.0, found.df))
    return Interval(
        estimate=mean,
        low=low,
        high=high,
        standard_error=None if variance is None else math.sqrt(variance),
        df=df,
        tasks=found.tasks,
        clusters=found.clusters,
        method=method,
    )


def _logit(mean: float, variance: float, quantile: float) -> tuple[float, float]:
    """expit(logit(m) -+ t se / (m (1 - m))), written so that no exponential overflows."""
    reach = quantile * math.sqrt(variance) / (mean * (1.0 - mean))
    at = math.log(mean / (1.0 - mean))
    return _expit(at - reach), _expit(at + reach)


def _expit(x: float) -> float:
    return (1.0 + math.tanh(x / 2.0)) / 2.0


def _wilson(mean: float, tasks: float, level: float) -> tuple[float, float]:
    k = normal_quantile(0.5 + level / 2.0) ** 2 / tasks
    middle = (mean + k / 2.0) / (1.0 + k)
    half = math.sqrt(k * mean * (1.0 - mean) + k * k / 4.0) / (1.0 + k)
    return max(0.0, middle - half), min(1.0, middle + half)


def all_agree_reach(found: Estimate, level: float) -> float:
    """Clopper-Pearson's upper end for 0 of n, 1 - (alpha/2)^(1/n), n deflated by an assumed design effect."""
    n, icc = found.effective_tasks, assumed_icc(found)
    # However the weights lie, more tasks than there are never count.
    effective = n / max(1.0, 1.0 + icc * (n * found.concentration - 1.0))
    return 1.0 - math.exp(math.log((1.0 - level) / 2.0) / effective)


def assumed_icc(found: Estimate) -> float:
    """The intraclass correlation taken where all tasks agree; one cluster is judged for itself."""
    return ASSUMED_ICC if found.clusters > 1 else 0.0
