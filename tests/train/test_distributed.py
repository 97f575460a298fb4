"""Two processes, as torchrun starts them, against one alone; and what becomes of them when one dies."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from gym_code.errors import ConfigError
from gym_code.types import Segment
from tests.train.two_ranks import CASES, play
from train.config import load_config
from train.distributed import Ranks, deal, joined, shares

ROOT = Path(__file__).parents[2]
CLOSE = 1e-6


def segment(group: str, length: int) -> Segment:
    ones = (1,) * length
    return Segment(
        task_id="t",
        group_id=group,
        token_ids_T=ones,
        action_mask_T=ones,
        logprobs_T=(0.0,) * length,
        advantages_T=(0.0,) * length,
    )


def lengths(hands: list[list[Segment]]) -> list[list[int]]:
    return [[len(s.token_ids_T) for s in hand] for hand in hands]


def test_segments_are_dealt_by_tokens_in_their_order() -> None:
    segments = [segment(str(n), length) for n, length in enumerate([3, 9, 4, 5])]
    # 9 to the first; 5 and then 4 to the second (5 < 9); 3 to the one with 9, which ties, and comes first.
    assert lengths(deal(segments, 2, whole_groups=False)) == [[3, 9], [4, 5]]
    assert lengths(deal(segments, 1, whole_groups=False)) == [[3, 9, 4, 5]]
    assert lengths(deal(segments[:1], 3, whole_groups=False)) == [[3], [], []]
    groups = [segment(*args) for args in (("a", 3), ("b", 9), ("a", 4), ("a", 5))]
    assert lengths(deal(groups, 2, whole_groups=True)) == [[3, 4, 5], [9]]


def test_a_rank_with_fewer_forwards_goes_along_with_a_short_one() -> None:
    segments = [segment(str(n), length) for n, length in enumerate([3, 9, 4, 5])]
    of = [shares(segments[:3], Ranks(rank, 2), tokens=6, whole_groups=False) for rank in (0, 1)]
    # 9 at rank 0; 4 and 3 at rank 1, which do not fit into 6 together.
    assert [(lengths([some])[0], counts) for some, counts in of[0]] == [([9], True), ([3], False)]
    assert [(lengths([some])[0], counts) for some, counts in of[1]] == [([3], True), ([4], True)]
    assert len(shares(segments, Ranks(), tokens=0, whole_groups=False)) == 1


def torchrun(logs: Path) -> list[str]:
    """Two processes; without a directory for its logs it leaves one in /tmp."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return [*command, "--log-dir", str(logs)]


