"""Statistics for evaluations: pass@k and bootstrap intervals over tasks. All rates are fractions of 1."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from gym_code.errors import InputError


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The unbiased estimate 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, eq. 1); c of n samples are correct.

    Raises `InputError` unless 0 <= correct <= n and 1 <= k <= n.
    """
    if not (0 <= correct <= n and 1 <= k <= n):
        raise InputError(
            "impossible counts",
            expected="0 <= correct <= n, 1 <= k <= n",
            found=f"n={n} correct={correct} k={k}",
        )
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


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


def _bootstrap_means(values: np.ndarray, seed: int, draws: int) -> np.ndarray:
    if values.size == 0:
        raise InputError("no values", expected="at least one value", found="none")
    rng = np.random.default_rng(seed)
    picked = rng.integers(0, values.size, size=(draws, values.size))
    means: np.ndarray = values[picked].mean(axis=1)
    return means
