"""What a step comes to: a row of figures, kept as JSON lines and handed on to whoever draws them.

docs/training.md says what every name means. A row holds numbers, and objects of numbers one level deep; what
the clock has a part in stands under `seconds` and nowhere else, so two runs of one seed differ there alone.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from gym_code.stats import mean
from gym_code.synth.procedural import family_of
from gym_code.types import Segment, Stop, Trajectory
from train.advantages import weighted_reward
from train.checkpoint import write_whole
from train.evaluate import TaskScore
from train.report.sinks import Sink

T = TypeVar("T")

Row = Mapping[str, Any]

PARTS = ("rollout", "train", "sync")
"""Keys of `seconds` that are parts of a step, one after the other."""
WORK = ("open", "generate", "tools", "grade")
"""Keys of `seconds` that say what was done in rollouts, much of it side by side."""


class MetricsLog:
    """One JSON object a step, and the same figures to the sinks. Use as a context manager where it has any.

    A torn last line (a crash while writing) is dropped on `cut`.
    """

    def __init__(self, path: Path, sinks: Sequence[Sink] = ()) -> None:
        self._path, self._sinks = path, sinks

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for sink in self._sinks:
            sink.close(failed=error is not None)

    def cut(self, steps: int) -> None:
        """Keep the rows of the first `steps` steps only: what came later will be played again."""
        rows = [row for row in self.read() if row["step"] < steps]
        write_whole(self._path, "".join(json.dumps(row) + "\n" for row in rows).encode())

    def write(self, row: Row) -> None:
        """Append one row. What is no finite number stands as null."""
        row = finite(row)
        with self._path.open("a") as file:
            file.write(json.dumps(row) + "\n")
        for sink in self._sinks:
            sink.write(row["step"] + 1, flat(row))

    def evaluated(self, steps: int, scores: Mapping[str, Sequence[TaskScore]]) -> None:
        """Tell the sinks what evaluations after `steps` steps came to; the scores have files of their own."""
        for sink in self._sinks:
            for name, of in scores.items():
                sink.write(steps, evaluation_figures(name, of))

    def read(self) -> list[dict[str, Any]]:
        """All whole rows."""
        return read_rows(self._path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The whole rows of a metrics file; none where there is no file."""
    if not path.is_file():
        return []
    lines = path.read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def finite(value: Any) -> Any:
    """The value with None for every number in it that is infinite or none: JSON knows neither."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def flat(row: Row) -> dict[str, float]:
    """The finite numbers of a row by one name each: `reward`, `reward_by_family/gap`, `seconds/train`."""
    made: dict[str, float] = {}
    for key, value in finite(row).items():
        inner = value.items() if isinstance(value, Mapping) else ()
        made |= {f"{key}/{name}": number for name, number in inner if number is not None}
        if isinstance(value, (int, float)):
            made[key] = value
    return made


def evaluation_figures(name: str, scores: Sequence[TaskScore]) -> dict[str, float]:
    """Mean pass@1 and greedy pass@1 over graded tasks; families left out of training apart."""
    made: dict[str, float] = {}
    left_out = f"{name}_left_out" if any(score.trained for score in scores) else name
    for kind, trained in ((name, True), (left_out, False)):
        some = [score for score in scores if score.trained is trained]
        rates = [score.pass1 for score in some if score.samples]
        greedy = [score.greedy for score in some if score.greedy is not None]
        made |= {f"{kind}/pass1": mean(rates)} if rates else {}
        made |= {f"{kind}/greedy": mean(greedy)} if greedy else {}
    return made


def step_metrics(
    step: int,
    trajectories: Sequence[Trajectory],
    advantages: Sequence[float],
    update: Mapping[str, float],
    seconds: Mapping[str, float],
    *,
    refilled: Sequence[Trajectory] = (),
    segments: Sequence[Segment] | None = None,
    weights: Mapping[str, float] | None = None,
    version: int | None = None,
) -> dict[str, Any]:
    """The row of one step. Rates are fractions of 1.

    trajectories: what the step learned from, with an advantage each; those of one group share `group_id`.
    refilled: episodes of groups left out because their rewards are all the same. They count as played:
    without them the reward would be that of tasks neither easy nor hard, whatever the policy learned.
    update: what the update, the engine and the curriculum have to say, put into the row as it is.
    segments: what the update saw; without them nothing is said of trained tokens.
    weights: as in `weighted_reward`.
    version: of the policy before the update; the number of the step without one.
    """
    version = step if version is None else version
    played = [*trajectories, *refilled]
    rewards = [weighted_reward(t.reward, weights or {}) for t in played]
    families = _grouped(map(family_label, played), rewards)
    groups = [_valid(group) for group in _grouped((t.group_id for t in played), rewards).values()]
    oldest = _grouped((t.group_id for t in trajectories), (_oldest(t, version) for t in trajectories))
    ages = [version - min(versions) for versions in oldest.values()]
    resolved = [t.reward.value == 1.0 for t in played if t.reward is not None and t.reward.value is not None]
    sampled = sum(map(_sampled_tokens, played))
    trained = None if segments is None else sum(len(segment.token_ids_T) for segment in segments)
    return {
        "step": step,
        "reward": mean(_valid(rewards)),
        "reward_by_family": {name: mean(_valid(of)) for name, of in sorted(families.items()) if _valid(of)},
        "solve_rate": mean(resolved),
        "group_variance": mean([statistics.pvariance(group) for group in groups if len(group) > 1]),
        "zero_variance": mean([len(set(group)) < 2 for group in groups]),
        "rollouts": len(played),
        "groups": len(ages),
        "refilled": len({t.group_id for t in refilled}),
        "invalid": len(played) - len(resolved),
        "truncated": mean([t.stop is not Stop.SUBMITTED for t in played]),
        "turns": mean([len(t.turns) for t in played]),
        "sampled_tokens": sampled,
        **({} if trained is None else {"trained_tokens": trained}),
        "with_gradient": mean([a != 0.0 for a in advantages]),
        "staleness_mean": mean(ages),
        "staleness_max": max(ages, default=0),
        "delivered_version": version + 1,
        **update,
        "seconds": _timed(seconds, sampled, trained),
    }


def family_label(trajectory: Trajectory) -> str:
    """What rewards are told apart by: a procedural task's family, else its repository, else its suite."""
    if trajectory.task_id.startswith("procedural__"):
        return family_of(trajectory.task_id)
    repository, named, _ = trajectory.task_id.partition("__")
    return repository if named else trajectory.suite or "other"


