"""benchmarks/rollouts: who is timed does what is said of it, and what is said follows from the figures."""

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from agents.chat import load_chat
from benchmarks.rollouts import learned, results, waiting
from benchmarks.rollouts.__main__ import parse, raw_sampling
from benchmarks.rollouts.serving import Lap, RawClient, Timed, play, scripts_of, share_between
from gym_code.errors import GymCodeError, InputError
from gym_code.records import append
from gym_code.sandbox import open_backend
from gym_code.types import Completion, Limits, Stop, Trajectory, Turn
from train.config import load_config
from train.curriculum import Curriculum
from train.groups import orders_of
from train.rollout import Bounds, Roller, turn_seed

TINY = Path(__file__).parents[2] / "train/tiny"


def test_what_is_measured_where_no_part_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse(["--readme"]).parts == ["serving", "waiting"]
    assert parse(["waiting"]).parts == ["waiting"]
    for wrong, said in (["nonesuch"], "unknown part 'nonesuch'"), (["learned"], "name a run with --run"):
        with pytest.raises(SystemExit):
            parse(wrong)
        assert said in capsys.readouterr().err


def lap(rate: float) -> Lap:
    return Lap(tokens=100, requests=10, seconds=100 / rate)


def test_the_share_of_the_raw_clients_speed_is_the_median_over_rounds() -> None:
    said = results.of_laps([lap(96), lap(50), lap(99)], [lap(100), lap(50), lap(100)])
    assert said["tokens_per_second"] == {"ours": [96.0, 50.0, 99.0], "raw": [100.0, 50.0, 100.0]}
    assert (said["ratio"], said["interval_95"], said["verdict"]) == (0.99, [0.96, 1.0], "PASS")
    assert results.of_laps([lap(90)] * 3, [lap(100)] * 3)["verdict"] == "FALLS SHORT"
    assert results.of_laps([lap(90), lap(99), lap(99)], [lap(100)] * 3)["verdict"] == "UNDECIDED"


def played(sample_id: str, *versions: int) -> Trajectory:
    turns = [
        Turn(
            prompt_token_ids=(7,) * (number + 1),
            completion=Completion(
                token_ids=(1, 2), logprobs=(-1.0, -1.0), text="", finish_reason="stop", policy_version=version
            ),
        )
        for number, version in enumerate(versions)
    ]
    return Trajectory(
        task_id="t",
        task_digest="",
        suite="procedural",
        agent="policy",
        group_id="0/0",
        sample_id=sample_id,
        seed=5,
        sampling={},
        backend="toy",
        limits=Limits(),
        turns=tuple(turns),
        stop=Stop.SUBMITTED,
    )


def test_a_step_is_held_against_its_slowest_episode() -> None:
    workload = waiting.Workload(nap=5.0, share=0.5, turns=4, update=3.0)
    for name in ("0/0/0", "0/0/1"):
        assert workload.seconds(name) == 5.0 * sum(workload.naps(name))
        assert len(workload.naps(name)) == 3
    batches = [[played("0/0/0"), played("0/0/1")], [played("1/0/0"), played("1/0/1")]]
    naps = [[workload.seconds(t.sample_id) for t in batch] for batch in batches]
    steps = waiting.steps_of(batches, workload, wall=40.0)
    assert steps.slowest == (max(naps[0]), max(naps[1]))
    row = results.of_steps(
        "m", waiting.Steps(wall=46.0, slowest=(20.0, 10.0), naps=90.0, update=10.0), episodes=2
    )
    # Two steps of 23 s, 5 of them the update: 18 s for naps of 15.
    assert (row["seconds"], row["slowest"], row["all_naps"], row["times_slowest"]) == (23.0, 15.0, 45.0, 1.2)
    assert results.required_of_steps(row)["met"]
    assert not results.required_of_steps(row | {"times_slowest": 1.3})["met"]


@pytest.mark.sandbox
def test_scripted_episodes_sleep_as_the_workload_says() -> None:
    workload = waiting.Workload(nap=0.2, share=0.5, turns=4, update=0.1)
    sizes = {"groups": 1, "group_size": 2, "steps": 2, "deterministic": False}
    with closing(open_backend("namespace")) as backend:
        steps = waiting.play(load_config("tiny", sizes), workload, backend, load_chat(TINY))
    assert len(steps.slowest) == 2
    assert steps.wall > sum(steps.slowest) + steps.update
    assert steps.update == pytest.approx(0.2)


