"""Bootstrap intervals, seeded: resampling tasks, or whole clusters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gym_code.errors import InputError
from gym_code.stats.intervals import Interval, checked


def mean(values: Sequence[float]) -> float:
    """The mean; 0 of nothing."""
    return sum(values) / len(values) if values else 0.0


def mean_interval(values: Sequence[float], *, seed: int = 0, draws: int = 10_000) -> tuple[float, float]:
    """A 95 % percentile bootstrap interval of the mean, resampling the values (one a task)."""
    means = _bootstrap_means(np.asarray(values, dtype=float), seed, draws)
    return float(np.quantile(means, 0.025)), float(np.quantile(means, 0.975))


def paired_gain(
    before: Sequence[float], after: Sequence[float], *, seed: int = 0, draws: int = 10_000
) -> tuple[float, tuple[float, float]]:
    """The mean of after - before on the same tasks, and its 95 % paired bootstrap interval.

    Raises `InputError` when the two differ in length or are empty.
    """
    if len(before) != len(after) or not before:
        raise InputError(
            "not paired", expected="two sequences of one length > 0", found=f"{len(before)} and {len(after)}"
        )
    gains = np.asarray(after, dtype=float) - np.asarray(before, dtype=float)
    return float(gains.mean()), mean_interval(gains.tolist(), seed=seed, draws=draws)


def cluster_bootstrap(
    values: Sequence[float],
    clusters: Sequence[str],
    *,
    seed: int = 0,
    draws: int = 10_000,
    level: float = 0.95,
) -> Interval:
    """The mean of values in [-1, 1] with a percentile interval from clusters drawn with replacement.

    Each draw takes as many clusters as there are, all tasks of each (Davison and Hinkley 1997, 3.8), so a
    draw may hold more or fewer tasks than the data. With few or very unequal clusters it covers too
    seldom (tests/test_stats_coverage.py has figures): it stands beside `cluster_interval`, not in its
    place. One cluster alone has nothing to be resampled; then tasks are, and `method` says so. The same
    seed gives the same interval. Raises `InputError` as `cluster_interval` does.
    """
    array = checked(values, clusters, level=level, low=-1.0)
    _, cluster_of = np.unique(np.asarray(clusters), return_inverse=True)
    number = int(cluster_of.max()) + 1
    if number == 1:
        means = _bootstrap_means(np.sort(array), seed, draws)
    else:
        counts_G = np.bincount(cluster_of)
        sums_G = np.bincount(cluster_of, weights=array)
        picked = np.random.default_rng(seed).integers(0, number, size=(draws, number))
        means = sums_G[picked].sum(axis=1) / counts_G[picked].sum(axis=1)
    low, high = np.quantile(means, [(1.0 - level) / 2.0, (1.0 + level) / 2.0])
    return Interval(
        estimate=float(array.mean()),
        low=float(low),
        high=float(high),
        standard_error=float(means.std(ddof=1)),
        df=None,
        tasks=len(array),
        clusters=number,
        method=f"percentile bootstrap of {'clusters' if number > 1 else 'tasks: one cluster'}, {draws} draws",
    )


def _bootstrap_means(values: np.ndarray, seed: int, draws: int) -> np.ndarray:
    if values.size == 0:
        raise InputError("no values", expected="at least one value", found="none")
    rng = np.random.default_rng(seed)
    picked = rng.integers(0, values.size, size=(draws, values.size))
    means: np.ndarray = values[picked].mean(axis=1)
    return means
