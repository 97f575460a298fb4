"""Which task comes next: stages of suites, a rolling solve rate of every unit in them, promotion.

    stages = ["procedural", "starter"]

    draw 0 1 2 ...        the units of the stage in turn
    all 0, or all 1       a unit whose last groups taught nothing is skipped, and looked at again now and then
    promote_at reached    the next stage begins; every tenth draw stays with the stages before

A unit is what solve rates are kept for: the family of a procedural task, otherwise the task. A draw is a
function of the run's seed, its number and what was recorded before, so a run that resumes with the same
records draws the same tasks.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from gym_code.data import tasks_directory
from gym_code.errors import ConfigError
from gym_code.stats import mean
from gym_code.suite import DirectorySuite
from gym_code.synth.procedural import ProceduralSuite
from gym_code.task import Suite, load_suite
from gym_code.types import JSON, Task, canonical_digest
from train.config import Config

DEMONSTRATED_STEP = 50_000
"""Procedural tasks are demonstrated as if drawn at this step, which no run reaches."""
ENDLESS = "procedural"
"""The stage that never shows a task twice; with options (`procedural:count=100`) it is a list like others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """A task to play a group of samples on. `stage` counts from 0."""

    number: int
    suite: Suite
    task_id: str
    unit: str
    stage: int = 0


class Curriculum:
    """Draws tasks and learns from the groups that come back: one thread at a time; another may look on."""

    def __init__(self, config: Config, suites: Sequence[Suite | Sequence[Suite]] | None = None) -> None:
        """`suites`: one or several a stage; None: `load_suite` of `config.stages`.

        Raises `ConfigError` for a stage without a task to train on, `TaskError` where there is no such suite.
        """
        self._config = config
        self._stages: list[_Stage] = [
            _stage(config, name, load_suite(name) if suites is None else suites[number])
            for number, name in enumerate(config.stages)
        ]
        self._stage = 0
        self._seen = 0
        self._rates: list[dict[str, list[float]]] = [{} for _ in self._stages]

    def draw(self, number: int) -> Draw:
        """The draw of this number (0, 1, ...), as things stand."""
        stage, turn = self._stage, number
        earlier = int(number * self._config.earlier_share)
        if self._stage:
            turn = number - earlier
            if int((number + 1) * self._config.earlier_share) > earlier:
                stage, turn = earlier % self._stage, earlier // self._stage
        return self._drawn(number, stage, self._unit(stage, turn), turn)

    def demonstrated(self, count: int) -> list[Draw]:
        """At most so many tasks to show solutions of: all stages and their units in turn, no task twice.

        No procedural one of them is ever drawn.
        """
        made: dict[str, Draw] = {}
        for place in range(count):
            turn, stage = divmod(place, len(self._stages))
            units = self._stages[stage].units
            number = DEMONSTRATED_STEP * self._config.groups + place
            draw = self._drawn(number, stage, units[turn % len(units)], turn)
            made.setdefault(draw.task_id, draw)
        return list(made.values())

    def record(self, draw: Draw, rewards: Sequence[float | None]) -> None:
        """A group came back; the next stage begins when the present one is solved often enough.

        rewards: 1 where solved; None (ungraded) counts for nothing.
        """
        graded = [reward for reward in rewards if reward is not None]
        if not graded:
            return
        rates = self._rates[draw.stage]
        rates[draw.unit] = [*rates.get(draw.unit, ()), mean(graded)][-self._config.rate_window :]
        if draw.stage != self._stage:
            return
        self._seen += 1
        solved = (self.solve_rate or 0.0) >= self._config.promote_at
        enough = solved and self._seen >= self._config.promote_after
        over = 0 < self._config.stage_groups <= self._seen
        if (enough or over) and self._stage + 1 < len(self._stages):
            self._stage, self._seen = self._stage + 1, 0

    def state(self) -> dict[str, JSON]:
        """What a checkpoint has to hold."""
        rates = [{unit: list(values) for unit, values in of.items()} for of in self._rates]
        return {"stage": self._stage, "seen": self._seen, "rates": rates, "units": self._units_digest()}

    def restore(self, state: Mapping[str, JSON]) -> None:
        """Go on from a `state`. Raises `ConfigError` where the stages hold other tasks than they did."""
        if state["units"] != self._units_digest():
            raise ConfigError(
                "the checkpoint was made with other tasks",
                where=" ".join(self._config.stages),
                expected=state["units"],
                found=self._units_digest(),
            )
        self._stage, self._seen = state["stage"], state["seen"]
        self._rates = [{unit: list(values) for unit, values in of.items()} for of in state["rates"]]

    def metrics(self) -> dict[str, float]:
        """The stage (from 0), the mean solve rate of its units, and how many of them are skipped."""
        return {
            "stage": float(self._stage),
            "stage_solve_rate": self.solve_rate or 0.0,
            "skipped": float(len(self._skipped(self._stage))),
        }

    def _drawn(self, number: int, stage: int, unit: str, turn: int) -> Draw:
        suite, task_id = self._stages[stage].task(unit, number, turn)
        return Draw(number=number, suite=suite, task_id=task_id, unit=unit, stage=stage)

    @property
    def solve_rate(self) -> float | None:
        """Mean over the units played in this stage, so that skipped ones count too; None without any."""
        rates = list(self._rates[self._stage].values())  # whole, although a thread may record meanwhile
        return mean(list(map(mean, rates))) if rates else None

    def _unit(self, stage: int, turn: int) -> str:
        """Units in turn; skipped ones too, at every `retry_every`-th turn."""
        units, skipped = self._stages[stage].units, self._skipped(stage)
        if skipped and len(skipped) < len(units):
            again, now = divmod(turn, self._config.retry_every)
            if now == self._config.retry_every - 1:
                return skipped[again % len(skipped)]
            units, turn = [unit for unit in units if unit not in skipped], turn - again
        return units[turn % len(units)]

    def _skipped(self, stage: int) -> list[str]:
        if not self._config.skip_flat:
            return []
        rates = self._rates[stage]
        return [unit for unit in self._stages[stage].units if self._flat(rates.get(unit, ()))]

    def _flat(self, rates: Sequence[float]) -> bool:
        full = len(rates) == self._config.rate_window
        return full and (all(rate <= 0 for rate in rates) or all(rate >= 1 for rate in rates))

    def _units_digest(self) -> str:
        return canonical_digest([list(stage.units) for stage in self._stages])