@pytest.fixture(scope="module")
def together(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What rank 0 and rank 1 made of each case."""
    directory = tmp_path_factory.mktemp("ranks")
    subprocess.run(
        [*torchrun(directory), "-m", "tests.train.two_ranks", str(directory)],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        check=True,
        timeout=300,
    )
    first, second = (torch.load(directory / f"rank-{rank}.pt", weights_only=True) for rank in (0, 1))
    return {name: [first[name], second[name]] for name in first}


@pytest.mark.slow
@pytest.mark.parametrize("sharding", ["ddp", "fsdp"])
@pytest.mark.parametrize("name", CASES)
def test_two_ranks_learn_what_one_learns(
    together: dict[str, list[dict[str, Any]]], sharding: str, name: str
) -> None:
    wanted = play(Ranks(), "none", CASES[name])
    made, followed = together[f"{sharding}: {name}"]
    moved = largest(wanted["adapters"][0], wanted["adapters"][1])
    assert moved > 100 * CLOSE
    for ours, theirs in zip(made["adapters"], wanted["adapters"], strict=True):
        assert largest(ours, theirs) <= CLOSE
    assert largest(made["adapters"][-1], followed["adapters"][-1]) == 0, "the ranks have not parted"
    for ours, theirs in zip(made["rows"], wanted["rows"], strict=True):
        assert ours.keys() == theirs.keys()
        same = set(ours) - {"ratio_p01", "ratio_p99", "masked"}  # these are means over forwards
        assert {k: ours[k] for k in same} == pytest.approx({k: theirs[k] for k in same}, rel=1e-4, abs=2e-5)
    for ours, theirs in zip(made["probes"], wanted["probes"], strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-5


def largest(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> float:
    return max(float((ours[name] - theirs[name]).abs().max()) for name in ours)


LEADER = """
import sys
from train.distributed import joined
with joined("ddp", "cpu"):
    print("here", flush=True)
    sys.stdin.read()
"""
HALF_JOINED = """
import sys
import torch.distributed as dist
dist.init_process_group("gloo")
print("here", flush=True)
sys.stdin.read()
"""
FOLLOWER = """
from train.distributed import joined
with joined("ddp", "cpu") as ranks:
    print("joined", flush=True)
    ranks.follow()
"""


def start(rank: int, port: int, code: str) -> subprocess.Popen[str]:
    launched = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": 2,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
    }
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=os.environ | {name: str(value) for name, value in launched.items()},
    )


@contextmanager
def both(leading: str) -> Iterator[tuple[subprocess.Popen[str], subprocess.Popen[str]]]:
    """Rank 0, which has said that it is there, and rank 1."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    leader, follower = start(0, port, leading), start(1, port, FOLLOWER)
    try:
        assert leader.stdout is not None
        assert leader.stdout.readline() == "here\n"
        yield leader, follower
    finally:
        for process in (leader, follower):
            process.kill()
            process.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("killed", [True, False])
def test_the_others_end_with_rank_0(killed: bool) -> None:
    with both(LEADER) as (leader, follower):
        assert follower.stdout is not None
        assert follower.stdout.readline() == "joined\n"
        if killed:
            leader.send_signal(signal.SIGKILL)
        else:
            leader.communicate("")
        _, said = follower.communicate(timeout=120)
        assert follower.returncode == (1 if killed else 0), said
        assert ("RankLost: rank 1: rank 0 is gone" in said) == killed


@pytest.mark.slow
def test_a_rank_0_that_ends_while_they_join_is_named() -> None:
    with both(HALF_JOINED) as (leader, follower):
        leader.send_signal(signal.SIGKILL)
        _, said = follower.communicate(timeout=120)
        assert follower.returncode == 1, said
        assert "RankLost: rank 1: the processes of the run do not come together: " in said


def test_processes_and_sharding_must_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(ConfigError, match=r"sharding: torchrun starts .*found ddp without torchrun"),
        joined("ddp"),
    ):
        pass
    with joined("none", "cpu") as ranks:
        assert (ranks.rank, ranks.size) == (0, 1)
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="found none under torchrun"), joined("none"):
        pass


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"sharding": "fsdp"},
            r"engine: the torch engine samples in rank 0.*expected vllm with sharding = fsdp",
        ),
        ({"vllm_sleep": True}, "vllm_sleep: only vLLM servers sleep"),
    ],
)
def test_what_cannot_share_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        load_config("tiny", options)
    load_config("tiny", options | {"engine": "vllm", "staleness": 0})


CONFIG = """
model = "tiny"
steps = 1
groups = 4
group_size = 4
held_out_families = ["same_word"]
eval_tasks = 2
eval_held_out_tasks = 1
eval_samples = 1
workers = 2
"""


@pytest.mark.sandbox
@pytest.mark.slow
def test_a_run_under_torchrun(tmp_path: Path) -> None:
    (tmp_path / "small.toml").write_text(CONFIG)
    command = [*torchrun(tmp_path), "-m", "train.grpo", "--model", "small.toml", "--name", "r"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    command += ["--threads", "1", "--sharding", "ddp"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=600)
    assert (tmp_path / "runs/r/checkpoints/LATEST").read_text() == "step-00001"
    (row,) = (tmp_path / "runs/r/metrics.jsonl").read_text().splitlines()
    assert json.loads(row)["grad_norm"] > 0
    assert (tmp_path / "runs/r/summary.json").is_file()
