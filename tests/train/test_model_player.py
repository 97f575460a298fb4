"""A model of ours makes predictions: served as in training, played by the same roller, not graded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.predict import predict
from gym_code import records
from gym_code.errors import ConfigError
from gym_code.interop import read_predictions
from gym_code.sandbox import Backend, open_backend
from gym_code.synth.procedural import ProceduralSuite
from gym_code.types import Stop
from train.checkpoint import save_best, save_checkpoint
from train.config import load_config, to_toml
from train.model import load_base, with_adapter
from train.predict import model_config, model_player

SUITE = ProceduralSuite(seed=77, count=2, split="eval", families=("at_most", "gap"))
IDS = SUITE.ids()


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    made = open_backend("namespace")
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _same_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.sandbox
def test_the_tiny_model_plays_greedily_and_the_same_again(backend: Backend, tmp_path: Path) -> None:
    held: list[str] = []

    @contextmanager
    def hold(task_id: str) -> Iterator[None]:
        held.append(f"+{task_id}")
        yield
        held.append(f"-{task_id}")

    found = []
    for name in ("a", "b"):
        with model_player(
            "tiny",
            SUITE,
            backend,
            engine="torch",
            jobs=2,
            options={"temperature": 0, "threads": 1},
            directory=tmp_path,
            hold=hold,
        ) as player:
            assert player.name == "tiny"
            [file] = predict(player, SUITE, IDS, out=tmp_path / name).files
        found.append([row | {"gym": None} for row in rows(file)])
        assert list(read_predictions(file, known=IDS)) == list(IDS)
    assert found[0] == found[1]
    for row, trajectory in zip(
        rows(file), records.read(tmp_path / "b" / "trajectories.jsonl").trajectories, strict=True
    ):
        assert trajectory.stop in (Stop.SUBMITTED, Stop.TURNS)
        assert trajectory.reward is None
        # Prompts and completions, as an endpoint counts them.
        assert row["gym"]["tokens"] == sum(
            len(turn.prompt_token_ids) + len(turn.completion.token_ids)
            for turn in trajectory.turns
            if turn.completion
        )
        assert set(trajectory.timings) == {"policy_seconds", "tool_seconds"}
    assert sorted(held) == sorted([f"{sign}{task_id}" for sign in "+-" for task_id in IDS] * 2)


@pytest.mark.sandbox
def test_limits_bound_the_model_too_and_no_engine_starts_for_nothing(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"temperature": 0, "threads": 1}
    limits = {"turns": 1}
    for _ in range(2):
        with model_player(
            "tiny", SUITE, backend, engine="torch", options=options, limits=limits, directory=tmp_path
        ) as player:
            [file] = predict(player, SUITE, IDS[:1], out=tmp_path, limits=limits).files
        [row] = rows(file)
        assert (row["gym"]["turns"], row["gym"]["stop"], row["model_patch"]) == (1, "turn limit", "")
        # The second time everything has been played.
        monkeypatch.delattr("train.predict.open_engine", raising=False)


@pytest.mark.vllm
@pytest.mark.sandbox
@pytest.mark.slow
def test_a_trained_adapter_behind_vllm_makes_the_predictions_that_it_makes_here(
    backend: Backend, tmp_path: Path
) -> None:
    run, said = run_of(tmp_path), list[str]()
    played = {}
    for engine in ("vllm", "torch"):
        with model_player(
            str(run),
            SUITE,
            backend,
            engine=engine,
            jobs=2,
            options={"temperature": 0, "threads": 1},
            directory=tmp_path / "served",
            report=said.append,
        ) as player:
            assert player.name == str(run)
            played[engine] = predict(player, SUITE, IDS, samples=2, out=tmp_path / engine)
        assert played[engine].faults == played[engine].unplayed == ()
        predictions = read_predictions(played[engine].files[1], known=IDS)
        assert list(predictions) == list(IDS)
    assert any("vLLM is starting" in line for line in said)
    served, here = (words(tmp_path / engine) for engine in ("vllm", "torch"))
    assert served == here
    with model_player(
        "tiny", SUITE, backend, engine="torch", options={"temperature": 0, "threads": 1}, directory=tmp_path
    ) as player:
        predict(player, SUITE, IDS, samples=2, out=tmp_path / "base")
    assert words(tmp_path / "base") != here  # the adapter says something else than its base


def words(out: Path) -> list[list[str]]:
    """What was said in each episode, turn by turn."""
    trajectories = records.read(out / "trajectories.jsonl").trajectories
    return [[turn.completion.text for turn in t.turns if turn.completion] for t in trajectories]


def run_of(tmp_path: Path) -> Path:
    """A training run of the tiny model with a checkpoint of step 2, and the best of step 1."""
    config = load_config("tiny", {"lora_rank": 2})
    run = tmp_path / "runs" / "mine"
    run.mkdir(parents=True)
    (run / "config.toml").write_text(to_toml(config))
    base, _ = load_base("tiny", torch.float32, "cpu")
    policy = with_adapter(base, 2, 32.0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.05)
    optimizer = torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad])
    save_best(run / "checkpoints", policy, 1, 0.5)
    save_checkpoint(run / "checkpoints", policy, optimizer, 2, config, {})
    return run


def test_a_run_gives_its_best_adapter_and_its_configuration(tmp_path: Path) -> None:
    run = run_of(tmp_path)
    config, adapter = model_config(str(run), {"engine": "vllm", "deterministic": False})
    assert (config.lora_rank, config.engine, adapter) == (2, "vllm", run / "checkpoints" / "best")
    config, adapter = model_config(str(run / "checkpoints" / "step-00002"), {"max_tokens": 32})
    assert (config.lora_rank, config.max_tokens) == (2, 32)
    assert adapter == run / "checkpoints" / "step-00002"
    (run / "checkpoints" / "best").unlink()
    assert model_config(str(run), {})[1] == run / "checkpoints" / "step-00002"
    (run / "checkpoints" / "LATEST").unlink()
    with pytest.raises(ConfigError, match="the run has no checkpoint"):
        model_config(str(run), {})
    (run / "config.toml").unlink()
    with pytest.raises(ConfigError, match="a checkpoint without its run"):
        model_config(str(run / "checkpoints" / "step-00002"), {})
    assert model_config("tiny", {})[1] is None


@pytest.mark.sandbox
def test_another_adapter_is_another_player(backend: Backend, tmp_path: Path) -> None:
    run = run_of(tmp_path)
    identities = []
    for model in ("tiny", str(run)):
        with model_player(
            model, SUITE, backend, engine="torch", options={"threads": 1}, directory=tmp_path
        ) as player:
            identities.append(dict(player.identity))
    assert identities[0]["base"] == identities[1]["base"]
    assert identities[0]["adapter"] == ""
    assert len(identities[1]["adapter"]) == 64


@pytest.mark.parametrize("temperature", [-1, "hot", float("nan")])
def test_a_temperature_that_is_none_is_refused(temperature: object, tmp_path: Path) -> None:
    from gym_code.sandbox.memory import MemoryBackend

    with pytest.raises(ConfigError, match="temperature: wrong value"):
        model_player("tiny", SUITE, MemoryBackend(), options={"temperature": temperature}, directory=tmp_path)