class _Stage(Protocol):
    units: Sequence[str]

    def task(self, unit: str, number: int, turn: int) -> tuple[Suite, str]:
        """A task of a unit for the draw of this number, the stage's own draw number `turn`."""


def _stage(config: Config, name: str, given: Suite | Sequence[Suite]) -> _Stage:
    suites = [given] if isinstance(given, Suite) else list(given)
    if name == ENDLESS and all(isinstance(suite, ProceduralSuite) for suite in suites):
        return _Endless(config)
    return _Listed(config, name, suites)


class _Endless:
    """Fresh procedural tasks of the split `train`; `config.groups` draws in turn share a level."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._suite = ProceduralSuite()
        self.units: Sequence[str] = config.trained_families

    def task(self, unit: str, number: int, turn: int) -> tuple[Suite, str]:
        step, place = divmod(number, self._config.groups)
        suite = ProceduralSuite(
            seed=1 + self._config.seed * 100_000 + step,
            count=place + 1,
            split="train",
            levels=(self._config.levels[step % len(self._config.levels)],),
            families=(unit,),
        )
        return self._suite, suite.ids()[place]


class _Listed:
    """The tasks of suites that may be trained on, their units in an order of the seed."""

    def __init__(self, config: Config, name: str, suites: Sequence[Suite]) -> None:
        self._tasks: dict[str, list[tuple[Suite, str]]] = {}
        for suite in suites:
            for task_id in suite.ids():
                task = suite.task(task_id)
                if trainable(task, config):
                    unit = task.family if task.provenance.get("source") == ENDLESS else task_id
                    self._tasks.setdefault(unit, []).append((suite, task_id))
        if not self._tasks:
            raise ConfigError(
                "no task to train on", where=f"stages: {name}", expected="tasks of grade train", found="none"
            )
        self.units: Sequence[str] = sorted(self._tasks)
        random.Random(f"{config.seed}/{name}").shuffle(self.units)

    def task(self, unit: str, number: int, turn: int) -> tuple[Suite, str]:
        tasks = self._tasks[unit]
        return tasks[turn // len(self.units) % len(tasks)]


def is_for_evaluation(task: Task) -> bool:
    """Whether a task is of grade or split `eval`."""
    return "eval" in (task.provenance.get("grade"), task.provenance.get("split"))


def trainable(task: Task, config: Config) -> bool:
    """Whether a task may be trained on: not for evaluation, and of no family that is left out."""
    return not is_for_evaluation(task) and task.family not in config.held_out_families


def reference(suite: Suite) -> str:
    """What `load_suite` finds a suite by: its name if it came with gym-code, otherwise its directory."""
    if (
        isinstance(suite, DirectorySuite)
        and suite.path.resolve() != (tasks_directory() / suite.name).resolve()
    ):
        return str(suite.path.resolve())
    return suite.name
