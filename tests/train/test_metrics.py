import json
from pathlib import Path

import pytest

from gym_code.errors import ConfigError
from train.config import load_config
from train.evaluate import TaskScore, dump, held_out_tasks
from train.grpo import run_directory
from train.metrics import MetricsLog, write_report


def score(
    number: int, family: str, samples: tuple[float, ...], greedy: float, trained: bool = True
) -> TaskScore:
    return TaskScore(
        task_id=f"procedural__{family}-l1-f1-eval-{number}",
        family=family,
        trained=trained,
        samples=samples,
        greedy=greedy,
        ungraded=0,
    )


def row(step: int) -> dict[str, object]:
    return {"step": step, "reward": step / 10, "rollouts": 8}


def test_a_finished_run_leaves_a_summary_a_curve_and_a_page(tmp_path: Path) -> None:
    before = [score(n, "gap", (0.0, 1.0), 0.0) for n in range(4)] + [
        score(9, "pages", (0.5,), 1.0, trained=False)
    ]
    after = [score(n, "gap", (1.0, 1.0), 1.0) for n in range(4)] + [
        score(9, "pages", (0.5,), 0.0, trained=False)
    ]
    (tmp_path / "heldout-before.json").write_bytes(dump(before))
    (tmp_path / "heldout-after.json").write_bytes(dump(after))
    config = load_config("tiny", {"seed": 4})
    made = write_report(tmp_path, config, [row(0), row(1)], wall_seconds=60.0)
    assert made["heldout_pass1_before"] == 0.5
    assert made["heldout_pass1_after"] == 1.0
    assert (made["heldout_greedy_before"], made["heldout_greedy_after"]) == (0.0, 1.0)
    assert (made["gain"], made["gain_ci95"]) == (0.5, (0.5, 0.5))
    assert (made["heldout_tasks"], made["rollouts"], made["seed"], made["control"]) == (4, 16, 4, "none")
    assert made["left_out"]["gain"] == 0.0
    assert json.loads((tmp_path / "summary.json").read_text())["gain"] == 0.5
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert "pages (left out)" in (tmp_path / "report.html").read_text()


def test_ungraded_samples_leave_the_comparison(tmp_path: Path) -> None:
    lost = TaskScore(task_id="x", family="gap", trained=True, samples=(), greedy=None, ungraded=2)
    (tmp_path / "heldout-before.json").write_bytes(dump([score(1, "gap", (1.0,), 1.0), lost]))
    (tmp_path / "heldout-after.json").write_bytes(
        dump([score(1, "gap", (1.0,), 1.0), score(2, "gap", (0.0,), 0.0)])
    )
    made = write_report(tmp_path, load_config("tiny", {}), [], wall_seconds=1.0)
    assert (made["heldout_tasks"], made["heldout_pass1_after"], made["ungraded"]) == (1, 1.0, 2)


def test_law_11_a_resumed_log_holds_each_step_once(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(4):
        log.write(row(step))
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    log.cut(2)
    log.write(row(2))
    assert [r["step"] for r in log.read()] == [0, 1, 2]


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
