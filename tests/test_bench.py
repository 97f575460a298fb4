"""benchmarks/sandbox: what is said of samples, and what the contestants are given to do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agents.loop import play
from benchmarks.page import between_marks
from benchmarks.sandbox import results
from benchmarks.sandbox.contestants import Peer, Worker
from benchmarks.sandbox.peer import Job
from benchmarks.sandbox.peers import unpack_command, write_repository
from gym_code.cli.bench import Subject
from gym_code.episode import Episode
from gym_code.errors import InputError, SandboxError
from gym_code.sandbox.namespace import NamespaceBackend
from gym_code.task import load_suite
from gym_code.types import File

if TYPE_CHECKING:
    from collections.abc import Sequence

JOB = Job(
    image="none", tree="/nowhere", workdir="/testbed", gold="", graded="", visible="", tests="", python=""
)


def samples(docker: Sequence[float], cli: Sequence[float]) -> results.Samples:
    return {results.DOCKER: {"exec": docker}, results.CLI: {"exec": cli}}


def test_the_ratio_of_medians_and_its_interval() -> None:
    assert results.ratio_of_medians([8.0, 9.0, 10.0], [3.0] * 5)[0] == 3.0
    assert results.ratio_of_medians([12.0] * 4, [3.0] * 4) == (4.0, (4.0, 4.0))
    ratio, (low, high) = results.ratio_of_medians([1.0, 10.0, 100.0] * 5, [1.0] * 5)
    assert (ratio, low, high) == (10.0, 1.0, 100.0)
    with pytest.raises(InputError, match="no samples"):
        results.ratio_of_medians([], [1.0])


def test_medians_and_p99_are_of_all_samples() -> None:
    rows = results.summarize(samples([0.001 * n for n in range(1, 101)], [1.0]))["operations"]
    assert rows[results.DOCKER]["exec"] == {"samples": 100, "median_ms": 50.5, "p99_ms": 99.0}


def test_a_required_outcome_is_met_only_by_its_whole_interval() -> None:
    def step(docker: Sequence[float], cli: Sequence[float]) -> str:
        return results.verdict(results.summarize(samples(docker, cli))["required"][0])

    assert "PASS" in step([0.001] * 9, [0.010] * 9)
    assert "FALLS SHORT" in step([0.001] * 9, [0.0099] * 9)
    # The median is 20 times faster, the lower end of the interval is not.
    assert "FALLS SHORT" in step([0.001] * 9, [0.002] * 3 + [0.020] * 6)
    assert "NOT MEASURED" in results.verdict(results.summarize({})["required"][0])


def test_the_tables() -> None:
    found = results.summarize(samples([0.004, 0.005, 0.006], [0.050, 0.060, 0.070]))
    machine = {"load_at_start": 0.3, "cores": 4}
    text = results.markdown({**found, "throughput": [], "alive": [], "machine": machine})
    assert text.splitlines()[0] == "| milliseconds: median (p99) | gym-code docker | docker run / exec |"
    assert "| step: `true` | 5.00 (6.00) | 60.0 (70.0) |" in text
    assert "| gym-code docker against docker run / exec |  | 12.0 [8.33, 17.5] |" in text
    assert "- samples: 3 exec\n- load average when it began: 0.3 on 4 cores\n" in text


def test_the_page_keeps_what_stands_around_the_tables() -> None:
    page = "head\n<!-- benchmarks.sandbox: begin -->\nold\n<!-- benchmarks.sandbox: end -->\ntail\n"
    assert between_marks(page, "benchmarks.sandbox", "new\n") == page.replace("old", "new")
    with pytest.raises(InputError, match="no place for the tables"):
        between_marks("no marks", "benchmarks.sandbox", "new\n")


def test_the_command_that_makes_the_changes(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    write_repository(tree, {"old.py": File(content=b"1\n"), "run": File(content=b"#!", executable=True)})
    changes = {"old.py": None, "new/a b.py": File(content=b"2\n", executable=True)}
    subprocess.run(["bash", "-c", unpack_command(changes)], cwd=tree, check=True)
    status = subprocess.run(
        ["git", "status", "--porcelain", "-uall"], cwd=tree, capture_output=True, text=True, check=True
    ).stdout
    assert status == ' D old.py\n?? "new/a b.py"\n'
    assert (tree / "new/a b.py").stat().st_mode & 0o777 == 0o755


def test_a_peer_that_fails_says_so() -> None:
    peer = Peer("docker run / exec", "docker-cli", Path(sys.executable), JOB, {"PATH": "/nowhere"})
    try:
        with pytest.raises(SandboxError, match=r"docker run / exec: reset: .*'docker'"):
            peer.measure("reset")
    finally:
        peer.close()


@pytest.mark.sandbox
def test_the_scripted_agent_looks_edits_tests_and_solves() -> None:
    suite = load_suite("starter")
    task_id = suite.ids()[0]
    with NamespaceBackend() as backend, Episode(suite, task_id, backend) as episode:
        trajectory = play(Worker(suite=suite), episode)
    names = [call.name for turn in trajectory.turns for call in turn.calls]
    assert names == ["bash", "search", "view", *["edit"] * 4, "test", "submit"]
    assert not any(result.is_error for turn in trajectory.turns for result in turn.results)
    assert trajectory.reward is not None
    assert trajectory.reward.value == 1.0


@pytest.mark.sandbox
def test_every_operation_is_timed_and_a_reset_begins_anew() -> None:
    suite = load_suite("starter")
    with NamespaceBackend() as backend:
        subject = Subject(suite, suite.ids()[0], backend)
        subject.measure("write")
        assert b"bench.txt" in subject.box.diff()
        assert 0 < subject.measure("restore") < 10
        assert subject.box.read("bench.txt") == b"one line\n"
        assert 0 < subject.measure("reset") < 10
        assert subject.box.diff() == b""
        for operation in ("exec", "shell", "python", "diff", "digest", "snapshot", "fork", "once"):
            assert 0 < subject.measure(operation) < 10, operation
