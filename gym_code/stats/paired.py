"""Two agents on the same tasks: the difference, McNemar's test, and what could have been detected."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from gym_code.errors import InputError
from gym_code.stats.bootstrap import cluster_bootstrap
from gym_code.stats.intervals import (
    SAME,
    Array,
    Estimate,
    Interval,
    all_agree_reach,
    assumed_icc,
    checked,
    estimated,
)
from gym_code.stats.quantiles import normal_quantile, t_quantile

POWER = 0.8
"""The chance to find a difference, by convention."""


@dataclass(frozen=True, slots=True, kw_only=True)
class McNemar:
    """McNemar's test on tasks where the two disagree; it takes tasks as independent."""

    only_first: int
    only_second: int
    exact: float
    """Two-sided p of the binomial test; never too small, and rather too large."""
    mid_p: float
    """The same with half the weight of what was observed: nearer to its nominal level."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The second minus the first, on the same tasks."""

    difference: Interval
    """CR2 by cluster: the one to report."""
    bootstrap: Interval
    """Paired bootstrap of whole clusters."""
    mcnemar: McNemar | None
    """None where values are not all 0 or 1."""
    design_effect: float | None
    """Variance by cluster over that of independent tasks; None where either is not known."""
    detectable: float | None
    """The smallest true difference that a comparison as noisy as this one finds with 80 % power."""


def mcnemar(only_first: int, only_second: int) -> McNemar:
    """The exact test of b against c discordant tasks, and its mid-p version.

    With X ~ Binomial(b + c, 1/2): p = min(1, 2 P(X <= min(b, c))), mid-p = 2 P(X <= min(b, c)) - P(X =
    min(b, c)) (Fagerland, Lydersen and Laake 2013, eq. 3 and 4). Raises `InputError` on negative counts.
    """
    if only_first < 0 or only_second < 0:
        raise InputError("impossible counts", expected="counts >= 0", found=(only_first, only_second))
    n, fewer = only_first + only_second, min(only_first, only_second)
    ways = tail = 1
    for i in range(fewer):
        ways = ways * (n - i) // (i + 1)
        tail += ways
    # Whole numbers until the last step: 2**n is beyond a float from 1,024 discordant tasks on.
    return McNemar(
        only_first=only_first,
        only_second=only_second,
        exact=min(1.0, 2 * tail / 2**n),
        mid_p=(2 * tail - ways) / 2**n,
    )


def compare(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[str],
    *,
    seed: int = 0,
    draws: int = 10_000,
    level: float = 0.95,
) -> Comparison:
    """Whether the second does better than the first on the same tasks (values in [0, 1], one a task).

    The difference has the variance and degrees of freedom of `cluster_interval` on its own scale, clipped
    to [-1, 1]. `detectable` is (t_(1+level)/2 + t_0.8) SE, Bloom's (1995) multiplier; Miller (2024) has
    it for evaluations with normal quantiles. Raises `InputError` where the two are not paired or no
    rates.
    """
    before, after = checked(first, clusters, level=level), checked(second, clusters, level=level)
    gains = after - before
    difference, effect = _difference(gains, clusters, level)
    is_binary = bool(((before == 0) | (before == 1)).all() and ((after == 0) | (after == 1)).all())
    error, detectable = difference.standard_error, None
    if error is not None and difference.df is not None:
        quantiles = t_quantile(0.5 + level / 2.0, difference.df) + t_quantile(POWER, difference.df)
        detectable = quantiles * error if quantiles * error <= 1.0 else None
    return Comparison(
        difference=difference,
        bootstrap=cluster_bootstrap(gains.tolist(), clusters, seed=seed, draws=draws, level=level),
        mcnemar=mcnemar(int((gains < 0).sum()), int((gains > 0).sum())) if is_binary else None,
        design_effect=effect,
        detectable=detectable,
    )


