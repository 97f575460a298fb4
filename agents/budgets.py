"""What an episode and a whole run may use: turns, tokens, cost and seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from gym_code.errors import ConfigError
from gym_code.records import MAX_COUNT, MAX_SECONDS

if TYPE_CHECKING:
    from gym_code.types import Limits, Trajectory

Budget = Mapping[str, float]
"""Amounts by name, a key of `KINDS`. What is not named has no bound of ours."""

KINDS: Mapping[str, str] = {
    "turns": "turns",
    "tokens": "tokens",
    "cost": "cost",
    "seconds": "episode_seconds",
}
"""The field of `Limits` that bounds each."""
_COUNTED = ("turns", "tokens")


def parse_budget(texts: Sequence[str], where: str) -> dict[str, float]:
    """`NAME=AMOUNT` options as amounts; `where` is the option's name. Raises `ConfigError`.

    >>> parse_budget(["turns=40", "cost=2.5"], "--agent-limit")
    {'turns': 40, 'cost': 2.5}
    """
    budget: dict[str, float] = {}
    for text in texts:
        name, equals, amount = text.partition("=")
        if not equals or name not in KINDS:
            expected = f"NAME=AMOUNT, NAME one of {', '.join(KINDS)}"
            raise ConfigError("not a budget", where=where, expected=expected, found=text)
        budget[name] = _amount(name, amount, f"{where} {name}")
    return budget


def parse_limits(texts: Sequence[str]) -> dict[str, float]:
    """What an episode may use, from `--agent-limit` options. Raises `ConfigError`."""
    return parse_budget(texts, "--agent-limit")


def parse_totals(texts: Sequence[str]) -> dict[str, float]:
    """What a whole run may use, from `--total` options. Raises `ConfigError`."""
    return parse_budget(texts, "--total")


def limited(limits: Limits, budget: Budget) -> Limits:
    """A task's limits with those of the budget in their place."""
    changes: dict[str, Any] = {KINDS[name]: amount for name, amount in budget.items()}
    return replace(limits, **changes)


def used(trajectory: Trajectory) -> dict[str, float]:
    """What an episode used, by the names of `KINDS`; seconds of policy and tools."""
    return {
        "turns": len(trajectory.turns),
        "tokens": sum(turn.tokens for turn in trajectory.turns),
        "cost": sum((turn.cost for turn in trajectory.turns), 0.0),
        "seconds": round(sum(trajectory.timings.values()), 3),
    }


def _amount(name: str, text: str, where: str) -> float:
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    counted = name in _COUNTED
    if not 0 < amount <= (MAX_COUNT if counted else MAX_SECONDS) or (counted and amount != int(amount)):
        expected = "a whole number above 0" if counted else f"a number above 0, at most {MAX_SECONDS:g}"
        raise ConfigError("wrong amount", where=where, expected=expected, found=text)
    return int(amount) if counted else amount
