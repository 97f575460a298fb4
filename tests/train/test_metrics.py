import json
import math
import os
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gym_code.errors import ConfigError
from gym_code.types import Completion, Reward, Segment, Stop, Trajectory, Turn
from train.config import load_config
from train.evaluate import TaskScore, held_out_tasks
from train.grpo import run_directory
from train.report.metrics import MetricsLog, family_label, flat, step_metrics
from train.report.sinks import WANDB_ID, TensorBoard, WeightsAndBiases, open_sinks

ROOT = Path(__file__).parents[2]


def episode(
    task_id: str,
    group: str,
    value: float | None,
    *,
    tokens: int = 3,
    versions: tuple[int, ...] = (7,),
    stop: Stop = Stop.SUBMITTED,
    parts: Mapping[str, float] | None = None,
) -> Trajectory:
    """An episode of a turn a version, each of so many sampled tokens."""
    completions = [
        Completion(
            token_ids=(1,) * tokens, logprobs=(0.0,) * tokens, text="", finish_reason="stop", policy_version=v
        )
        for v in versions
    ]
    return Trajectory(
        task_id=task_id,
        task_digest="",
        suite="mine",
        group_id=group,
        turns=tuple(Turn(completion=completion) for completion in completions),
        stop=stop,
        reward=Reward(value=value, parts=parts or {}),
    )


def segment(tokens: int) -> Segment:
    return Segment(
        task_id="", group_id="", token_ids_T=(1,) * tokens, action_mask_T=(1,) * tokens,
        logprobs_T=(0.0,) * tokens, advantages_T=(1.0,) * tokens,
    )  # fmt: skip


GAP, PAGES = "procedural__gap-l1-f1-train-1", "procedural__pages-l2-f1-train-2"


def test_the_row_of_a_step_by_hand() -> None:
    learned = [
        episode(GAP, "0", 1.0, versions=(7, 6)),
        episode(GAP, "0", 0.0),
        episode(PAGES, "1", 1.0, versions=(5,), stop=Stop.TURNS),
        episode(PAGES, "1", None, stop=Stop.FAULT),
        episode(PAGES, "1", 0.0),
        episode(PAGES, "1", 0.0),
    ]
    refilled = [episode(GAP, "2", 1.0), episode(GAP, "2", 1.0)]
    row = step_metrics(
        8,
        learned,
        [1.0, -1.0, 1.0, 0.0, -0.5, -0.5],
        {"entropy": 0.5, "ratio_p99": 1.1},
        {"rollout": 0.001, "generate": 4.0, "grade": 1.0, "train": 2.0, "sync": 0.25},
        refilled=refilled,
        segments=[segment(20), segment(12)],
    )
    # Sampled: 9 turns of 3 tokens.
    assert row == {
        "step": 8,
        "reward": 4 / 7,
        "reward_by_family": {"gap": 3 / 4, "pages": 1 / 3},
        "solve_rate": 4 / 7,
        # Rewards 1 0, 1 0 0, 1 1: variances 1/4, 2/9, 0.
        "group_variance": pytest.approx((1 / 4 + 2 / 9) / 3),
        "zero_variance": 1 / 3,
        "rollouts": 8,
        "groups": 2,
        "refilled": 1,
        "invalid": 1,
        "truncated": 2 / 8,
        "turns": 9 / 8,
        "sampled_tokens": 27,
        "trained_tokens": 32,
        "with_gradient": 5 / 6,
        # The oldest token of group 0 is of version 6, that of group 1 of version 5; the trainer is at 8.
        "staleness_mean": 2.5,
        "staleness_max": 3,
        "delivered_version": 9,
        "entropy": 0.5,
        "ratio_p99": 1.1,
        "seconds": {
            "rollout": 0.001,
            "generate": 4.0,
            "grade": 1.0,
            "train": 2.0,
            "sync": 0.25,
            # Nobody waited for them: they were played while the last step's were learned from.
            "tokens_per_second_rollout": 6.8,
            "tokens_per_second_train": 16.0,
        },
    }


def test_the_reward_is_the_weighted_one_the_solve_rate_is_not() -> None:
    half = [episode(GAP, "0", 0.0, parts={"shaped": 0.5}), episode(GAP, "0", 1.0, parts={"shaped": 1.0})]
    row = step_metrics(0, half, [0.0, 0.0], {}, {}, weights={"resolved": 1.0, "shaped": 1.0})
    assert (row["reward"], row["solve_rate"], row["group_variance"]) == (1.25, 0.5, 0.5625)


