"""Law 10: a replay reproduces every observation and state digest, or names the first that differs."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agents.loop import play
from agents.policy import Decision
from agents.scripted import Random, Scripted
from gym_code import records
from gym_code.episode import Episode
from gym_code.errors import RecordError
from gym_code.replay import Divergence, replay, same_observation
from gym_code.sandbox import open_backend
from gym_code.types import Limits, Stop, ToolCall, ToolResult, Trajectory
from tests.toys import ToySuite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from gym_code.sandbox.base import Backend
    from gym_code.types import JSON, Task

SUITE = ToySuite(packages=("pytest==9.2.0",))


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    backend = open_backend("namespace")
    yield backend
    backend.close()


class Commands(Scripted):
    """Runs commands, one a turn, and submits."""

    name = "commands"

    def __init__(self, *commands: str) -> None:
        super().__init__()
        self._commands = commands

    def script(self, task: Task, tools: Sequence[Mapping[str, JSON]], seed: int) -> Sequence[Decision]:
        calls = [
            ToolCall(id=f"c{n}", name="bash", arguments={"command": c}) for n, c in enumerate(self._commands)
        ]
        calls.append(ToolCall(id="s", name="submit", arguments={}))
        return [Decision(calls=(call,)) for call in calls]


def recorded(backend: Backend, policy: Scripted, limits: Limits | None = None) -> Trajectory:
    with Episode(SUITE, "toy__add-1", backend, limits) as episode:
        return play(policy, episode)


WORK = (
    "sed -i 's/return a - b/return a + b/' calc.py && python -m pytest -q tests",
    "ls -a; git status --short; git diff; mkdir d; ln -s ../calc.py d/link; chmod +x calc.py",
    "printf '\\377\\0' > d/bytes; cat d/bytes; rm README.md; exit 3",
    "python -c 'import calc, os; print(calc.add(2, 3), os.getcwd(), os.environ)'; head -c 20000 /dev/zero",
)


@pytest.mark.sandbox
def test_law_10_a_recorded_episode_replays_the_same(backend: Backend, tmp_path: Path) -> None:
    records.append(
        tmp_path / "a.jsonl", recorded(backend, Commands(*WORK)), recorded(backend, Random(turns=6))
    )
    for trajectory in records.read(tmp_path / "a.jsonl").trajectories:
        report = replay(trajectory, SUITE, backend, grade=True)
        assert report.divergence is None, str(report.divergence)
        assert report.turns == len(trajectory.turns)
        assert report.reward is not None
        assert trajectory.reward is not None
        assert report.reward.value == trajectory.reward.value


@pytest.mark.sandbox
def test_law_10_the_first_observation_that_differs_is_named(backend: Backend) -> None:
    trajectory = recorded(backend, Commands("echo same", "cat /proc/sys/kernel/random/uuid", "echo never"))
    found = replay(trajectory, SUITE, backend).divergence
    assert found is not None
    assert (found.turn, found.what) == (2, "observation")
    assert found.recorded == trajectory.turns[1].results[0].content
    assert str(found).startswith("turn 2: observation differs")


@pytest.mark.sandbox
def test_law_10_a_state_that_differs_is_named(backend: Backend) -> None:
    trajectory = recorded(backend, Commands("cat /proc/sys/kernel/random/uuid > id", "echo never"))
    found = replay(trajectory, SUITE, backend).divergence
    assert found is not None
    assert (found.turn, found.what, found.recorded) == (1, "state digest", trajectory.turns[0].state_digest)


@pytest.mark.sandbox
def test_law_10_patch_and_reward_are_compared_where_asked(backend: Backend) -> None:
    trajectory = recorded(backend, Commands("echo > new"))
    assert trajectory.reward is not None
    forged = replace(trajectory, reward=replace(trajectory.reward, value=1.0))
    assert replay(forged, SUITE, backend).divergence is None
    assert replay(forged, SUITE, backend, grade=True).divergence == Divergence(
        turn=2, what="reward", recorded="1.0", replayed="0.0"
    )
    other = replay(replace(trajectory, patch=b""), SUITE, backend, grade=True).divergence
    assert other is not None
    assert other.what == "patch"


@pytest.mark.sandbox
def test_how_the_episode_ended_is_compared(backend: Backend) -> None:
    trajectory = recorded(backend, Commands("true", "true"))
    early = replace(trajectory, limits=replace(trajectory.limits, turns=1))
    assert replay(early, SUITE, backend).divergence == Divergence(
        turn=2, what="stop", recorded="none", replayed="turn limit"
    )
    unsubmitted = replace(trajectory, turns=trajectory.turns[:2])
    assert replay(unsubmitted, SUITE, backend).divergence == Divergence(
        turn=2, what="stop", recorded="submitted", replayed="none"
    )


@pytest.mark.sandbox
def test_clock_tokens_and_cost_do_not_stop_a_replay(backend: Backend) -> None:
    trajectory = recorded(backend, Commands("true", "true", "true"))
    limits = replace(trajectory.limits, episode_seconds=0.001, tokens=1, cost=0.1)
    assert replay(replace(trajectory, limits=limits), SUITE, backend).divergence is None


@pytest.mark.sandbox
def test_a_turn_cut_short_by_the_clock_is_not_compared(backend: Backend) -> None:
    trajectory = recorded(backend, Commands("sleep 30"), Limits(episode_seconds=0.5))
    assert trajectory.stop is Stop.SECONDS
    slow = replace(trajectory, limits=replace(trajectory.limits, exec_seconds=0.2))
    assert replay(slow, SUITE, backend).divergence is None


@pytest.mark.sandbox
def test_words_without_a_call_replay_what_they_were_told(backend: Backend) -> None:
    class Talker(Scripted):
        name = "talker"

        def script(self, task: Task, tools: Sequence[Mapping[str, JSON]], seed: int) -> Sequence[Decision]:
            return [Decision(text="<", problem="not closed."), Decision(text="hm")]

    trajectory = recorded(backend, Talker())
    assert trajectory.turns[0].results == (
        ToolResult(call_id="", content="Error: not closed.", is_error=True),
    )
    assert replay(trajectory, SUITE, backend).divergence is None


def test_a_task_that_has_changed_is_refused() -> None:
    trajectory = Trajectory(task_id="toy__add-1", task_digest="00")
    with pytest.raises(
        RecordError, match=r"toy__add-1: the task has changed .* .expected task digest 00, found"
    ):
        replay(trajectory, SUITE, open_backend("memory"))


@pytest.mark.parametrize(
    ("recorded", "replayed", "same"),
    [
        ("2 passed in 0.03s", "2 passed in 1.27s", True),
        ("took 3 seconds", "took 12 seconds", True),
        ("ran 0:00:01", "ran 0:01:12.5", True),
        ("2 passed in 0.03s", "3 passed in 0.03s", False),
        ("items 3", "items 4", False),
        ("v1.2s3", "v1.3s3", False),
    ],
)
def test_durations_are_the_only_volatile_values(recorded: str, replayed: str, same: bool) -> None:
    assert same_observation(recorded, replayed) is same


def test_a_divergence_shows_where_the_texts_part() -> None:
    found = Divergence(turn=4, what="observation", recorded="a" * 100 + "b", replayed="a" * 100 + "c")
    assert str(found) == "turn 4: observation differs from character 100: recorded 'b', replayed 'c'"
