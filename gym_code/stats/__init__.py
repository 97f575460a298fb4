"""Statistics for evaluations: pass@k, intervals that know of repositories, paired comparison, bounds.

All rates are fractions of 1 and all intervals are two-sided. Tasks of one repository are solved or missed
together, so the interval to report is `cluster_interval`; the naive one stands beside it to show what
that costs. Nothing here needs more than numpy; the tests compare with scipy, statsmodels and closed
forms.
"""

from __future__ import annotations

from gym_code.stats.bootstrap import cluster_bootstrap, mean, mean_interval, paired_gain
from gym_code.stats.intervals import Interval, cluster_interval, naive_interval, post_stratified
from gym_code.stats.paired import (
    Comparison,
    McNemar,
    compare,
    mcnemar,
    smallest_detectable_difference,
    tasks_needed,
)
from gym_code.stats.passes import Passes, best_of_k, majority, pass_at_k, pass_hat_k, passes_over_tasks
from gym_code.stats.scores import (
    Bounds,
    BudgetPoint,
    Stability,
    by_stratum,
    flake_stable,
    infrastructure_bounds,
    score_by_budget,
)

__all__ = [
    "Bounds",
    "BudgetPoint",
    "Comparison",
    "Interval",
    "McNemar",
    "Passes",
    "Stability",
    "best_of_k",
    "by_stratum",
    "cluster_bootstrap",
    "cluster_interval",
    "compare",
    "flake_stable",
    "infrastructure_bounds",
    "majority",
    "mcnemar",
    "mean",
    "mean_interval",
    "naive_interval",
    "paired_gain",
    "pass_at_k",
    "pass_hat_k",
    "passes_over_tasks",
    "post_stratified",
    "score_by_budget",
    "smallest_detectable_difference",
    "tasks_needed",
]
