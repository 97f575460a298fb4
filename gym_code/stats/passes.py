"""Several attempts a task: the chance that one of k is right, that all are, and that the chosen one is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from gym_code.errors import InputError
from gym_code.stats.intervals import Interval, cluster_interval


def pass_at_k(n: int, correct: int, k: int) -> float:
    """The unbiased estimate 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, eq. 1); c of n samples are correct.

    Raises `InputError` unless 0 <= correct <= n and 1 <= k <= n.
    """
    _check(n, correct, k)
    return 1.0 - math.comb(n - correct, k) / math.comb(n, k)


def pass_hat_k(n: int, correct: int, k: int) -> float:
    """pass^k, the chance that k attempts are all right: the unbiased C(c, k) / C(n, k).

    The measure is tau-bench's (Yao et al. 2024). Raises `InputError` unless 0 <= correct <= n and 1 <= k
    <= n.
    """
    _check(n, correct, k)
    return math.comb(correct, k) / math.comb(n, k)


def best_of_k(scores: Sequence[float], correct: Sequence[bool], k: int) -> float:
    """The chance that the attempt with the highest score, among k drawn from the n made, is right.

    Unbiased over all C(n, k) draws, as pass@k is: with l scores below and t equal to it, a right attempt
    is chosen with the chance (C(l+t, k) - C(l, k)) / t / C(n, k), ties being broken by lot. A perfect
    score gives pass@k, a constant one pass@1. Raises `InputError` unless 1 <= k <= n, on different
    lengths and on scores that are NaN.
    """
    n = len(scores)
    _check(n, 0, k)
    if len(correct) != n or any(math.isnan(score) for score in scores):
        raise InputError("not one score an attempt", expected=f"{len(correct)} numbers", found=list(scores))
    chance = 0.0
    for score, is_right in zip(scores, correct, strict=True):
        if is_right:
            below, tied = sum(other < score for other in scores), scores.count(score)
            chance += (math.comb(below + tied, k) - math.comb(below, k)) / tied
    return chance / math.comb(n, k)


def majority(answers: Sequence[Hashable], correct: Sequence[bool]) -> float:
    """The chance that the most frequent answer is right (Wang et al. 2022), ties broken by lot.

    `answers` says which attempts gave the same one (say, by the tests they pass); attempts with one
    answer may still be graded apart, so a right answer counts by the share of its attempts. Raises
    `InputError` on nothing or on different lengths.
    """
    if not answers or len(answers) != len(correct):
        raise InputError("not one grade an answer", expected=f"{len(answers)} > 0 grades", found=len(correct))
    votes = Counter(answers)
    most = max(votes.values())
    right = sum(ok for answer, ok in zip(answers, correct, strict=True) if votes[answer] == most)
    return right / (most * sum(count == most for count in votes.values()))


@dataclass(frozen=True, slots=True, kw_only=True)
class Passes:
    """pass@k and pass^k over tasks. Tasks with fewer than k graded attempts are `left_out`."""

    k: int
    any_right: Interval
    all_right: Interval
    left_out: int


def passes_over_tasks(
    counts: Sequence[tuple[int, int]], clusters: Sequence[str], k: int, *, level: float = 0.95
) -> Passes:
    """Both means over tasks, each from its own (n attempts, c correct), with intervals by cluster.

    Every task weighs the same, however many attempts it had. Raises `InputError` where no task has k
    attempts.
    """
    if len(counts) != len(clusters):
        raise InputError("not one cluster a task", expected=f"{len(counts)} clusters", found=len(clusters))
    kept = [(n, c, cluster) for (n, c), cluster in zip(counts, clusters, strict=True) if n >= k]
    if not kept:
        most = max((n for n, _ in counts), default=0)
        raise InputError("too few attempts", expected=f"a task with at least {k}", found=f"at most {most}")
    names = [cluster for _, _, cluster in kept]
    return Passes(
        k=k,
        any_right=cluster_interval([pass_at_k(n, c, k) for n, c, _ in kept], names, level=level),
        all_right=cluster_interval([pass_hat_k(n, c, k) for n, c, _ in kept], names, level=level),
        left_out=len(counts) - len(kept),
    )


def _check(n: int, correct: int, k: int) -> None:
    if not (0 <= correct <= n and 1 <= k <= n):
        raise InputError(
            "impossible counts",
            expected="0 <= correct <= n, 1 <= k <= n",
            found=f"n={n} correct={correct} k={k}",
        )
