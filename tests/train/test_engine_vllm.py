"""The engine on real vLLM servers: what they serve is what is trained, and a run learns from them."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from gym_code.records import read
from gym_code.types import Completion, Segment
from train.engine.base import Request, Sampling, generate
from train.engine.replica import Replica
from train.engine.server import ServerSpec, start
from train.engine.vllm import VllmEngine
from train.logprob import token_logprobs
from train.model import tiny_config, with_adapter

pytestmark = [pytest.mark.vllm, pytest.mark.slow]

ROOT = Path(__file__).parents[2]
END, LENGTH = 1, 192
HOT = Sampling(temperature=1.0, max_tokens=12)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import Qwen2ForCausalLM

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = tiny_config(64)
    config.hidden_size, config.intermediate_size = 64, 96
    config.num_attention_heads, config.num_key_value_heads = 2, 1
    config.num_hidden_layers, config.layer_types = 2, config.layer_types[:2]
    base = Qwen2ForCausalLM(config)
    path = tmp_path_factory.mktemp("base")
    base.save_pretrained(path)
    made = with_adapter(base, rank=4, alpha=8.0)
    made.saved = path
    yield made
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def replicas(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Replica]]:
    spec = ServerSpec(
        model=str(model.saved),
        dtype="float32",
        max_length=LENGTH,
        lora_rank=4,
        sequences=64,
        threads=1,
        cache_gib=1,
        gpu_memory=0.3,
        seed=0,
        sleeps=True,
    )
    servers = start(spec, 2, tmp_path_factory.mktemp("logs"))
    made = [Replica(server, key=server.key, connections=64) for server in servers]
    try:
        for replica, server in zip(made, servers, strict=True):
            server.wait(replica.healthy, lambda _: None)
        yield made
    finally:
        for replica in made:
            replica.close()


@pytest.fixture(scope="module")
def engine(
    model: Any, replicas: list[Replica], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VllmEngine]:
    directory = tmp_path_factory.mktemp("run") / "adapters"
    made = VllmEngine(model, replicas, directory, end_ids=(END,), max_length=LENGTH, concurrency=64)
    yield made
    made.close()


def learn(model: Any) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn_like(parameter) * 0.05)


def ask(key: str, prompt: list[int], seed: int = 0) -> Request:
    return Request(key=key, prompt_ids=tuple(prompt), seed=seed)


def sample(engine: VllmEngine, requests: list[Request], sampling: Sampling) -> list[Completion]:
    made = generate(engine, requests, sampling)
    assert all(isinstance(completion, Completion) for completion in made)
    return [completion for completion in made if isinstance(completion, Completion)]


def test_law_9_served_logprobs_are_the_trained_ones_version_by_version(
    model: Any, engine: VllmEngine
) -> None:
    # Turn by turn, with the same prompts in every version: a stale prefix cache would show.
    worst = 0.0
    for version in range(3):
        learn(model)
        engine.set_version(version)
        metrics = engine.take_metrics()
        assert metrics["delivered_version"] == version
        assert metrics["probe_new"] < 1e-5 < metrics["probe_last"]
        assert metrics["probe_proven"] == 1.0
        prompts = {str(n): [5 + n % 3] * 40 + list(range(20, 30)) for n in range(8)}
        for turn in range(2):
            made = sample(engine, [ask(k, p, seed=int(k) + turn) for k, p in prompts.items()], HOT)
            segments = [segment(p, c) for p, c in zip(prompts.values(), made, strict=True)]
            logprobs_BT, _ = token_logprobs(model, segments, 1.0)
            for row, of in zip(logprobs_BT.tolist(), segments, strict=True):
                worst = max(worst, *(abs(a - b) for a, b in zip(row, of.logprobs_T, strict=False)))
            assert {c.policy_version for c in made} == {version}
            for (key, prompt), completion in zip(prompts.items(), made, strict=True):
                prompts[key] = [*prompt, *completion.token_ids, 33, 34]
    assert 0.0 < worst <= 1e-5


def test_a_server_that_slept_serves_what_it_served(engine: VllmEngine, replicas: list[Replica]) -> None:
    # On a CPU there is no memory to give away: it pauses, forgets its caches, and goes on.
    request = ask("sleeper", [5] * 40)
    before = sample(engine, [request], HOT)[0]
    for replica in replicas:
        replica.sleep()
    engine.submit(request, HOT)
    assert engine.collect(timeout=3.0) == [], "who sleeps answers nobody"
    for replica in replicas:
        replica.rouse()
    ((_, after),) = engine.collect()
    assert isinstance(after, Completion)
    assert after.token_ids == before.token_ids
    assert after.logprobs == pytest.approx(before.logprobs, abs=1e-5)


def segment(prompt: list[int], completion: Completion) -> Segment:
    said = len(completion.token_ids)
    return Segment(
        task_id="",
        group_id="",
        token_ids_T=(*prompt, *completion.token_ids),
        action_mask_T=(*[0] * len(prompt), *[1] * said),
        logprobs_T=(*[0.0] * len(prompt), *completion.logprobs),
        advantages_T=(0.0,) * (len(prompt) + said),
    )


def test_samples_follow_the_distribution(model: Any, engine: VllmEngine) -> None:
    requests = [ask(str(n), [5, 6, 7], seed=n) for n in range(1500)]
    made = sample(engine, requests, Sampling(max_tokens=1))
    with torch.no_grad():
        chances = torch.softmax(model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1].float(), -1)
    for token in range(10):
        expected = float(chances[token])
        seen = sum(c.token_ids == (token,) for c in made) / len(made)
        assert abs(seen - expected) < 5 * math.sqrt(expected / len(made))


def test_a_seed_draws_the_same_and_only_the_end_mark_ends(engine: VllmEngine) -> None:
    # More prompt tokens at a time than a server takes in one step: with chunked prefill, seeded requests
    # end vLLM 0.32 on a CPU.
    requests = [ask(str(n), [7 + n % 50] * 170, seed=n) for n in range(64)]
    first, second = sample(engine, requests, HOT), sample(engine, requests, HOT)
    assert sum(a.token_ids == b.token_ids for a, b in zip(first, second, strict=True)) >= 60
    for completion in first:
        ended = completion.token_ids[-1] == END
        assert completion.finish_reason == ("stop" if ended else "length")
        assert ended or len(completion.token_ids) == HOT.max_tokens
        assert END not in completion.token_ids[:-1]


def test_a_killed_server_is_left_out_then_started_again_and_nothing_of_it_remains(
    engine: VllmEngine, replicas: list[Replica]
) -> None:
    server = replicas[0].server
    assert server is not None
    pattern = f"^[^ ]+ -P -m vllm.entrypoints.*--port {server.port} "
    found = subprocess.run(["pgrep", "-f", pattern], capture_output=True, text=True, check=True)
    pid = int(found.stdout)
    os.kill(pid, signal.SIGKILL)
    made = sample(engine, [ask(str(n), [5, 6, 7], seed=n) for n in range(16)], HOT)
    assert len(made) == 16
    assert engine.take_metrics()["replicas"] == 1
    engine.set_version(9)
    assert server.port > 0
    metrics = engine.take_metrics()
    assert (metrics["replicas"], metrics["revived"]) == (2, 1)
    made = sample(engine, [ask(f"new {n}", [5, 6, 7], seed=n) for n in range(16)], HOT)
    assert {completion.policy_version for completion in made} == {9}
    deadline = time.monotonic() + 30
    while subprocess.run(["pgrep", "-g", str(pid)], capture_output=True).returncode == 0:
        assert time.monotonic() < deadline, "the killed server's helpers live on"
        time.sleep(0.1)


CONFIG = """
model = "tiny"
steps = 3
groups = 4
group_size = 4
held_out_families = ["same_word"]
eval_tasks = 4
eval_held_out_tasks = 1
eval_samples = 1
workers = 4
"""


@pytest.mark.sandbox
def test_law_9_a_run_on_vllm_delivers_and_proves_every_step(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(CONFIG)
    command = [sys.executable, "-m", "train.grpo", "--model", "small.toml", "--engine", "vllm", "--name", "r"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(
        [*command, "--threads", "1"], cwd=tmp_path, env=environment, capture_output=True, timeout=900
    )
    assert run.returncode == 0, run.stdout.decode() + run.stderr.decode()
    rows = [json.loads(line) for line in (tmp_path / "runs/r/metrics.jsonl").read_text().splitlines()]
    assert [row["delivered_version"] for row in rows] == [1, 2, 3]
    served = set()
    for step, row in enumerate(rows):
        assert row["invalid"] == row["dropped"] == row["retried"] == 0
        assert row["mismatch"] <= 1e-5 or step
        assert row["probe_new"] <= 1e-5
        if row["with_gradient"]:
            assert row["probe_new"] < min(row["probe_last"], row["probe_base"])
            assert row["probe_proven"] == 1.0
        played = read(tmp_path / f"runs/r/trajectories/step-{step:05d}.jsonl").trajectories
        assert len(played) == 16
        versions = {turn.completion.policy_version for t in played for turn in t.turns if turn.completion}
        assert versions <= {max(step - 1, 0), step}, "one step behind at most"
        served |= versions
    assert served >= {0, 1}, "what was learned was sampled from"
    assert not (tmp_path / "runs/r/adapters").exists()
    log = (tmp_path / "runs/r/vllm-0.log").read_text()
    assert "vLLM" in log
