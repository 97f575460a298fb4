"""Law 9 and lost servers against a small server over HTTP that can be told to misbehave.

It speaks what the engine uses of vLLM's API and computes real logprobs, with the adapter files it is given.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from gym_code.errors import ConfigError
from gym_code.types import Completion
from tests.train.small_model import small_policy
from train.engine.base import DeliveryError, Dropped, EngineError, Request, Sampling, generate
from train.engine.delivery import judge, make_probe, perturbed, probe_logprobs, write_adapter
from train.engine.replica import Replica
from train.engine.vllm import VllmEngine
from train.model import load_adapter

END = 1
ONE = Sampling(temperature=1.0, max_tokens=4)


class Server(ThreadingHTTPServer):
    """`faults` names what it does wrong."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.lock, self.loaded = small_policy(), threading.Lock(), ""
        self.adapters: dict[str, str] = {}
        self.log: list[tuple[str, dict[str, Any]]] = []
        self.faults: set[str] = set()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def next_logprobs(self, body: dict[str, Any]) -> list[float]:
        path = self.adapters[body["model"]]
        if "first adapter forever" in self.faults:
            path = next(iter(self.adapters.values()))
        with self.lock, torch.no_grad():
            if path != self.loaded:
                load_adapter(self.model, Path(path))
                self.loaded = path
            if "no adapter" in self.faults:
                with self.model.disable_adapter():
                    logits = self.model(input_ids=torch.tensor([body["prompt"]])).logits[0, -1]
            else:
                logits = self.model(input_ids=torch.tensor([body["prompt"]])).logits[0, -1]
        if "raw logprobs" not in self.faults:
            logits = logits / (body["temperature"] or 1.0)
        return [float(value) for value in torch.log_softmax(logits.float(), -1)]

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        models = {"data": [{"id": "base", "parent": None, "max_model_len": 64}]}
        self.answer(503 if "dead" in self.server.faults else 200, models)

    def do_POST(self) -> None:
        server, body = self.server, json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        server.log.append((self.path, body))
        if "dead" in server.faults:
            self.answer(500, {"error": "the engine is dead"})
        elif self.path == "/v1/load_lora_adapter":
            server.adapters[body["lora_name"]] = body["lora_path"]
            self.answer(200, "ok")
        elif self.path == "/v1/unload_lora_adapter":
            known = server.adapters.pop(body["lora_name"], None)
            self.answer(200 if known else 404, "ok")
        elif self.path.startswith("/sleep"):
            self.answer(404 if "sleepless" in server.faults else 200, {"status": "sleeping"})
        elif self.path == "/wake_up":
            self.answer(200, {"status": "sleeping" if "sleeps on" in server.faults else "awake"})
        elif "silent" in server.faults and "seed" in body:
            time.sleep(3)  # by then nobody listens
            with suppress(BrokenPipeError):
                self.answer(200, self.completion(body))
        elif "500" in server.faults and "seed" in body:
            self.answer(500, {"error": "Out of range float values are not JSON compliant"})
        else:
            self.answer(200, self.completion(body))

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        values = self.server.next_logprobs(body)
        token = max(range(len(values)), key=values.__getitem__)
        logprobs: list[Any] = [values[token]]
        if "seed" in body and "nan" in self.server.faults:
            logprobs = [float("nan")]
        if "seed" in body and "missing" in self.server.faults:
            logprobs = [None]
        fixed = {f"token_id:{t}": values[t] for t in body.get("logprob_token_ids", [])}
        said = {"token_logprobs": logprobs, "top_logprobs": [fixed]}
        return {"choices": [{"token_ids": [token], "logprobs": said}]}

    def answer(self, status: int, body: object) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Matrices of this size are slower on several threads, by far on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def servers() -> Iterator[list[Server]]:
    made = [Server(), Server()]
    yield made
    for server in made:
        server.stop()


@pytest.fixture(scope="module")
def model() -> Any:
    return small_policy()


def engine_on(
    model: Any, servers: Sequence["Server | Ours"], directory: Path, *, sleeps: bool = False
) -> VllmEngine:
    replicas = [
        Replica(server if isinstance(server, Ours) else server.url, connections=8)  # type: ignore[arg-type]
        for server in servers
    ]
    return VllmEngine(
        model,
        replicas,
        directory / "adapters",
        end_ids=(END,),
        max_length=64,
        concurrency=8,
        sleeps=sleeps,
    )


def ask(number: int) -> Request:
    return Request(key=str(number), prompt_ids=(5, 6, 7 + number), seed=number)


def learn(model: Any, size: float = 0.05) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.add_(torch.randn_like(parameter) * size)


