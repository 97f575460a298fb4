"""The path of the real models from end to end, with a random checkpoint of their layout in place of weights.

The `qwen-7b` config on a CPU, vLLM serving: killed after a step, resumed, and the adapter that it leaves is
loaded by plain peft and by a plain vLLM.
"""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from gym_code.records import read
from gym_code.types import Stop
from tests.train.hub_layout import PADDED, VOCABULARY, write_hub_layout
from train.config import load_config
from train.engine.replica import Replica
from train.engine.server import Server, ServerSpec, vllm_python

pytestmark = [pytest.mark.vllm, pytest.mark.sandbox, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
SMALL = {
    "device": "cpu",
    "dtype": "float32",
    "sandbox": "namespace",
    "workers": 4,
    "steps": 2,
    "checkpoint_every": 1,
    "groups": 2,
    "group_size": 2,
    "turns": 3,
    "max_tokens": 24,
    "max_length": 4096,
    "stages": ["procedural", "starter"],
    "warm_start_tasks": 6,
    "warm_start_steps": 2,
    "warm_start_batch": 4,
    "warmup_steps": 1,
    "learning_rate": 1e-3,
    "eval_tasks": 2,
    "eval_held_out_tasks": 1,
    "eval_samples": 1,
    "eval_every": 0,
}
TOKENS = 40


def start(directory: Path, model: Path, *options: str) -> subprocess.Popen[bytes]:
    values = {"model": str(model)} | SMALL
    settings = [part for key in values for part in ("--set", f"{key}={json.dumps(values[key])}")]
    command = [sys.executable, "-m", "train.grpo", "--model", "qwen-7b", "--name", "r", "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    return subprocess.Popen(
        [*command, *settings, *options], cwd=directory, env=environment, start_new_session=True
    )


def kill_after_a_step(directory: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 900
    while not (directory / "runs/r/checkpoints/LATEST").exists():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def steps_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_hub_layout(tmp_path_factory.mktemp("model") / "Qwen2.5-Coder-7B-Instruct", layers=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, model: Path) -> Path:
    """Two steps with a `kill -9` between them."""
    directory = tmp_path_factory.mktemp("run")
    kill_after_a_step(directory, start(directory, model))
    made = directory / "runs/r"
    assert (made / "checkpoints/LATEST").read_text() == "step-00001"
    assert start(directory, model, "--resume").wait(timeout=900) == 0
    return made


def test_the_7b_config_trains_two_steps_is_killed_and_resumes(run: Path, model: Path) -> None:
    assert (run / "checkpoints/LATEST").read_text() == "step-00002"
    assert load_config(str(run / "config.toml"), {}) == load_config("qwen-7b", {"model": str(model)} | SMALL)
    rows = steps_of(run)
    assert [row["step"] for row in rows] == [0, 1]
    assert [row["delivered_version"] for row in rows] == [1, 2]
    for row in rows:
        assert row["dropped"] == row["invalid"] == 0
        assert row["probe_new"] < 1e-4 < row["probe_last"]  # nats: another adapter, and the one that was sent
        # Nothing is solved, so the recipe learns from solutions, and the loss has a gradient.
        assert row["reward"] == 0
        assert row["sft_segments"] > 0
        assert row["sft_grad_norm"] > 0
    # A random model knows nothing: about log(PADDED) nats a token, and less once it has learned.
    assert abs(rows[0]["sft_loss"] - math.log(PADDED)) < 1
    assert rows[1]["sft_loss"] < rows[0]["sft_loss"]


def test_its_episodes_are_played_in_the_models_own_format(run: Path, model: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    for step in range(2):
        played = read(run / f"trajectories/step-{step:05d}.jsonl").trajectories
        assert len(played) >= 4
        for trajectory in played:
            assert trajectory.stop is not Stop.SUBMITTED
            prompt = tokenizer.decode(trajectory.turns[0].prompt_token_ids)
            assert prompt.startswith("<|im_start|>system\n")
            assert '"name": "submit"' in prompt
            assert prompt.endswith("<|im_start|>assistant\n")
            versions = {turn.completion.policy_version for turn in trajectory.turns if turn.completion}
            assert versions <= {max(step - 1, 0), step}  # staleness 1: a batch may have been begun before
    shown = read(run / "demonstrations.jsonl").trajectories
    assert len(shown) == 6
    assert {t.reward.value for t in shown if t.reward} == {1.0}
    assert sum(t.stop is Stop.SUBMITTED for t in shown) >= 4  # three turns are few for a change in two files


def test_its_adapter_loads_in_plain_peft_and_in_vllm_with_equal_logprobs(
    run: Path, model: Path, tmp_path: Path
) -> None:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    adapter = run / "checkpoints/step-00002"
    base = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    ids = torch.randint(VOCABULARY, (1, TOKENS), generator=torch.Generator().manual_seed(1))
    bare_T = logprobs_of(base, ids)
    policy = PeftModel.from_pretrained(base, adapter)
    tuned_T = logprobs_of(policy, ids)
    assert (tuned_T - bare_T).abs().max() > 1e-3
    served_T = served_logprobs(model, adapter, ids, tmp_path)
    assert (served_T - tuned_T).abs().max() < 1e-4


def logprobs_of(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Of each token but the first, given those before it."""
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0, :-1].float()
    return torch.log_softmax(logits, dim=-1).gather(1, ids[0, 1:, None])[:, 0]


def served_logprobs(model: Path, adapter: Path, ids: torch.Tensor, logs: Path) -> torch.Tensor:
    """The same from a server of its own, to which the checkpoint's directory is given as it lies."""
    spec = ServerSpec(
        model=str(model),
        dtype="float32",
        max_length=64,
        lora_rank=32,
        sequences=1,
        threads=1,
        cache_gib=1,
        gpu_memory=0.3,
        seed=0,
    )
    server = Server(vllm_python(), spec, logs / "vllm.log")
    replica = Replica(server, key=server.key, connections=1)
    try:
        server.wait(replica.healthy, lambda _: None)
        replica.load("trained", adapter)
        asked = {"model": "trained", "prompt": ids[0].tolist(), "max_tokens": 1, "prompt_logprobs": 0}
        answer = json.loads(replica.post("/v1/completions", asked, 300.0))
    finally:
        replica.close()
    told = answer["choices"][0]["prompt_logprobs"][1:]
    return torch.tensor(
        [at[str(token)]["logprob"] for at, token in zip(told, ids[0, 1:].tolist(), strict=True)]
    )
