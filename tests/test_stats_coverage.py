"""How often the 95 % intervals hold the truth, in %, as 20,000 data sets each show (GYM_CODE_DRAWS=20000).

A repository's rate is drawn from a beta distribution, its tasks are yes or no; ICC is the correlation of two
of them. "Verified" has the sizes of SWE-bench Verified's 12 repositories.

                    rate 0.1  0.3  0.6
    Verified  ICC 0     97.2 97.2 97.0
              0.05      95.0 95.0 94.9
              0.1       94.8 95.1 94.9
              0.2       94.4 95.2 95.3
              0.3       94.1 95.5 95.7
    5 of 40   ICC 0     96.1 94.9 95.3
              0.05      95.2 95.0 95.4
              0.1       94.9 95.1 95.5
              0.2       93.5 95.2 95.6
              0.3       92.2 95.0 95.7
    30 of 10  ICC 0     95.1 95.1 95.6
              0.05      95.0 95.4 95.2
              0.1       94.7 95.3 95.2
              0.2       94.4 95.6 95.4
              0.3       94.0 95.5 95.5

Two places lie outside 93 to 97. Very unequal repositories with tasks that are fully independent: 97.2, for
a t with 3.3 degrees of freedom is a cautious approximation there. Five repositories, few solves and the
strongest correlation: 92.2, for then most repositories have no solve at all and nothing in the data shows
the one that could have many. With two or three repositories the interval is wide and covers 97 to 100.

For Verified with ICC 0.1 and rate 0.3 the naive interval covers 39.4 and the cluster bootstrap 87.8. Tried
on the same designs and dropped: CR1 with G - 1 degrees of freedom (73 to 91 for Verified), CR2 without the
logit (77 for 5 of 40 at rate 0.1, ICC 0.3), degrees of freedom with an estimated ICC (Imbens and Kolesar
2016; 97 to 100 for Verified), the jackknife CR3 with G - 1 (79 to 94 for Verified).
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import beta

from gym_code.stats import Interval, cluster_bootstrap, cluster_interval, compare, naive_interval

pytestmark = pytest.mark.slow

DRAWS = int(os.environ.get("GYM_CODE_DRAWS", "2000"))
DESIGNS = {
    "Verified": (231, 75, 44, 34, 32, 22, 22, 19, 10, 8, 2, 1),
    "5 of 40": (40,) * 5,
    "30 of 10": (10,) * 30,
}
RATES = (0.1, 0.3, 0.6)
# The whole table is for a long run.
CORRELATIONS = (0.0, 0.05, 0.1, 0.2, 0.3) if DRAWS >= 10_000 else (0.0, 0.1, 0.3)

# Where the nominal range is missed, and the range that holds instead: the docstring says why.
KNOWN = {
    ("Verified", 0.0, 0.1): (0.96, 0.98),
    ("Verified", 0.0, 0.3): (0.96, 0.98),
    ("Verified", 0.0, 0.6): (0.96, 0.98),
    ("5 of 40", 0.3, 0.1): (0.90, 0.93),
}


def outcomes(sizes: tuple[int, ...], rate: float, icc: float, seed: int) -> np.ndarray:
    """0 or 1, draws x tasks; two tasks of one repository correlate by `icc` (beta-binomial).

    Rates are a Latin hypercube (each repository's rates spread evenly over its distribution), which needs
    fewer draws than independent ones do.
    """
    rng = np.random.default_rng(seed)
    rates = np.full((DRAWS, len(sizes)), rate)
    if icc > 0:
        strength = (1 - icc) / icc
        order = rng.permuted(np.tile(np.arange(DRAWS), (len(sizes), 1)), axis=1).T
        uniform = (order + rng.random(order.shape)) / DRAWS
        rates = beta.ppf(uniform, rate * strength, (1 - rate) * strength)
    return (rng.random((DRAWS, sum(sizes))) < np.repeat(rates, sizes, axis=1)).astype(float)


def covered(truth: float, intervals: list[Interval]) -> float:
    return float(np.mean([each.low <= truth <= each.high for each in intervals]))


def coverage(design: str, icc: float, rate: float, interval: Callable[..., Interval]) -> float:
    sizes = DESIGNS[design]
    names = np.repeat(np.arange(len(sizes)), sizes)
    drawn = outcomes(sizes, rate, icc, seed=len(sizes))
    return covered(rate, [interval(values, names) for values in drawn])


@pytest.mark.parametrize("icc", CORRELATIONS)
@pytest.mark.parametrize("design", DESIGNS)
def test_the_cluster_interval_covers_93_to_97_percent(design: str, icc: float) -> None:
    found = {rate: coverage(design, icc, rate, cluster_interval) for rate in RATES}
    print(f"{design:9} ICC {icc:4} " + " ".join(f"{100 * share:5.1f}" for share in found.values()))
    for rate, share in found.items():
        low, high = KNOWN.get((design, icc, rate), (0.93, 0.97))
        assert low <= share <= high, f"rate {rate}: {share}"


def test_the_naive_interval_and_the_bootstrap_cover_less() -> None:
    naive = coverage("Verified", 0.1, 0.3, lambda values, _: naive_interval(values))
    bootstrap = coverage("Verified", 0.1, 0.3, lambda *given: cluster_bootstrap(*given, draws=400))
    print(f"Verified, ICC 0.1, rate 0.3: naive {100 * naive:.1f}, bootstrap {100 * bootstrap:.1f}")
    assert naive < 0.5
    assert 0.8 < bootstrap < 0.93


@pytest.mark.parametrize("design", DESIGNS)
def test_the_paired_interval_covers_93_to_97_percent(design: str) -> None:
    sizes = DESIGNS[design]
    names = np.repeat(np.arange(len(sizes)), sizes)
    first, second = outcomes(sizes, 0.3, 0.1, seed=1), outcomes(sizes, 0.4, 0.1, seed=2)
    pairs = zip(first, second, strict=True)
    share = covered(0.1, [compare(a, b, names, draws=2).difference for a, b in pairs])
    print(f"{design:9} difference of 0.4 and 0.3, each with ICC 0.1: {100 * share:.1f}")
    assert 0.93 <= share <= 0.97
