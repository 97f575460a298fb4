"""Statistics beside scipy, statsmodels, closed forms, and what was worked out by hand."""

from __future__ import annotations

import doctest
import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from gym_code.errors import InputError
from gym_code.stats import (
    Interval,
    best_of_k,
    by_stratum,
    cluster_bootstrap,
    cluster_interval,
    compare,
    flake_stable,
    infrastructure_bounds,
    intervals,
    majority,
    mcnemar,
    mean_interval,
    naive_interval,
    paired_gain,
    pass_at_k,
    pass_hat_k,
    passes_over_tasks,
    post_stratified,
    score_by_budget,
    smallest_detectable_difference,
    tasks_needed,
)
from gym_code.stats.quantiles import incomplete_beta, t_quantile

# Six tasks of three repositories: 2 of 3, 1 of 2, 0 of 1.
SIX = [1, 1, 0, 1, 0, 0]
REPOSITORIES = ["a", "a", "a", "b", "b", "c"]
ATTEMPTS = st.lists(st.tuples(st.integers(0, 3), st.booleans()), min_size=1, max_size=6)
GRADED = st.lists(st.tuples(st.booleans(), st.sampled_from("abcde")), min_size=1, max_size=40)


def ends(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def unequal(seed: int) -> tuple[np.ndarray, list[str], list[str]]:
    """60 outcomes in 7 unequal repositories that cross 3 strata."""
    rng = np.random.default_rng(seed)
    clusters = [f"repository {i}" for i in rng.choice(7, 60, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.05, 0.05])]
    strata = [("easy", "hard", "medium")[i] for i in rng.integers(0, 3, 60)]
    return (rng.random(60) < 0.4).astype(float), clusters, strata


def brute_force_cr2(
    values: np.ndarray, clusters: list[str], X: np.ndarray, contrast: np.ndarray
) -> tuple[float, float, float]:
    """Estimate, CR2 variance and Bell-McCaffrey df from whole matrices (Imbens and Kolesar 2016)."""
    bread = np.linalg.inv(X.T @ X)
    residual_maker = np.eye(len(values)) - X @ bread @ X.T
    columns = []
    for name in sorted(set(clusters)):
        at = [i for i, cluster in enumerate(clusters) if cluster == name]
        eigenvalues, vectors = np.linalg.eigh(residual_maker[np.ix_(at, at)])
        powers = np.array([0.0 if e < 1e-9 else e**-0.5 for e in eigenvalues])
        adjusted = vectors @ np.diag(powers) @ vectors.T @ X[at] @ bread @ contrast
        columns.append(residual_maker[at].T @ adjusted)
    P = np.array(columns)
    M = P @ P.T
    return (
        float(contrast @ bread @ X.T @ values),
        float(((P @ values) ** 2).sum()),
        float(np.trace(M) ** 2 / (M**2).sum()),
    )


def test_the_examples_in_docstrings_are_true() -> None:
    results = doctest.testmod(intervals)
    assert results.attempted == 2
    assert results.failed == 0


# Quantiles


def test_quantiles_are_scipys() -> None:
    for df in (0.5, 1.0, 1.7, 3.326, 4.0, 29.0, 499.0, 1e5):
        for probability in (0.001, 0.025, 0.5, 0.8, 0.975, 0.9999):
            expected = scipy_stats.t.ppf(probability, df)
            assert t_quantile(probability, df) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_the_incomplete_beta_is_scipys() -> None:
    for a, b, x in ((0.5, 0.5, 0.3), (2.0, 3.0, 0.0), (2.0, 3.0, 1.0), (200.0, 0.5, 0.99), (5.0, 8.0, 0.9)):
        assert incomplete_beta(a, b, x) == pytest.approx(scipy_stats.beta.cdf(x, a, b), rel=1e-12)


# Several attempts


