"""A run on the committed base in real boxes, killed and resumed (law 11)."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CONFIG = """
model = "tiny"
steps = 3
groups = 4
group_size = 4
checkpoint_every = 1
held_out_families = ["same_word"]
eval_tasks = 4
eval_held_out_tasks = 1
eval_samples = 1
workers = 4
deterministic = true
refill = 0.5
"""

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


def start(directory: Path, *options: str) -> subprocess.Popen[bytes]:
    (directory / "small.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "train.grpo", "--model", "small.toml", "--name", "r", "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([*command, *options], cwd=directory, env=environment, start_new_session=True)


def kill_after_a_step(directory: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not (directory / "runs/r/checkpoints/LATEST").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def adapter(directory: Path) -> bytes:
    latest = (directory / "runs/r/checkpoints/LATEST").read_text()
    assert latest == "step-00003"
    return (directory / "runs/r/checkpoints" / latest / "adapter_model.safetensors").read_bytes()


def rewards(directory: Path) -> list[tuple[int, float]]:
    lines = (directory / "runs/r/metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["reward"]) for row in map(json.loads, lines)]


def test_law_11_a_killed_run_resumes_to_the_bit_identical_adapter(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir()
    killed.mkdir()
    assert start(whole).wait(timeout=300) == 0
    kill_after_a_step(killed, start(killed))
    assert start(killed, "--resume").wait(timeout=300) == 0
    assert rewards(killed) == rewards(whole)
    assert len(rewards(whole)) == 3
    assert any(0 < reward < 1 for _, reward in rewards(whole))
    assert adapter(killed) == adapter(whole)
    summary = json.loads((killed / "runs/r/summary.json").read_text())
    assert summary["heldout_tasks"] == 4
    assert {p.name for p in (killed / "runs/r/trajectories").iterdir()} == {
        f"step-0000{n}.jsonl" for n in range(3)
    }
