"""What is evaluated on, and which adapter is the best."""

import json
from pathlib import Path

import pytest

from gym_code.errors import ConfigError
from gym_code.synth.procedural import ProceduralSuite
from gym_code.task import load_suite
from tests.train.small_model import small_policy
from train.checkpoint import save_best
from train.config import load_config
from train.evaluate import TaskScore, pass1_of, print_table, procedural_tasks, suite_tasks, tasks_on_the_way


def score(*samples: float, trained: bool = True) -> TaskScore:
    return TaskScore(task_id="t", family="f", trained=trained, samples=samples, greedy=None, ungraded=0)


def test_the_tasks_on_the_way_are_the_first_of_trained_families() -> None:
    config = load_config("tiny", {"eval_every_tasks": 20})
    tasks = tasks_on_the_way(config)
    assert [task.task_id for task in tasks] == [task.task_id for task in procedural_tasks(config)][:20]
    assert all(task.trained for task in tasks)


def test_pass1_is_over_graded_tasks_of_trained_families() -> None:
    assert pass1_of([score(1.0, 0.0), score(1.0, 1.0), score(), score(0.0, trained=False)]) == 0.75


def test_law_3_the_table_counts_no_ungraded_episode_as_0(capsys: pytest.CaptureFixture[str]) -> None:
    graded = TaskScore(task_id="a", family="f", trained=True, samples=(1.0,), greedy=1.0, ungraded=0)
    print_table(
        [graded, TaskScore(task_id="b", family="f", trained=True, samples=(), greedy=None, ungraded=2)]
    )
    said = capsys.readouterr().out.splitlines()
    assert said[0].split() == ["f", "pass@1", "1.00", "greedy", "1.00"]
    assert said[1] == "trained families: pass@1 1.000 [1.000, 1.000], greedy 1.000"
    assert said[2] == "ungraded episodes: 2"


def test_other_suites_give_their_tasks_for_evaluation_alone() -> None:
    held_out = ProceduralSuite(split="eval", count=3, families=["gap"])
    assert [(task.task_id, task.trained) for task in suite_tasks([held_out])] == [
        (task_id, False) for task_id in held_out.ids()
    ]
    with pytest.raises(ConfigError, match="eval_suites: starter: no task to evaluate on"):
        suite_tasks([load_suite("starter")])


def test_the_best_adapter_stays_until_one_scores_more(tmp_path: Path) -> None:
    adapter = "best/adapter_model.safetensors"
    assert save_best(tmp_path, small_policy(0.1), 10, 0.5)
    first = (tmp_path / adapter).read_bytes()
    assert not save_best(tmp_path, small_policy(0.2), 20, 0.5)
    assert (tmp_path / adapter).read_bytes() == first
    assert save_best(tmp_path, small_policy(0.3), 30, 0.6)
    assert (tmp_path / adapter).read_bytes() != first
    assert json.loads((tmp_path / "best/score.json").read_text()) == {"step": 30, "score": 0.6}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "best-00030"]
    # A run that was killed and goes on from step 20 plays step 30 again.
    assert save_best(tmp_path, small_policy(0.3), 30, 0.6)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best", "best-00030"]