def test_pass_at_k_against_the_closed_form() -> None:
    # 10 samples, 3 correct: 1 - C(7,2)/C(10,2) = 1 - 21/45.
    assert pass_at_k(10, 3, 2) == pytest.approx(24 / 45)
    assert pass_at_k(4, 1, 1) == 0.25
    assert pass_at_k(4, 0, 4) == 0.0
    assert pass_at_k(4, 1, 4) == 1.0


def test_pass_hat_k_against_the_closed_form() -> None:
    # 10 samples, 3 correct: C(3,2)/C(10,2) = 3/45.
    assert pass_hat_k(10, 3, 2) == pytest.approx(3 / 45)
    assert pass_hat_k(4, 3, 1) == 0.75
    assert pass_hat_k(4, 3, 4) == 0.0
    assert pass_hat_k(4, 4, 4) == 1.0


@pytest.mark.parametrize("estimate", [pass_at_k, pass_hat_k])
def test_impossible_counts_are_refused(estimate) -> None:
    for n, correct, k in ((2, 3, 1), (2, -1, 1), (2, 1, 3), (2, 1, 0)):
        with pytest.raises(InputError, match=f"found n={n} correct={correct} k={k}"):
            estimate(n, correct, k)


@settings(deadline=None)
@given(ATTEMPTS, st.integers(1, 6))
def test_any_all_and_best_are_means_over_all_draws(attempts: list[tuple[int, bool]], k: int) -> None:
    n = len(attempts)
    k = min(k, n)
    scores, correct = [s for s, _ in attempts], [c for _, c in attempts]
    draws = list(combinations(attempts, k))
    best = [[c for s, c in draw if s == max(s for s, _ in draw)] for draw in draws]
    assert pass_at_k(n, sum(correct), k) == pytest.approx(np.mean([any(c for _, c in d) for d in draws]))
    assert pass_hat_k(n, sum(correct), k) == pytest.approx(np.mean([all(c for _, c in d) for d in draws]))
    assert best_of_k(scores, correct, k) == pytest.approx(np.mean([np.mean(tied) for tied in best]))
    assert best_of_k([0.0] * n, correct, k) == pytest.approx(pass_at_k(n, sum(correct), 1))
    assert best_of_k([float(c) for c in correct], correct, k) == pytest.approx(pass_at_k(n, sum(correct), k))


def test_scores_that_do_not_fit_the_attempts_are_refused() -> None:
    for scores, correct in (([1.0], [True, False]), ([math.nan], [True])):
        with pytest.raises(InputError, match="not one score an attempt"):
            best_of_k(scores, correct, 1)


def test_the_majority_is_right_by_its_share() -> None:
    assert majority(["x", "x", "y"], [True, True, False]) == 1.0
    assert majority(["x", "x", "y"], [False, False, True]) == 0.0
    assert majority(["x", "y"], [True, False]) == 0.5  # a tie, by lot
    assert majority(["x", "x", "y", "y"], [True, False, False, False]) == 0.25  # and one grading of two
    with pytest.raises(InputError, match="expected 1 > 0 grades, found 2"):
        majority(["x"], [True, False])
    with pytest.raises(InputError):
        majority([], [])


def test_every_task_weighs_the_same_however_often_it_was_tried() -> None:
    found = passes_over_tasks([(4, 1), (2, 2), (3, 0), (1, 1)], ["a", "a", "b", "b"], 2)
    # pass@2: 1 - C(3,2)/C(4,2) = 1/2, 1, 0; pass^2: 0, 1, 0; one attempt says nothing of two.
    assert found.any_right.estimate == pytest.approx(0.5)
    assert found.all_right.estimate == pytest.approx(1 / 3)
    assert (found.left_out, found.any_right.tasks, found.any_right.clusters) == (1, 3, 2)
    with pytest.raises(InputError, match=r"expected a task with at least 5, found at most 4"):
        passes_over_tasks([(4, 1)], ["a"], 5)
    with pytest.raises(InputError, match="not one cluster a task"):
        passes_over_tasks([(4, 1)], [], 1)


# Intervals of one score


