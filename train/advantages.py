"""Group-relative advantages.

A group is G samples of one task. Rewards of None (a fault of ours) leave the group: they neither count as 0
nor get a gradient (law 3).
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence

from gym_code.errors import ConfigError
from gym_code.types import Reward


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


def standardized(rewards: Sequence[float | None]) -> list[float]:
    """Each reward minus the mean of the valid ones, over their standard deviation (GRPO, section 4.1.2).

    The deviation is the sample's (n - 1), as the common trainers compute it. Fewer than two valid rewards, or
    no variance, give zeros; so nothing has to be added to the divisor.

    >>> standardized([1.0, 0.0, None, 0.0, 1.0])
    [0.8660254037844387, -0.8660254037844387, 0.0, -0.8660254037844387, 0.8660254037844387]
    """
    valid = [value for value in rewards if value is not None]
    if len(valid) < 2 or len(set(valid)) == 1:
        return [0.0] * len(rewards)
    center, spread = statistics.fmean(valid), statistics.stdev(valid)
    return [0.0 if value is None else (value - center) / spread for value in rewards]


def weighted_reward(reward: Reward | None, weights: Mapping[str, float]) -> float | None:
    """The weighted sum of a reward's named parts, None if ungraded; without weights `reward.value`.

    `resolved` names that value. Raises `ConfigError` for a part that the grader did not give: a misspelt
    name must not count as 0.
    """
    if reward is None or reward.value is None:
        return None
    if not weights:
        return reward.value
    parts = {**reward.parts, "resolved": reward.value}
    for name in weights:
        if name not in parts:
            raise ConfigError(
                "the reward has no such part",
                where=f"reward_weights: {name}",
                expected=" ".join(sorted(parts)),
                found=name,
            )
    return sum(weight * parts[name] for name, weight in weights.items())


def shuffled(advantages: Sequence[float], rng: random.Random) -> list[float]:
    """The same advantages dealt out at random: the control that must learn nothing."""
    dealt = list(advantages)
    rng.shuffle(dealt)
    return dealt
