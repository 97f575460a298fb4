"""Which runs the benchmark is made of, and in which order: a benchmark cut short has some of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

DEFAULT, SHUFFLED, TRL = "dr_grpo", "shuffled", "trl-"
OBJECTIVES = ("grpo", "dapo", "gspo", "cispo", "rloo")
"""All but the default, which has more seeds."""
TRL_KINDS = (TRL + DEFAULT, TRL + "dapo")
"""TRL with our default objective and with its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One training run. `kind` is an objective of ours, `shuffled` (the control) or TRL's, as `trl-dapo`."""

    kind: str
    seed: int

    @property
    def name(self) -> str:
        """Names its directory."""
        return f"{self.kind}-seed{self.seed}"


def plan(seeds: int, trl_seeds: int) -> list[Run]:
    """The default and its control with each seed; from the second on with two of the others between them."""
    theirs = [Run(kind=kind, seed=seed) for seed in range(trl_seeds) for kind in TRL_KINDS]
    others = [*theirs[:1], *(Run(kind=kind, seed=0) for kind in OBJECTIVES), *theirs[1:]]
    runs: list[Run] = []
    for seed in range(seeds):
        runs += [Run(kind=DEFAULT, seed=seed), Run(kind=SHUFFLED, seed=seed)]
        if seed:
            runs += others[:2]
            others = others[2:]
    return runs + others


def chosen(runs: Sequence[Run], kinds: Sequence[str]) -> list[Run]:
    """Those of the named kinds; all of them where none is named."""
    return [run for run in runs if not kinds or run.kind in kinds]