def test_the_interval_of_a_mean_is_near_the_normal_one() -> None:
    values = [0.0, 1.0] * 200
    low, high = mean_interval(values, seed=1)
    # 0.5 +- 1.96 * 0.5 / sqrt(400)
    assert low == pytest.approx(0.451, abs=0.006)
    assert high == pytest.approx(0.549, abs=0.006)


def test_the_naive_interval_is_wilsons() -> None:
    for right, n in ((0, 7), (3, 7), (250, 500), (12, 12)):
        for level in (0.8, 0.95):
            found = naive_interval([1.0] * right + [0.0] * (n - right), level=level)
            assert ends(found) == pytest.approx(proportion_confint(right, n, 1 - level, "wilson"), abs=1e-12)


def test_the_cluster_interval_by_hand() -> None:
    found = cluster_interval(SIX, REPOSITORIES)
    # Mean 1/2; residuals of a, b, c: 1/2, 0, -1/2; weights 1/2, 1/3, 1/6.
    # Variance: (1/4 / (1/2) + 0 + 1/4 / (5/6)) / 36 = 0.8 / 36.
    assert found.estimate == 0.5
    assert found.standard_error == pytest.approx(math.sqrt(0.8 / 36))
    # M_gg = w_g = 1/2, 1/3, 1/6: trace 1. M_gk = -w_g w_k / sqrt((1-w_g) (1-w_k)), squared:
    # ab 1/12, ac 1/60, bc 3/180... each w_g^2 w_k^2 / ((1-w_g) (1-w_k)).
    off = (1 / 36) / (1 / 3) + (1 / 144) / (5 / 12) + (1 / 324) / (5 / 9)
    assert found.df == pytest.approx(1 / (1 / 4 + 1 / 9 + 1 / 36 + 2 * off))
    reach = scipy_stats.t.ppf(0.975, found.df) * math.sqrt(0.8 / 36) / 0.25
    assert found.high == pytest.approx(1 / (1 + math.exp(-reach)))
    assert found.low == pytest.approx(1 - found.high)
    assert (found.tasks, found.clusters) == (6, 3)


def test_with_equal_clusters_the_error_is_that_of_statsmodels() -> None:
    # Clusters of one size: CR2 is CR1, the correction of statsmodels.
    values = np.random.default_rng(5).integers(0, 2, 48).astype(float)
    names = np.repeat(np.arange(8), 6)
    fit = OLS(values, np.ones(48)).fit(cov_type="cluster", cov_kwds={"groups": names})
    found = cluster_interval(values.tolist(), [str(name) for name in names])
    assert found.standard_error == pytest.approx(fit.bse[0], rel=1e-12)
    assert found.df == pytest.approx(7)


@pytest.mark.parametrize("seed", range(5))
def test_with_unequal_clusters_it_is_cr2_from_whole_matrices(seed: int) -> None:
    values, clusters, _ = unequal(seed)
    mean, variance, df = brute_force_cr2(values, clusters, np.ones((60, 1)), np.ones(1))
    found = cluster_interval(values.tolist(), clusters)
    assert found.estimate == pytest.approx(mean)
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert found.df == pytest.approx(df)
    assert compare(np.zeros(60), values, clusters, draws=10).difference.df == pytest.approx(df)


@pytest.mark.parametrize("seed", range(5))
def test_post_stratified_is_cr2_of_a_regression_on_strata(seed: int) -> None:
    values, clusters, strata = unequal(seed)
    shares = {"easy": 0.2, "hard": 0.5, "medium": 0.3}
    X = np.array([[stratum == name for name in shares] for stratum in strata], dtype=float)
    mean, variance, df = brute_force_cr2(values, clusters, X, np.array(list(shares.values())))
    found = post_stratified(values.tolist(), clusters, strata, shares)
    assert found.estimate == pytest.approx(mean)
    assert found.standard_error == pytest.approx(math.sqrt(variance))
    assert found.df == pytest.approx(df)
    # One stratum is no stratum.
    alone = post_stratified(values.tolist(), clusters, ["x"] * 60, {"x": 1.0})
    assert ends(alone) == pytest.approx(ends(cluster_interval(values.tolist(), clusters)))