def test_a_step_in_which_nothing_could_be_graded_has_a_row() -> None:
    row = step_metrics(3, [episode(GAP, "0", None, versions=())] * 2, [0.0, 0.0], {}, {"train": 0.0})
    assert (row["reward"], row["invalid"], row["reward_by_family"], row["zero_variance"]) == (0.0, 2, {}, 1.0)
    assert (row["staleness_max"], row["seconds"]) == (0, {"train": 0.0})


def test_what_the_engine_says_it_delivered_stands() -> None:
    row = step_metrics(3, [episode(GAP, "0", 1.0)], [0.0], {"delivered_version": 6}, {}, version=9)
    assert (row["delivered_version"], row["staleness_max"]) == (6, 2)


def test_rewards_are_told_apart_in_any_suite() -> None:
    labels = [
        family_label(episode(task_id, "0", 1.0)) for task_id in (GAP, "django__django-1234", "odd-7", "odd")
    ]
    assert labels == ["gap", "django", "mine", "mine"]


class Kept:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.told: list[tuple[int, dict[str, float]]] = []
        self.failed: bool | None = None

    def write(self, steps: int, figures: Mapping[str, float]) -> None:
        self.told.append((steps, dict(figures)))

    def close(self, *, failed: bool) -> None:
        self.failed = failed


def score(samples: tuple[float, ...], greedy: float | None, trained: bool = True) -> TaskScore:
    return TaskScore(task_id="x", family="gap", trained=trained, samples=samples, greedy=greedy, ungraded=0)


def test_sinks_get_flat_figures_by_steps_done_and_hear_of_a_failure(tmp_path: Path) -> None:
    sink = Kept()
    log = MetricsLog(tmp_path / "metrics.jsonl", [sink])
    with log:
        held_out = [score((1.0, 0.0), 1.0), score((), None), score((0.0,), None, trained=False)]
        log.evaluated(0, {"heldout": held_out, "suites": [score((0.5,), None, trained=False)]})
        log.write({"step": 0, "reward": 0.5, "reward_by_family": {"gap": 0.25}, "ratio_max": math.inf})
    assert sink.failed is False
    with pytest.raises(KeyError), log:
        raise KeyError
    assert sink.failed is True
    assert sink.told == [
        (0, {"heldout/pass1": 0.5, "heldout/greedy": 1.0, "heldout_left_out/pass1": 0.0}),
        (0, {"suites/pass1": 0.5}),
        (1, {"step": 0, "reward": 0.5, "reward_by_family/gap": 0.25}),
    ]


def test_the_file_is_json_whatever_the_figures(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.write({"step": 0, "ratio_max": math.inf, "seconds": {"train": math.nan}})

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    row = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert row == {"step": 0, "ratio_max": None, "seconds": {"train": None}}
    assert flat(row) == {"step": 0}


def test_law_11_a_resumed_log_holds_each_step_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(4):
        log.write({"step": step, "reward": step / 10})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    log.cut(2)
    log.write({"step": 2, "reward": 0.9})
    assert [(row["step"], row["reward"]) for row in log.read()] == [(0, 0.0), (1, 0.1), (2, 0.9)]


def scalars(directory: Path, name: str) -> list[tuple[int, float]]:
    """What TensorBoard itself would draw."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(directory))
    events.Reload()
    return [(event.step, round(event.value, 3)) for event in events.Scalars(name)]


def test_law_11_tensorboard_shows_each_step_of_a_resumed_run_once(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    killed = TensorBoard(tmp_path, 0)
    killed.write(0, {"heldout/pass1": 0.25})
    for steps in (1, 2, 3, 4):
        killed.write(steps, {"reward": steps / 10, "seconds/train": 1.0})
    resumed = TensorBoard(tmp_path, 2)  # the checkpoint was made after two steps; nobody closed the first
    resumed.write(3, {"reward": 0.7})
    resumed.close(failed=False)
    assert scalars(tmp_path, "reward") == [(1, 0.1), (2, 0.2), (3, 0.7)]
    assert scalars(tmp_path, "heldout/pass1") == [(0, 0.25)]
    killed.close(failed=True)


def test_tensorboard_is_written_where_it_is_installed_and_nothing_else_unasked(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    with MetricsLog(tmp_path / "metrics.jsonl", open_sinks(tmp_path, {}, done=0, wandb=None)) as log:
        log.write({"step": 0, "reward": 0.5})
    assert scalars(tmp_path / "tensorboard", "reward") == [(1, 0.5)]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "tensorboard"]


REPORT = """
import json, sys
from pathlib import Path
from gym_code.errors import ConfigError
from train.report.metrics import MetricsLog
from train.report.sinks import open_sinks

run, done, row = Path(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[3])
try:
    sinks = open_sinks(run, {"seed": 4}, done=done, wandb="gym")
except ConfigError as error:
    sys.exit(str(error))
with MetricsLog(run / "metrics.jsonl", sinks) as log:
    log.write(row)
"""


def report_to_wandb(run: Path, done: int, row: dict[str, Any], **environment: str) -> str:
    """One life of a run, in a process of its own: the package remembers how it began. What went wrong."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB_")}
    made = subprocess.run(
        [sys.executable, "-c", REPORT, str(run), str(done), json.dumps(row)],
        env={
            **kept,
            "PYTHONPATH": str(ROOT),
            "HOME": str(run),
            "WANDB_ERROR_REPORTING": "false",
            **environment,
        },
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=120,
        check=False,
    )
    return made.stderr if made.returncode else ""