def test_law_9_every_version_is_proven_on_every_replica(
    model: Any, servers: list[Server], tmp_path: Path
) -> None:
    own = {n: p.detach().clone() for n, p in model.named_parameters()}
    engine = engine_on(model, servers, tmp_path)
    assert all(torch.equal(p, own[n]) for n, p in model.named_parameters()), "the perturbation was undone"
    for version in range(4):
        engine.set_version(version)
        metrics = engine.take_metrics()
        assert metrics["delivered_version"] == version
        assert metrics["replicas"] == 2
        assert metrics["probe_new"] < 1e-5 < metrics["probe_last"]
        assert metrics["probe_proven"] == 1.0
        made = generate(engine, [ask(n) for n in range(6)], ONE)
        assert {c.policy_version for c in made if isinstance(c, Completion)} == {version}
        learn(model)
    for server in servers:
        assert len(server.adapters) == 2, "a ring of two slots"
        rollouts = [body for path, body in server.log if path == "/v1/completions" and "seed" in body]
        assert len({body["model"] for body in rollouts}) == 4, "a name a version"
        assert all(body["cache_salt"] == body["model"] for body in rollouts)
    assert len(list((tmp_path / "adapters").iterdir())) == 2
    engine.close()
    assert not (tmp_path / "adapters").exists()
    assert servers[0].adapters == {}


def test_law_9_a_stale_adapter_ends_the_run(model: Any, servers: list[Server], tmp_path: Path) -> None:
    engine = engine_on(model, servers, tmp_path)
    engine.set_version(0)
    learn(model)
    servers[1].faults.add("first adapter forever")
    with pytest.raises(DeliveryError, match="does not serve the new adapter"):
        engine.set_version(1)
    engine.close()


def test_law_9_step_0_fails_where_adapters_are_ignored(
    model: Any, servers: list[Server], tmp_path: Path
) -> None:
    servers[0].faults.add("no adapter")
    with pytest.raises(DeliveryError, match="does not serve the new adapter"):
        engine_on(model, servers, tmp_path)


def test_logprobs_from_before_temperature_are_found_out(
    model: Any, servers: list[Server], tmp_path: Path
) -> None:
    servers[1].faults.add("raw logprobs")
    with pytest.raises(DeliveryError, match="--logprobs-mode processed_logprobs"):
        engine_on(model, servers, tmp_path)


def test_a_change_too_small_to_see_is_not_called_proven_but_its_sum_is(
    model: Any, servers: list[Server], tmp_path: Path
) -> None:
    engine = engine_on(model, servers, tmp_path)
    learn(model)
    engine.set_version(0)
    engine.set_version(1)
    assert engine.take_metrics()["probe_proven"] == 0.0
    servers[0].faults.add("first adapter forever")
    learn(model)
    with pytest.raises(DeliveryError, match="the last one"):
        engine.set_version(2)
    engine.close()


@pytest.mark.parametrize("fault", ["nan", "missing", "500"])
def test_a_completion_without_logprobs_is_dropped_and_counted(
    model: Any, servers: list[Server], tmp_path: Path, fault: str
) -> None:
    engine = engine_on(model, servers[:1], tmp_path)
    servers[0].faults.add(fault)
    made = generate(engine, [ask(0), ask(1)], ONE)
    assert all(isinstance(completion, Dropped) for completion in made)
    assert engine.take_metrics()["dropped"] == 2
    servers[0].faults.clear()
    assert isinstance(generate(engine, [ask(0)], ONE)[0], Completion)
    assert engine.take_metrics()["dropped"] == 0, "counts start again"
    engine.close()


def test_generation_goes_on_at_the_replicas_that_are_left(
    model: Any, servers: list[Server], tmp_path: Path
) -> None:
    engine = engine_on(model, servers, tmp_path)
    generate(engine, [ask(n) for n in range(8)], ONE)
    servers[0].faults.add("dead")
    made = generate(engine, [ask(n) for n in range(8)], ONE)
    assert all(isinstance(completion, Completion) for completion in made)
    metrics = engine.take_metrics()
    assert metrics["replicas"] == 1
    assert metrics["retried"] >= 1
    assert metrics["dropped"] == 0
    engine.set_version(1)
    servers[1].faults.add("dead")
    with pytest.raises(EngineError, match="no vLLM server is left"):
        generate(engine, [ask(0)], ONE)
    engine.close()


class Ours:
    """Stands for a process of the trainer's own, which can be started again and has then forgotten all."""

    def __init__(self, server: Server) -> None:
        self.server, self.url, self.log, self.launches = server, server.url, Path("vllm-0.log"), 1

    def alive(self) -> bool:
        return "dead" not in self.server.faults

    def launch(self) -> None:
        time.sleep(0.5)  # meanwhile every conversation comes to wait for this server
        self.launches += 1
        self.server.adapters.clear()
        self.server.faults.discard("dead")

    def wait(self, answers: Callable[[], bool], _: object) -> None:
        assert answers()

    def close(self) -> None:
        self.server.faults.add("dead")

    def tail(self) -> str:
        return "killed"