def test_shares_that_do_not_fit_are_refused() -> None:
    for shares in ({"x": 0.5, "y": 0.6}, {"x": 1.0}, {"x": 0.5, "y": 0.25, "z": 0.25}):
        with pytest.raises(InputError, match="expected shares of x, y that sum to 1"):
            post_stratified([0, 1], ["a", "b"], ["x", "y"], shares)


def test_the_df_of_verified_are_those_of_a_few_repositories() -> None:
    sizes = (231, 75, 44, 34, 32, 22, 22, 19, 10, 8, 2, 1)
    clusters = [f"r{i}" for i, size in enumerate(sizes) for _ in range(size)]
    assert cluster_interval([0.0, 1.0] * 250, clusters).df == pytest.approx(3.3308, abs=1e-4)


def test_one_repository_alone_has_the_interval_of_its_tasks() -> None:
    found = cluster_interval([1, 0, 0, 0], ["a"] * 4)
    assert ends(found) == pytest.approx(proportion_confint(1, 4, 0.05, "wilson"))
    assert found.method == "Wilson over tasks: no clusters to compare"
    both = post_stratified([1, 0, 1, 1], ["a", "a", "b", "b"], ["x", "x", "y", "y"], {"x": 0.5, "y": 0.5})
    assert both.method == found.method  # each repository is a stratum of its own


def test_where_all_tasks_agree_the_interval_is_clopper_pearsons() -> None:
    # One task a repository: no correlation to allow for.
    found = cluster_interval([0.0] * 20, [f"r{i}" for i in range(20)])
    exact = scipy_stats.binomtest(0, 20).proportion_ci(method="exact")
    assert ends(found) == pytest.approx((exact.low, exact.high))
    assert found.method == "Clopper-Pearson, all tasks agree, ICC 0.2 assumed"
    # 5 repositories of 41: design effect 1 + 0.2 * 40 = 9, so 205 tasks count as 22.8.
    found = cluster_interval([1.0] * 205, [f"r{i % 5}" for i in range(205)])
    assert ends(found) == pytest.approx((0.025 ** (9 / 205), 1.0))
    assert found.standard_error is None


def test_repositories_at_one_rate_do_not_make_the_interval_a_point() -> None:
    found = cluster_interval([1, 0, 1, 0], ["a", "a", "b", "b"])
    # Independent tasks: sqrt(0.25 / 4); two equal clusters leave one degree of freedom, t = 12.7.
    assert (found.standard_error, found.df) == (0.25, pytest.approx(1))
    assert found.low < 0.001
    assert found.high > 0.999


@settings(deadline=None)
@given(GRADED, st.randoms())
def test_intervals_hold_their_mean_and_depend_on_no_order(graded, random) -> None:
    mixed = random.sample(graded, len(graded))
    for interval in (cluster_interval, lambda v, c: cluster_bootstrap(v, c, draws=50)):
        found, again = (interval([float(v) for v, _ in g], [c for _, c in g]) for g in (graded, mixed))
        assert 0 <= found.low <= found.high <= 1
        assert ends(found) == pytest.approx(ends(again), abs=1e-9)
        assert found.method == again.method
    found = cluster_interval([float(v) for v, _ in graded], [c for _, c in graded])
    assert found.low <= found.estimate <= found.high


@settings(deadline=None)
@given(GRADED, st.integers(2, 4))
def test_copies_of_tasks_within_their_repository_add_nothing(graded, copies: int) -> None:
    values, clusters = [float(v) for v, _ in graded], [c for _, c in graded]
    once, often = cluster_interval(values, clusters), cluster_interval(values * copies, clusters * copies)
    if once.method.startswith("CR2"):
        assert ends(once) == pytest.approx(ends(often))
        assert once.df == pytest.approx(often.df)


