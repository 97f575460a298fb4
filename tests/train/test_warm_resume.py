"""A warm-started run through two stages, killed in its warm start and after its promotion (law 11)."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = """
model = "tiny"
deterministic = true
steps = 3
groups = 3
group_size = 4
checkpoint_every = 1
held_out_families = ["same_word"]
stages = ["procedural", "procedural:count=12,families=gap+pages"]
promote_at = 0.1
promote_after = 3
warm_start = "oracle"
warm_start_tasks = 6
warm_start_steps = 8
warm_start_batch = 6
rejection_below = 1.0
eval_tasks = 2
eval_held_out_tasks = 0
eval_samples = 1
eval_every = 1
eval_every_tasks = 2
eval_suites = ["procedural:split=eval,count=1,families=gap"]
workers = 4
"""

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


def start(directory: Path, *options: str) -> subprocess.Popen[bytes]:
    directory.mkdir(exist_ok=True)
    (directory / "small.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "train.grpo", "--model", "small.toml", "--name", "r", "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([*command, *options], cwd=directory, env=environment, start_new_session=True)


def kill_when(process: subprocess.Popen[bytes], reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not reached():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def rows(run: Path) -> list[dict[str, float]]:
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True) if file.exists() else []
    return [
        {key: value for key, value in json.loads(line).items() if key != "seconds"}
        for line in lines
        if line.endswith("\n")
    ]


def test_law_11_a_warm_start_and_a_promotion_resume_to_the_bit_identical_adapter(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole/runs/r", tmp_path / "killed/runs/r"
    assert start(tmp_path / "whole").wait(timeout=600) == 0
    kill_when(start(tmp_path / "killed"), (killed / "demonstrations.jsonl").exists)
    assert not (killed / "checkpoints/LATEST").exists()
    shown = (killed / "demonstrations.jsonl").read_bytes()
    kill_when(
        start(tmp_path / "killed", "--resume"), lambda: any(row["stage"] == 1 for row in rows(killed)[1:])
    )
    assert start(tmp_path / "killed", "--resume").wait(timeout=600) == 0
    assert (killed / "demonstrations.jsonl").read_bytes() == shown  # read again, not played again
    assert rows(killed) == rows(whole)
    assert [row["stage"] for row in rows(whole)] == [1, 1, 1]  # promoted by the records of step 0
    assert any("sft_loss" in row for row in rows(whole))  # rejection sampling in the second stage
    assert (killed / "warm-start.jsonl").read_bytes() == (whole / "warm-start.jsonl").read_bytes()
    for name in ("step-00003", "best"):
        file = f"checkpoints/{name}/adapter_model.safetensors"
        assert (killed / file).read_bytes() == (whole / file).read_bytes()
    for step in (1, 2, 3):
        file = f"heldout-step-{step}.json"
        assert (killed / file).read_bytes() == (whole / file).read_bytes()
    assert json.loads((whole / "checkpoints/best/score.json").read_text())["step"] in (1, 2, 3)
    suites = json.loads((killed / "summary.json").read_text())["suites"]
    assert suites.keys() == {"procedural"}
    assert not suites["procedural"]["trained"]