def test_the_last_server_dies_under_every_conversation_and_is_started_again(
    model: Any, servers: list[Server], tmp_path: Path
) -> None:
    engine = engine_on(model, [Ours(servers[0])], tmp_path)
    engine.set_version(0)
    servers[0].faults.add("dead")
    for number in range(8):
        engine.submit(ask(number), ONE)
    made: dict[str, Completion | Dropped] = {}
    deadline = time.monotonic() + 30
    while len(made) < 8 and time.monotonic() < deadline:
        made |= dict(engine.collect(1.0))
    assert len(made) == 8
    assert all(isinstance(completion, Completion) for completion in made.values())
    assert engine.take_metrics()["revived"] == 1
    engine.close()


def test_servers_that_share_a_gpu_sleep_while_the_trainer_learns(
    model: Any, servers: list[Server], tmp_path: Path
) -> None:
    for sleeps in (False, True):
        engine = engine_on(model, servers, tmp_path, sleeps=sleeps)
        generate(engine, [ask(n) for n in range(4)], ONE)
        for server in servers:
            server.log.clear()
        with engine.resting():
            learn(model)
            at_rest = [[path for path, _ in server.log] for server in servers]
        engine.set_version(1)
        assert at_rest == [["/sleep?level=1&mode=wait"] * sleeps] * 2
        for server in servers:
            # Awake before the new adapter comes: a sleeping server has nowhere to put it.
            paths = [path for path, _ in server.log if not path.startswith("/sleep")]
            assert paths[: 1 + sleeps] == [*["/wake_up"] * sleeps, "/v1/load_lora_adapter"]
        engine.close()


def test_a_server_that_cannot_sleep_or_wake(model: Any, servers: list[Server], tmp_path: Path) -> None:
    engine = engine_on(model, servers, tmp_path, sleeps=True)
    servers[0].faults.add("sleeps on")
    with engine.resting():
        pass
    assert engine.take_metrics()["replicas"] == 1
    servers[1].faults.add("sleeps on")
    with (
        pytest.raises(EngineError, match=r"no vLLM server is left; .*the server sleeps on"),
        engine.resting(),
    ):
        pass
    engine.close()
    engine = engine_on(model, servers[:1], tmp_path, sleeps=True)
    servers[0].faults.add("sleepless")
    with pytest.raises(ConfigError, match=r"vllm_sleep: .*expected VLLM_SERVER_DEV_MODE=1"), engine.resting():
        raise AssertionError("nothing is learned beside a server that keeps its memory")
    engine.close()


def test_a_server_that_is_healthy_and_never_answers_is_left_out(
    model: Any, servers: list[Server], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("train.engine.vllm.REQUEST_SECONDS", 1.0)
    engine = engine_on(model, servers, tmp_path)
    servers[0].faults.add("silent")
    made = generate(engine, [ask(n) for n in range(8)], ONE)
    assert all(isinstance(completion, Completion) for completion in made)
    assert engine.take_metrics()["replicas"] == 1
    engine.close()


def test_the_perturbed_adapter_differs_and_is_undone(model: Any) -> None:
    probe = make_probe(model, 64)
    before = probe_logprobs(model, probe)
    with perturbed(model, probe):
        apart = float((probe_logprobs(model, probe) - before).square().mean().sqrt())
    assert 0.1 <= apart < 1.0
    assert torch.equal(probe_logprobs(model, probe), before)


def test_an_adapter_file_is_whole_or_not_there(model: Any, tmp_path: Path) -> None:
    path = write_adapter(model, tmp_path, "v1")
    assert [p.name for p in tmp_path.iterdir()] == ["v1"]
    assert (path / "adapter_model.safetensors").is_file()


def test_the_judgement_by_hand() -> None:
    new, last, base = torch.tensor([[-1.0]]), torch.tensor([[-1.5]]), torch.tensor([[-3.0]])
    others = {"last": last, "base": base}

    def verdict(served: float, noise: float = 0.01, tolerance: float = 0.3) -> Any:
        return judge(torch.tensor([[served]]), new, others, tolerance=tolerance, noise=noise, where="here")

    proof = verdict(-1.125)
    assert (proof.new, proof.last, proof.base, proof.proven) == (0.125, 0.375, 1.875, True)
    with pytest.raises(DeliveryError, match=r"0\.375 nats from the new version and 0\.125 from the last"):
        verdict(-1.375)
    with pytest.raises(DeliveryError, match="applied in part"):
        verdict(-0.5)
    with pytest.raises(DeliveryError, match="no numbers"):
        verdict(float("nan"))
    # New and last lie 0.5 apart: with a noise of 0.3 nobody can tell which of the two is served.
    assert not verdict(-1.125, noise=0.3).proven