def test_bad_values_are_refused() -> None:
    with pytest.raises(InputError, match="no values"):
        cluster_interval([], [])
    with pytest.raises(InputError, match="expected 2 labels, found 1"):
        cluster_interval([0, 1], ["a"])
    for value in (1.5, -0.1, math.nan):
        with pytest.raises(InputError, match="value 1: not a rate"):
            cluster_interval([0, value], ["a", "b"])
    with pytest.raises(InputError, match="impossible level"):
        naive_interval([1], level=1.0)


def test_the_cluster_bootstrap_draws_whole_repositories() -> None:
    # Two repositories, all right and all wrong: a draw is 0, 1/2 or 1 with chances 1/4, 1/2, 1/4.
    found = cluster_bootstrap([1, 1, 0, 0], ["a", "a", "b", "b"], seed=3)
    assert ends(found) == (0.0, 1.0)
    assert found.standard_error == pytest.approx(math.sqrt(1 / 8), rel=0.02)
    assert found == cluster_bootstrap([1, 1, 0, 0], ["a", "a", "b", "b"], seed=3)
    # Three tasks right in one, one wrong in the other: 1, 3/4 or 0, for tasks are pooled.
    pooled = cluster_bootstrap([1, 1, 1, 0], ["a", "a", "a", "b"], seed=3)
    assert pooled.standard_error == pytest.approx(0.375, rel=0.02)
    alone = cluster_bootstrap([0, 1] * 200, ["a"] * 400, seed=1)
    assert alone.low == pytest.approx(0.451, abs=0.006)
    assert alone.method == "percentile bootstrap of tasks: one cluster, 10000 draws"


# Two agents


def test_a_paired_gain_is_tight_where_tasks_move_together() -> None:
    before = [0.0, 0.5, 1.0, 0.25] * 10
    gain, (low, high) = paired_gain(before, [b + 0.1 for b in before])
    assert gain == pytest.approx(0.1)
    assert (low, high) == (pytest.approx(0.1), pytest.approx(0.1))


def test_unpaired_results_are_refused() -> None:
    with pytest.raises(InputError, match="found 1 and 2"):
        paired_gain([1.0], [1.0, 0.0])
    with pytest.raises(InputError, match="expected 1 labels, found 2"):
        compare([1.0], [1.0, 0.0], ["a", "b"])


def test_mcnemar_by_hand() -> None:
    # 1 against 5 of 6: P(X <= 1) = 7/64, P(X = 1) = 6/64.
    found = mcnemar(1, 5)
    assert (found.exact, found.mid_p) == (14 / 64, 8 / 64)
    assert (mcnemar(0, 0).exact, mcnemar(0, 0).mid_p) == (1.0, 1.0)
    assert (mcnemar(3, 3).exact, mcnemar(3, 3).mid_p) == (1.0, 1.0)
    with pytest.raises(InputError, match="impossible counts"):
        mcnemar(-1, 2)


@settings(deadline=None)
@given(st.integers(0, 900), st.integers(0, 900))
def test_mcnemar_is_that_of_scipy_and_statsmodels(b: int, c: int) -> None:
    found = mcnemar(b, c)
    if b + c:
        assert found.exact == pytest.approx(scipy_stats.binomtest(b, b + c).pvalue, rel=1e-9, abs=1e-200)
        theirs = statsmodels_mcnemar([[7, b], [c, 9]], exact=True).pvalue
        assert found.exact == pytest.approx(theirs, rel=1e-9, abs=1e-200)
    assert found.mid_p <= found.exact
    assert found.exact == mcnemar(c, b).exact