def wandb_records(file: Path) -> Iterator[Any]:
    """What Weights & Biases stored for its server: LevelDB's log format, a protocol buffer a record."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, at, held = file.read_bytes(), 7, b""
    while at < len(data):
        if (left := 32768 - at % 32768) < 7:
            at += left
            continue
        _, size, kind = struct.unpack_from("<IHB", data, at)
        held += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # whole, or the last part
            yield Record.FromString(held)
            held = b""


@pytest.mark.slow
def test_weights_and_biases_offline_keeps_the_id_of_a_resumed_run(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    run = tmp_path / "tiny-seed4"
    run.mkdir()
    first = {"step": 0, "reward": 0.25, "seconds": {"train": 2.0}}
    assert report_to_wandb(run, 0, first, WANDB_MODE="offline") == ""
    name = (run / WANDB_ID).read_text()
    assert report_to_wandb(run, 1, {"step": 1, "reward": 0.5}, WANDB_MODE="offline") == ""
    assert (run / WANDB_ID).read_text() == name
    told, runs = {}, []
    for file in run.glob("wandb/offline-run-*/run-*.wandb"):
        for record in wandb_records(file):
            if record.WhichOneof("record_type") == "run":
                runs.append((record.run.project, record.run.display_name, record.run.run_id))
            if record.WhichOneof("record_type") == "history":
                items = {
                    "/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in record.history.item
                }
                told[record.history.step.num] = {k: v for k, v in items.items() if not k.startswith("_")}
    assert runs == [("gym", "tiny-seed4", name)] * 2
    assert told == {1: {"step": 0, "reward": 0.25, "seconds/train": 2.0}, 2: {"step": 1, "reward": 0.5}}


@pytest.mark.slow
def test_weights_and_biases_without_a_login_says_what_to_do(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    said = report_to_wandb(tmp_path, 0, {"step": 0}, NETRC=str(tmp_path / "none"))
    assert "not logged in to Weights & Biases" in said
    assert "`wandb login`, WANDB_API_KEY, or WANDB_MODE=offline" in said
    assert list(tmp_path.glob("wandb*")) == []


def test_weights_and_biases_that_is_not_installed_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [])  # nothing can be found
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    with pytest.raises(ConfigError, match=r"pip install -e '\.\[wandb\]'"):
        WeightsAndBiases("gym", tmp_path, {})


def test_held_out_tasks_are_many_and_of_the_eval_split() -> None:
    tasks = held_out_tasks(load_config("tiny", {}))
    assert sum(trained for _, trained in tasks) >= 200
    assert any(not trained for _, trained in tasks)
    assert all("-eval-" in task_id for task_id, _ in tasks)


def test_a_run_never_overwrites_another(tmp_path: Path) -> None:
    config = load_config("tiny", {})
    assert run_directory(tmp_path, None, config, "tiny", resume=False).name == "tiny-seed0"
    assert run_directory(tmp_path, None, config, "tiny", resume=False).name == "tiny-seed0-2"
    assert run_directory(tmp_path, None, config, "tiny", resume=True).name == "tiny-seed0-2"
    with pytest.raises(ConfigError, match="this run exists"):
        run_directory(tmp_path, "tiny-seed0", config, "tiny", resume=False)
    with pytest.raises(ConfigError, match="no run to resume"):
        run_directory(tmp_path, "other", config, "tiny", resume=True)