class Answering(http.server.BaseHTTPRequestHandler):
    """Lists two adapters, and completes whatever it is asked with three tokens."""

    protocol_version = "HTTP/1.1"
    bodies: list[dict[str, Any]]
    tokens: list[int] | None

    def do_GET(self) -> None:
        self.answer({"data": [{"id": "base"}, {"id": "policy-v1"}]})

    def do_POST(self) -> None:
        self.bodies.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.answer({"choices": [{} if self.tokens is None else {"token_ids": self.tokens}]})

    def answer(self, said: dict[str, Any]) -> None:
        data = json.dumps(said).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def answering(tokens: list[int] | None) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    bodies: list[dict[str, Any]] = []
    handler = type("Handler", (Answering,), {"bodies": bodies, "tokens": tokens})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", bodies
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_the_raw_client_posts_what_the_rollouts_asked_for() -> None:
    config, chat = load_config("tiny", {}), load_chat(TINY)
    scripts = scripts_of([played("a", 0, 0), played("b", 0)])
    with answering([1, 2, 3]) as (url, bodies):
        made = RawClient(url, "key", raw_sampling(config, chat), 2).play(scripts, "salt 1")
    assert (made.tokens, made.requests) == (9, 3)
    asked = sorted((tuple(body["prompt"]), body["seed"]) for body in bodies)
    assert asked == [((7,), turn_seed(5, 0))] * 2 + [((7, 7), turn_seed(5, 1))]
    assert {(b["model"], b["cache_salt"], b["temperature"]) for b in bodies} == {("policy-v1", "salt 1", 1.0)}
    assert 0.0 < made.between < 1.0


def test_a_timed_server_notes_what_has_a_seed() -> None:
    with answering([1]) as (url, _), closing(Timed(url, connections=1)) as replica:
        replica.post("/v1/completions", {"seed": 3})
        replica.post("/v1/completions", {})
    [(seed, (began, ended))] = replica.spans.items()
    assert seed == 3
    assert began < ended


def test_the_time_between_requests_is_that_of_conversations_under_way() -> None:
    # 4 s of which 3 in requests, and 6 s in one request.
    assert share_between([[(0.0, 1.0), (2.0, 4.0)], [(1.0, 7.0)]]) == pytest.approx(0.1)


def test_an_answer_that_is_no_completion_ends_the_race() -> None:
    with answering(None) as (url, _), pytest.raises(GymCodeError, match="the raw client failed: KeyError"):
        RawClient(url, "key", {}, 1).play(scripts_of([played("a", 0)]), "salt")


def test_rollouts_with_instant_tools_are_whole_but_for_the_grade() -> None:
    config, chat = load_config("tiny", {"groups": 1, "group_size": 2}), load_chat(TINY)
    orders = orders_of(Curriculum(config).draw(0), config)
    engine = waiting.Scripted(chat, waiting.Workload(nap=0.0, turns=3))
    bounds = Bounds(turns=config.turns, max_length=config.max_length)
    with (
        closing(open_backend("memory")) as boxes,
        Roller(boxes, chat, engine, bounds, workers=2, seats=2) as roller,
    ):
        made, trajectories = play(roller, orders)
    assert made.requests == sum(len(t.turns) for t in trajectories) == 6
    assert made.tokens == sum(
        len(turn.completion.token_ids) for t in trajectories for turn in t.turns if turn.completion
    )
    assert [t.stop for t in trajectories] == [Stop.SUBMITTED] * 2
    assert all(t.error == "SandboxError: nothing is graded here" for t in trajectories)
    assert made.rate == made.tokens / made.seconds


def row(version: int, **other: float) -> dict[str, Any]:
    return {
        "rollouts": 4, "delivered_version": version, "probe_proven": 1.0, "probe_new": 1e-6 * version,
        "probe_last": 0.1 / version, "probe_base": 0.2 * version, "reward": 0.5, "mismatch": 2e-6 * version,
        "mismatch_kl": 0.0, "invalid": 0, "dropped": 0, "retried": 0,
        "seconds": {"rollout": 2.0 * version, "train": 1.0, "sync": 0.5},
    } | other  # fmt: skip


def test_what_a_served_run_has_left_is_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the run has not finished"):
        learned.read_run(tmp_path)
    (tmp_path / "trajectories").mkdir()
    append(tmp_path / "trajectories/step-00000.jsonl", played("0/0/0", 0, 0))
    append(tmp_path / "trajectories/step-00001.jsonl", played("1/0/0", 0, 1))
    lines = [json.dumps(r) + "\n" for r in (row(1), row(2, invalid=1))]
    (tmp_path / "metrics.jsonl").write_text("".join(lines))
    summary = {
        "heldout_tasks": 3, "heldout_pass1_before": 0.4, "heldout_pass1_after": 0.6, "gain": 0.2,
        "heldout_greedy_before": 0.2, "heldout_greedy_after": 0.5, "gain_ci95": [0.1, 0.3],
    }  # fmt: skip
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    said = learned.read_run(tmp_path)
    assert (said["steps"], said["episodes"], said["delivered"], said["invalid"]) == (2, 8, [1, 2], 1)
    assert said["proofs"] == {"proven": 2, "new_largest": 2e-6, "last_smallest": 0.05, "base_smallest": 0.2}
    assert said["fresh"] == 0.75  # three of four turns of two tokens
    assert said["mismatch"] == 2e-6
    assert said["seconds"] == {"rollout": 3.0, "train": 1.0, "sync": 0.5}
    assert "held-out pass@1 0.400 -> 0.600: gain +0.200 [+0.100, +0.300]" in results.markdown(
        {"learned": said}
    )
    append(tmp_path / "trajectories/step-00001.jsonl", played("1/0/1", 3))
    with pytest.raises(InputError, match="sampled by another version"):
        learned.read_run(tmp_path)