def test_a_comparison_by_hand() -> None:
    clusters = ["a", "a", "b", "b", "c", "c"]
    found = compare([0, 0, 1, 0, 1, 1], [1, 1, 1, 0, 0, 1], clusters, seed=1)
    # Gains 1, 1, 0, 0, -1, 0: mean 1/6; residuals of a, b, c: 5/3, -1/3, -4/3; CR2 = 42/9 / (2/3) / 36.
    variance = (42 / 9) / (2 / 3) / 36
    assert found.difference.estimate == pytest.approx(1 / 6)
    assert found.difference.standard_error == pytest.approx(math.sqrt(variance))
    assert found.difference.df == pytest.approx(2)
    # t = 4.303 and se = 0.441: clipped on both sides.
    assert ends(found.difference) == (-1.0, 1.0)
    assert (found.mcnemar.only_first, found.mcnemar.only_second) == (1, 2)
    # Independent tasks: (2 * 25/36 + 3 * 1/36 + 49/36) / 5 / 6.
    assert found.design_effect == pytest.approx(variance / (102 / 36 / 30))
    assert found.detectable is None  # 4.303 + 1.061 times 0.441 is more than any difference
    assert found.bootstrap.low == pytest.approx(-0.5)
    assert found.bootstrap.high == pytest.approx(1.0)


def test_what_a_comparison_can_detect() -> None:
    first, second = [0.2, 0.4, 0.6, 0.3] * 5, [0.3, 0.4, 0.5, 0.7] * 5
    clusters = [f"r{i // 2}" for i in range(20)]
    found = compare(first, second, clusters)
    quantiles = scipy_stats.t.ppf([0.975, 0.8], found.difference.df)
    assert found.detectable == pytest.approx(quantiles.sum() * found.difference.standard_error)
    assert found.mcnemar is None  # rates, not verdicts


def test_agents_that_agree_everywhere_are_not_known_to_be_equal() -> None:
    found = compare([0, 1] * 10, [0, 1] * 10, [f"r{i}" for i in range(20)])
    # As for 0 of 20: up to 1 - 0.025^(1/20) of the tasks may differ, either way.
    assert ends(found.difference) == pytest.approx((0.025**0.05 - 1, 1 - 0.025**0.05))
    assert (found.design_effect, found.detectable, found.mcnemar.exact) == (None, None, 1.0)
    alone = compare([0] * 4, [1] * 4, ["a"] * 4).difference
    assert ends(alone) == pytest.approx((2 * 0.025**0.25 - 1, 1.0))


def test_a_comparison_within_one_repository_is_the_paired_t_test() -> None:
    first, second = [0.0, 1, 0, 1, 0, 0], [1.0, 1, 0, 1, 1, 0]
    theirs = scipy_stats.ttest_rel(second, first).confidence_interval()
    found = compare(first, second, ["a"] * 6).difference
    assert ends(found) == pytest.approx((theirs.low, theirs.high))
    assert found.method == "t over tasks: no clusters to compare"
    level = compare([0, 0, 0, 0], [1, 0, 1, 0], ["a", "a", "b", "b"]).difference
    assert level.standard_error == pytest.approx(math.sqrt(1 / 3 / 4))  # both repositories gain 1/2


def test_tasks_needed_by_hand() -> None:
    # psi 0.2, d 0.1: (1.95996 sqrt(0.2) + 0.84162 sqrt(0.19))^2 / 0.01 = 154.6
    assert tasks_needed(0.1, 0.2) == 155
    assert tasks_needed(-0.1, 0.2) == 155
    assert tasks_needed(0.1, 0.2, design_effect=2) == 310
    with pytest.raises(InputError, match="impossible difference"):
        tasks_needed(0.3, 0.2)
    with pytest.raises(InputError, match="impossible plan"):
        tasks_needed(0.1, 1.2)


def test_the_smallest_difference_is_what_the_tasks_are_needed_for() -> None:
    for tasks in (50, 155, 500, 3000):
        for discordance in (0.15, 0.3, 1.0):
            for effect in (1.0, 2.5):
                least = smallest_detectable_difference(tasks, discordance, design_effect=effect)
                if least is not None:
                    assert tasks_needed(least * 1.0001, discordance, design_effect=effect) <= tasks
                    assert tasks_needed(least * 0.99, discordance, design_effect=effect) > tasks
    assert smallest_detectable_difference(20, 0.1) is None  # two discordant tasks prove nothing
    assert smallest_detectable_difference(1, 0.5) is None
    with pytest.raises(InputError, match="no tasks"):
        smallest_detectable_difference(0, 0.5)


