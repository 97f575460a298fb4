"""Group-relative advantages.

A group is G samples of one task. Rewards of None (a fault of ours) leave the group: they neither count as 0
nor get a gradient (law 3).
"""

from __future__ import annotations

import random
from collections.abc import Sequence


def leave_one_out(rewards: Sequence[float | None]) -> list[float]:
    """Each reward minus the mean of the *other* valid ones (RLOO, Ahmadian et al. 2024, eq. 8).

    Not divided by the standard deviation. Fewer than two valid rewards, or no variance, give zeros.

    >>> leave_one_out([1.0, 0.0, None, 0.0, 1.0])
    [0.6666666666666667, -0.6666666666666666, 0.0, -0.6666666666666666, 0.6666666666666667]
    """
    valid = [value for value in rewards if value is not None]
    if len(valid) < 2 or len(set(valid)) == 1:
        return [0.0] * len(rewards)
    total, others = sum(valid), len(valid) - 1
    return [0.0 if value is None else value - (total - value) / others for value in rewards]


def shuffled(advantages: Sequence[float], rng: random.Random) -> list[float]:
    """The same advantages dealt out at random: the control that must learn nothing."""
    dealt = list(advantages)
    rng.shuffle(dealt)
    return dealt
