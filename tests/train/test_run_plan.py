"""The plan of a run, for GPUs that are described and on machines that have none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from gym_code.errors import ConfigError
from tests.train.hub_layout import write_hub_layout
from train.config import Config, load_config
from train.plan.layout import Places, Plan, lay_out, make_plan, require, room, times
from train.plan.machine import Gpu, find_gpus
from train.plan.memory import ASLEEP, CONTEXT, conversation_bytes, peak, resident
from train.plan.text import show

ROOT = Path(__file__).parents[2]
GB = 1e9


def planned(name: str, options: dict[str, object]) -> Config:
    """A config whose boxes need not be looked for."""
    return load_config(name, {"sandbox": "memory"} | options)


@pytest.fixture(autouse=True)
def elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache of the hub, and no torchrun around the tests."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("WORLD_SIZE", raising=False)


def gpus(*memory: float, name: str = "NVIDIA H100 80GB HBM3") -> list[Gpu]:
    return [Gpu(name=name, memory=gb * GB) for gb in memory]


def told(plan: Plan) -> str:
    console = Console(width=160, record=True, file=open(os.devnull, "w"))  # noqa: SIM115, PTH123
    show(plan, console)
    return console.export_text()


def gpu_lacks(plan: Plan) -> list[str]:
    return [item.what for item in plan.missing if "GPU" in item.what]


@pytest.mark.parametrize(
    ("options", "count", "trainers", "servers"),
    [
        ({}, 0, (), ()),
        ({}, 1, (0,), (0,)),
        ({}, 2, (0,), (1,)),
        ({"vllm_replicas": 3}, 4, (0,), (3, 2, 1)),
        ({"vllm_replicas": 2, "sharding": "fsdp"}, 8, (0, 1, 2, 3, 4, 5), (7, 6)),
        ({"vllm_urls": ["http://other:8000"]}, 2, (0,), ()),
        ({"device": "cpu"}, 2, (), ()),
    ],
)
def test_who_gets_which_gpu(
    options: dict[str, object], count: int, trainers: tuple[int, ...], servers: tuple[int, ...]
) -> None:
    assert lay_out(planned("qwen-7b", options), count) == Places(trainers=trainers, servers=servers)


def test_under_torchrun_its_processes_train(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    places = lay_out(planned("qwen-7b", {"sharding": "ddp"}), 4)
    assert (places.trainers, places.servers, places.shared) == ((0, 1), (3,), False)


def test_one_gpu_of_80_gb_is_enough_for_7b_and_one_of_40_is_not() -> None:
    config = planned("qwen-7b", {})
    assert gpu_lacks(make_plan(config, gpus(80))) == []
    (lack,) = gpu_lacks(make_plan(config, gpus(40)))
    # 28.3 GB for the trainer beside half of 40; and half of 40 is too little for vLLM: 19.2 / 0.5.
    assert lack == "GPU 0 (NVIDIA H100 80GB HBM3) has 40 GB, 48 GB are needed"


def test_two_gpus_of_80_gb_are_enough_for_14b_and_one_is_not() -> None:
    config = planned("qwen-14b", {})
    assert gpu_lacks(make_plan(config, gpus(80, 80))) == []
    assert len(gpu_lacks(make_plan(config, gpus(80)))) == 1


def test_32b_needs_a_sharded_base_or_larger_gpus() -> None:
    assert gpu_lacks(make_plan(planned("qwen-32b", {}), gpus(141, 141))) == []
    assert len(gpu_lacks(make_plan(planned("qwen-32b", {}), gpus(85.5, 85.5)))) == 1
    sharded = planned("qwen-32b", {"sharding": "fsdp"})
    assert gpu_lacks(make_plan(sharded, gpus(85.5, 85.5, 85.5, 85.5))) == []


def test_servers_that_sleep_make_room_for_the_trainer() -> None:
    shared = planned("qwen-14b", {"vllm_gpu_memory": 0.5, "forward_tokens": 32_768})
    plan = make_plan(shared, gpus(80))
    needed = peak(plan.trainer) + CONTEXT + 40 * GB
    assert gpu_lacks(plan) == [f"GPU 0 (NVIDIA H100 80GB HBM3) has 80 GB, {needed / GB:.0f} GB are needed"]
    sleeping = planned(
        "qwen-14b", {"vllm_gpu_memory": 0.5, "forward_tokens": 32_768, "vllm_sleep": True, "staleness": 0}
    )
    plan = make_plan(sleeping, gpus(80))
    assert max(resident(plan.trainer) + CONTEXT + 40 * GB, peak(plan.trainer) + CONTEXT + ASLEEP) < 80 * GB
    assert gpu_lacks(plan) == []


def test_the_cache_that_a_server_gets() -> None:
    config = planned("qwen-7b", {"vllm_gpu_memory": 0.5})
    plan = make_plan(config, gpus(80))
    # Half of 80 GB without 15.23 GB of weights and 3 of allowance, at 57,344 bytes a token.
    assert room(plan) == pytest.approx((40e9 - 7_615_616_512 * 2 - 3e9) / 57_344)
    assert conversation_bytes(plan.shape, config) == 16_384 * 57_344
    assert room(make_plan(config, gpus(1000))) == 128 * 16_384


def test_times_follow_from_the_work_and_the_gpu() -> None:
    config = planned("qwen-7b", {})
    slow, fast = (
        times(make_plan(config, gpus(80, 80, name=f"NVIDIA {name}")))
        for name in ("A100-SXM4-80GB", "H100 PCIe")
    )
    assert (slow.gpu, fast.gpu) == ("A100", "H100")
    assert slow.training / fast.training == pytest.approx(989 / 312)
    # 128 conversations of 8,192 tokens; forward, recomputation, backward, and half of the tokens once more
    # for the old policy; 28 layers of 466,092,032 products of weights and of 4 * 3,584 with 4,096 keys; the
    # head at a fifth of them.
    forward = 28 * (466_092_032 + 4 * 3584 * 4096)
    work = 128 * 8192 * (3.5 * forward + 0.2 * 4 * 152_064 * 3584)
    assert fast.training == pytest.approx(work / (0.35 * 989e12))
    assert times(make_plan(config, [])).gpu == "H100"
    assert fast.step == max(fast.sampling, fast.training)
    shared = times(make_plan(config, gpus(80)))
    assert shared.step == shared.sampling + shared.training


def test_what_is_told_without_a_gpu() -> None:
    text = told(make_plan(planned("qwen-7b", {}), []))
    assert "7,615,616,512 parameters" in text
    assert "GPUs: none found" in text
    assert "16 tasks x 8 samples = 128 episodes" in text
    assert "there: fresh tasks from the seed" in text
    assert "there: 25 tasks" in text
    assert "made as the run begins: at most 40 tasks each of" in text
    assert "no GPU: nvidia-smi lists none" in text
    assert "hf download Qwen/Qwen2.5-Coder-7B-Instruct" in text


def test_what_is_told_of_gpus() -> None:
    text = told(make_plan(planned("qwen-7b", {"vllm_sleep": True, "staleness": 0}), gpus(80)))
    assert "1 found; trainer on 0, vLLM on 0, in turn (vLLM sleeps during updates)" in text
    text = told(make_plan(planned("qwen-7b", {}), gpus(80, 80, 80)))
    assert "3 found; trainer on 0, vLLM on 2; 1 without work" in text


def test_boxes_that_cannot_run_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GYM_CODE_HOME", "/proc/nowhere")
    plan = make_plan(load_config("tiny", {"sandbox": "namespace"}), [])
    assert any(item.what.startswith("state directory") for item in plan.missing)


def test_a_suite_that_is_not_there_is_missing() -> None:
    plan = make_plan(planned("tiny", {"stages": ["procedural", "nowhere"]}), [])
    assert plan.stages[1] == ("nowhere", "not there")
    assert any("no such suite" in item.what for item in plan.missing)


def test_a_run_that_cannot_start_says_everything_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GYM_CODE_VLLM", "/nowhere/python")
    monkeypatch.setenv("PATH", "")
    config = planned("qwen-7b", {})
    with pytest.raises(ConfigError) as caught:
        require(config)
    said = str(caught.value)
    assert said.startswith("cannot train Qwen/Qwen2.5-Coder-7B-Instruct here: no GPU")
    assert "vLLM is not installed (make vllm)" in said
    assert "the weights are not in" in said
    assert "\n" not in said


def test_a_directory_that_is_not_whole_is_told(tmp_path: Path) -> None:
    layout = write_hub_layout(tmp_path / "model")
    assert make_plan(planned("tiny", {"model": str(layout)}), []).missing == ()
    shard = sorted(layout.glob("*.safetensors"))[0]
    shard.unlink()
    (lack,) = make_plan(planned("tiny", {"model": str(layout)}), []).missing
    assert (lack.what, lack.then) == (f"{layout} has no {shard.name}", "ends")


def test_memory_that_seems_too_small_is_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("train.plan.layout.find_gpus", lambda: gpus(20))
    monkeypatch.setenv("GYM_CODE_VLLM", sys.executable)
    (warning,) = require(planned("qwen-7b", {}))
    assert warning.what == "GPU 0 (NVIDIA H100 80GB HBM3) has 20 GB, 38 GB are needed"


def test_the_reference_run_lacks_nothing() -> None:
    plan = make_plan(planned("tiny", {}), [])
    assert plan.missing == ()
    assert "Missing: nothing" in told(plan)


def test_the_gpus_that_nvidia_smi_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == []
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\necho 'NVIDIA H100 80GB HBM3, 81559'\necho 'NVIDIA L4, 23034'\n")
    smi.chmod(0o755)
    assert find_gpus() == [
        Gpu(name="NVIDIA H100 80GB HBM3", memory=81_559 * 1024**2),
        Gpu(name="NVIDIA L4", memory=23_034 * 1024**2),
    ]
    smi.write_text("#!/bin/sh\nexit 9\n")
    assert find_gpus() == []


def run(tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hf"),
    }
    command = [sys.executable, "-m", "train.grpo", *options]
    return subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120)


def test_the_command_plans_and_leaves_nothing(tmp_path: Path) -> None:
    done = run(tmp_path, "--model", "qwen-32b", "--plan", "--set", "groups=4")
    assert done.returncode == 0, done.stderr
    assert "32,763,876,352 parameters" in done.stdout
    assert "4 tasks x 8 samples" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(bool(find_gpus()), reason="a GPU is here")
def test_without_a_gpu_the_run_ends_at_once_with_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "--model", "qwen-7b")
    assert done.returncode == 2
    (line,) = done.stdout.splitlines()
    assert line.startswith("error: cannot train Qwen/Qwen2.5-Coder-7B-Instruct here: no GPU")
    assert not (tmp_path / "runs").exists()


def test_without_weights_the_run_ends_with_one_line(tmp_path: Path) -> None:
    done = run(tmp_path, "--model", "qwen-7b", "--set", "device=cpu", "--set", "engine=torch")
    assert done.returncode == 2
    (line,) = done.stdout.splitlines()
    assert "hf download Qwen/Qwen2.5-Coder-7B-Instruct" in line
    assert not (tmp_path / "runs").exists()
