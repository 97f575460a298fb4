"""Held-out evaluation: pass@1 at the training temperature and greedy, task by task.

    python -m train.evaluate --model tiny [--adapter runs/NAME/checkpoints/step-00040]

plays the held-out tasks through the real sandbox and grader.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import Progress

from gym_code.errors import ConfigError
from gym_code.stats import mean, mean_interval
from gym_code.synth.procedural import ProceduralSuite, family_of
from gym_code.task import Suite
from gym_code.types import Trajectory, canonical_digest
from train.config import Config, load_config
from train.curriculum import is_for_evaluation
from train.engine.base import Sampling
from train.rollout import Order

EVAL_SEED = 77
"""Held-out tasks are the same in every run, and of the split `eval`: never a feature trained on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskScore:
    """What came of one held-out task. `samples` and `greedy` hold rewards; ungraded episodes are left out."""

    task_id: str
    family: str
    trained: bool
    samples: tuple[float, ...]
    greedy: float | None
    ungraded: int

    @property
    def pass1(self) -> float:
        """The mean reward of the samples (fraction of 1); 0 where none was graded."""
        return mean(self.samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOut:
    """A task to evaluate on, and whether others of its family are trained on."""

    suite: Suite
    task_id: str
    family: str
    trained: bool


def held_out_tasks(config: Config) -> list[tuple[str, bool]]:
    """Ids of the held-out procedural tasks, each with whether its family is trained on."""
    tasks: list[tuple[str, bool]] = []
    for families, count, is_trained in (
        (config.trained_families, config.eval_tasks, True),
        (config.held_out_families, config.eval_held_out_tasks, False),
    ):
        if families and count:
            suite = ProceduralSuite(
                seed=EVAL_SEED, count=count, split="eval", levels=config.levels, families=families
            )
            tasks += [(task_id, is_trained) for task_id in suite.ids()]
    return tasks


def procedural_tasks(config: Config) -> list[HeldOut]:
    """The held-out procedural tasks."""
    suite = ProceduralSuite()
    return [
        HeldOut(suite=suite, task_id=task_id, family=family_of(task_id), trained=trained)
        for task_id, trained in held_out_tasks(config)
    ]


def tasks_on_the_way(config: Config) -> list[HeldOut]:
    """The first `eval_every_tasks` of them, of trained families."""
    return procedural_tasks(replace(config, eval_tasks=config.eval_every_tasks, eval_held_out_tasks=0))


def suite_tasks(suites: Sequence[Suite]) -> list[HeldOut]:
    """The tasks of grade `eval` of other suites, each a family. Raises `ConfigError` for one without any."""
    tasks: list[HeldOut] = []
    for suite in suites:
        ids = [task_id for task_id in suite.ids() if is_for_evaluation(suite.task(task_id))]
        if not ids:
            raise ConfigError(
                "no task to evaluate on",
                where=f"eval_suites: {suite.name}",
                expected="tasks of grade eval",
                found="none",
            )
        tasks += [HeldOut(suite=suite, task_id=i, family=suite.name, trained=False) for i in ids]
    return tasks


def evaluate(
    config: Config,
    play: Callable[[Sequence[Order]], Sequence[Trajectory]],
    on_batch: Callable[[int, int], None] | None = None,
    tasks: Sequence[HeldOut] | None = None,
) -> list[TaskScore]:
    """Play every task `eval_samples` times at temperature and once greedily, a batch at a time.

    tasks: default `procedural_tasks`.
    """
    tasks = procedural_tasks(config) if tasks is None else tasks
    kinds = [*range(config.eval_samples), -1]
    orders = [
        Order(
            suite=task.suite,
            task_id=task.task_id,
            group_id=task.task_id,
            sample_id=f"{task.task_id}/{kind}",
            # The same draws before and after training: what differs is the policy.
            seed=int(canonical_digest([EVAL_SEED, task.task_id, kind])[:15], 16),
            sampling=Sampling(
                temperature=config.temperature if kind >= 0 else 0.0, max_tokens=config.max_tokens
            ),
        )
        for kind in kinds
        for task in tasks
    ]
    played: dict[str, Trajectory] = {}
    sampled = len(tasks) * config.eval_samples
    for low, high in ((0, sampled), (sampled, len(orders))):
        for start in range(low, high, config.seats):
            batch = orders[start : min(start + config.seats, high)]
            for order, trajectory in zip(batch, play(batch), strict=True):
                played[order.sample_id] = trajectory
            if on_batch is not None:
                on_batch(len(played), len(orders))
    return [_score(task, kinds, played) for task in tasks]


def _score(task: HeldOut, kinds: Sequence[int], played: dict[str, Trajectory]) -> TaskScore:
    rewards = {}
    for kind in kinds:
        reward = played[f"{task.task_id}/{kind}"].reward
        rewards[kind] = None if reward is None else reward.value
    samples = tuple(value for kind, value in rewards.items() if kind >= 0 and value is not None)
    return TaskScore(
        task_id=task.task_id,
        family=task.family,
        trained=task.trained,
        samples=samples,
        greedy=rewards[-1],
        ungraded=sum(value is None for value in rewards.values()),
    )


def pass1_of(scores: Sequence[TaskScore]) -> float:
    """Mean pass@1 over the tasks that were graded, of trained families."""
    return mean([score.pass1 for score in scores if score.trained and score.samples])


def dump(scores: Sequence[TaskScore]) -> bytes:
    """Scores as JSON."""
    return json.dumps([asdict(score) for score in scores], indent=0).encode()


def load(path: Path) -> list[TaskScore]:
    """Scores written by `dump`."""
    return [TaskScore(**{**row, "samples": tuple(row["samples"])}) for row in json.loads(path.read_bytes())]


def main() -> None:
    """Evaluate a model on the held-out tasks and print a table by family."""
    from train.grpo import Learner

    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", default="tiny", help="a config name or a model directory")
    parser.add_argument("--config", default="tiny")
    parser.add_argument("--adapter", type=Path, default=None, help="a checkpoint directory")
    parser.add_argument("--sandbox", default=None)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    # No training task is drawn, so no stage has to be made.
    overrides: dict[str, Any] = {"model": options.model, "stages": ["procedural"]}
    overrides |= {"sandbox": options.sandbox} if options.sandbox else {}
    config = load_config(options.config, overrides)
    with Learner(config, threads=options.threads) as learner, Progress(disable=options.json) as progress:
        if options.adapter is not None:
            learner.load_adapter(options.adapter)
        bar = progress.add_task("evaluating", total=None)
        scores = evaluate(
            config,
            learner.rollouts.play,
            lambda done, total: progress.update(bar, completed=done, total=total),
        )
    if options.json:
        print(json.dumps([asdict(score) for score in scores]))
        return
    print_table(scores)


def print_table(scores: Sequence[TaskScore]) -> None:
    """The scores by family; what could not be graded counts for nothing."""
    console = Console()
    for family in dict.fromkeys(score.family for score in scores):
        rates, greedy = _graded([s for s in scores if s.family == family])
        console.print(f"{family:14} pass@1 {mean(rates):.2f}  greedy {mean(greedy):.2f}")
    for label, wanted in (("trained families", True), ("left out", False)):
        rates, greedy = _graded([s for s in scores if s.trained is wanted])
        if rates:
            low, high = mean_interval(rates)
            console.print(
                f"{label}: pass@1 {mean(rates):.3f} [{low:.3f}, {high:.3f}], greedy {mean(greedy):.3f}"
            )
    if ungraded := sum(score.ungraded for score in scores):
        console.print(f"ungraded episodes: {ungraded}")


def _graded(scores: Sequence[TaskScore]) -> tuple[list[float], list[float]]:
    """pass@1 and greedy rewards of the tasks that have them."""
    rates = [score.pass1 for score in scores if score.samples]
    return rates, [score.greedy for score in scores if score.greedy is not None]


if __name__ == "__main__":
    main()