def _grouped(keys: Iterable[str], values: Iterable[T]) -> dict[str, list[T]]:
    groups: dict[str, list[T]] = {}
    for key, value in zip(keys, values, strict=True):
        groups.setdefault(key, []).append(value)
    return groups


def _valid(rewards: Sequence[float | None]) -> list[float]:
    return [reward for reward in rewards if reward is not None]


def _oldest(trajectory: Trajectory, newest: int) -> int:
    """The oldest version that sampled in the episode; `newest` where nothing was sampled."""
    versions = [turn.completion.policy_version for turn in trajectory.turns if turn.completion]
    return min(versions, default=newest)


def _sampled_tokens(trajectory: Trajectory) -> int:
    return sum(len(turn.completion.token_ids) for turn in trajectory.turns if turn.completion)


def _timed(seconds: Mapping[str, float], sampled: int, trained: int | None) -> dict[str, float]:
    """Seconds by part, and the two speeds: both are the clock's, so both stand here.

    Sampling is timed by what it took (`generate`), not by what was waited for it (`rollout`): a batch that
    was played while the trainer learned took no time of the step's.
    """
    made = {part: round(spent, 3) for part, spent in seconds.items()}
    for part, took, tokens in (("rollout", "generate", sampled), ("train", "train", trained)):
        if tokens and seconds.get(took):
            made[f"tokens_per_second_{part}"] = round(tokens / seconds[took], 1)
    return made