def test_the_power_that_was_planned_is_had() -> None:
    difference, discordance = 0.1, 0.25
    tasks = tasks_needed(difference, discordance)
    share = (discordance + difference) / 2 / discordance  # of discordant tasks, those of the better agent
    power = 0.0
    for n in range(tasks + 1):
        chance = scipy_stats.binom.pmf(n, tasks, discordance)
        if chance > 1e-9:
            found = [mcnemar(b, n - b).mid_p <= 0.05 for b in range(n + 1)]
            power += chance * (scipy_stats.binom.pmf(range(n + 1), n, share) * found).sum()
    assert power == pytest.approx(0.8, abs=0.02)


# What stands beside the score


def test_the_score_rises_with_the_budget() -> None:
    points = score_by_budget([3, 1, 3, 2, 9], [1, 1, 1, 0, 1], ["a", "a", "b", "b", "c"])
    assert [(p.budget, p.resolved.estimate) for p in points] == [(1, 0.2), (3, 0.6), (9, 0.8)]
    assert points[-1].resolved == cluster_interval([1, 1, 1, 0, 1], ["a", "a", "b", "b", "c"])
    asked = score_by_budget([3, 1], [1, 1], ["a", "b"], budgets=[0.5, 2, 100])
    assert [p.resolved.estimate for p in asked] == [0.0, 0.5, 1.0]
    assert score_by_budget([3, 1], [0, 0], ["a", "b"]) == []


def test_costs_that_are_none_are_refused() -> None:
    with pytest.raises(InputError, match="not one cost an attempt"):
        score_by_budget([1], [1, 0], ["a", "b"])
    for cost in (-1.0, math.nan, math.inf):
        with pytest.raises(InputError, match="attempt 1: no cost"):
            score_by_budget([1, cost], [1, 0], ["a", "b"])


def test_strata_have_their_own_intervals() -> None:
    found = by_stratum([1, 0, 1, 1], ["a", "b", "a", "b"], ["hard", "hard", "easy", "easy"])
    assert list(found) == ["easy", "hard"]
    assert found["easy"] == cluster_interval([1, 1], ["a", "b"])
    assert found["hard"] == cluster_interval([1, 0], ["a", "b"])
    with pytest.raises(InputError, match="not one label a value"):
        by_stratum([1, 0], ["a", "b"], ["hard"])


def test_what_was_lost_bounds_the_score() -> None:
    found = infrastructure_bounds([1, 0, None, 1], ["a", "b", "b", "c"])
    assert found.as_failed.estimate == 0.5
    assert found.excluded.estimate == pytest.approx(2 / 3)
    assert found.as_resolved.estimate == 0.75
    assert (found.lost, found.excluded.tasks, found.as_failed.tasks) == (1, 3, 4)
    nothing = infrastructure_bounds([None, None], ["a", "b"])
    assert nothing.excluded is None
    assert (nothing.as_failed.estimate, nothing.as_resolved.estimate) == (0.0, 1.0)
    with pytest.raises(InputError, match="expected 1 labels, found 0"):
        infrastructure_bounds([None], [])


def test_instances_that_flake_leave_the_stable_score() -> None:
    gradings = [[True, True], [True, False], [False, False], [False]]
    found = flake_stable(gradings, ["a", "a", "b", "b"])
    assert found.full.estimate == 0.5
    assert found.stable.estimate == pytest.approx(1 / 3)
    assert (found.flaky, found.graded_once) == ((1,), 1)
    assert flake_stable([[True, False]], ["a"]).stable is None
    with pytest.raises(InputError, match="instance 1: no grading"):
        flake_stable([[True], []], ["a", "b"])