def smallest_detectable_difference(
    tasks: int,
    discordance: float,
    *,
    power: float = POWER,
    level: float = 0.95,
    design_effect: float = 1.0,
) -> float | None:
    """The smallest difference of two pass rates that McNemar's test finds with the given power.

    `discordance` is the share of tasks that exactly one of the two resolves. Connor (1987):
    n = (z_a sqrt(psi) + z_b sqrt(psi - d^2))^2 / d^2, solved for d:
    d = sqrt(psi) (sqrt(n) z_a + z_b sqrt(n - z_a^2 + z_b^2)) / (n + z_b^2). `design_effect` divides the
    tasks, for clusters. None where even the largest difference that the discordance allows would not be
    found. Raises `InputError` on impossible numbers.
    """
    z_a, z_b = _planned(discordance, power, level, design_effect)
    if tasks < 1:
        raise InputError("no tasks", expected="tasks >= 1", found=tasks)
    n = tasks / design_effect
    under = n - z_a**2 + z_b**2
    if under < 0.0:
        return None
    difference = math.sqrt(discordance) * (math.sqrt(n) * z_a + z_b * math.sqrt(under)) / (n + z_b**2)
    return difference if difference <= discordance else None


def tasks_needed(
    difference: float,
    discordance: float,
    *,
    power: float = POWER,
    level: float = 0.95,
    design_effect: float = 1.0,
) -> int:
    """The tasks that McNemar's test needs to find a difference with the given power (Connor 1987).

    Raises `InputError` unless 0 < |difference| <= discordance <= 1.
    """
    z_a, z_b = _planned(discordance, power, level, design_effect)
    if not 0.0 < abs(difference) <= discordance:
        raise InputError(
            "impossible difference", expected=f"0 < |difference| <= {discordance}", found=difference
        )
    root = z_a * math.sqrt(discordance) + z_b * math.sqrt(discordance - difference**2)
    return math.ceil(design_effect * (root / difference) ** 2)


def _planned(discordance: float, power: float, level: float, design_effect: float) -> tuple[float, float]:
    """z of the test's two sides and of its power, once the numbers are checked."""
    if not (0.0 < discordance <= 1.0 and 0.5 <= power < 1.0 and 0.0 < level < 1.0 and design_effect > 0.0):
        raise InputError(
            "impossible plan",
            expected="discordance in (0, 1], power in [0.5, 1), level in (0, 1), design effect > 0",
            found=(discordance, power, level, design_effect),
        )
    return normal_quantile(0.5 + level / 2.0), normal_quantile(power)


def _difference(gains: Array, clusters: Sequence[str], level: float) -> tuple[Interval, float | None]:
    """The mean gain with its interval, and the design effect."""
    found = estimated(gains, clusters)
    n, mean = found.tasks, found.mean
    independent = float(gains.var(ddof=1)) / n if n > 1 else 0.0
    if independent <= SAME**2:
        return _one_gain(found, level), None
    variance, df, method = found.variance, found.df, "CR2 by cluster, Bell-McCaffrey t"
    effect: float | None = variance / independent
    if found.clusters == 1:
        variance, df, method, effect = independent, n - 1.0, "t over tasks: no clusters to compare", None
    elif variance <= SAME * independent:
        variance, effect = independent, None
        method = "tasks taken as independent: all clusters at one gain, t"
    half = t_quantile(0.5 + level / 2.0, df) * math.sqrt(variance)
    interval = Interval(
        estimate=mean,
        low=max(-1.0, mean - half),
        high=min(1.0, mean + half),
        standard_error=math.sqrt(variance),
        df=df,
        tasks=n,
        clusters=found.clusters,
        method=method,
    )
    return interval, effect


def _one_gain(found: Estimate, level: float) -> Interval:
    """All tasks have one gain, so no variance: Clopper-Pearson bounds the tasks that may be otherwise.

    Each of those may gain anything from -1 to 1.
    """
    reach, mean = all_agree_reach(found, level), found.mean
    return Interval(
        estimate=mean,
        low=max(-1.0, (1.0 - reach) * mean - reach),
        high=min(1.0, (1.0 - reach) * mean + reach),
        standard_error=None,
        df=None,
        tasks=found.tasks,
        clusters=found.clusters,
        method=f"Clopper-Pearson, all tasks have one gain, ICC {assumed_icc(found)} assumed",
    )
