"""Episodes in a real box: what stops one, what its patch earns, and whose fault a failure is."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from toys import ADD, LIMITS, ToySuite

from gym_code.episode import NO_CALL, Episode
from gym_code.errors import ConfigError, InputError, SandboxClosed, SandboxError, TaskError
from gym_code.sandbox import open_backend
from gym_code.tools import parse_call
from gym_code.types import Stop, ToolCall

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gym_code.sandbox.base import Backend

pytestmark = pytest.mark.sandbox
SUITE = ToySuite()


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    backend = open_backend("namespace")
    yield backend
    backend.close()


class Clock:
    """Time that passes only when told."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def call(name: str, **arguments: object) -> list[ToolCall]:
    return [parse_call("c1", name, arguments)]


def solve(episode: Episode) -> None:
    old, new = "def add(a, b):\n    return a - b", "def add(a, b):\n    return a + b"
    [result] = episode.act(call("edit", path="calc.py", old=old, new=new))
    assert result.content == "Edited calc.py."


def episode(backend: Backend, **options: Any) -> Episode:
    limits = {key: options.pop(key) for key in list(options) if hasattr(LIMITS, key)}
    return Episode(SUITE, ADD.id, backend, replace(LIMITS, **limits), **options)


def test_law_4_the_solution_earns_1_and_doing_nothing_0(backend: Backend) -> None:
    with episode(backend) as solved, episode(backend) as idle:
        solve(solved)
        assert solved.act(call("submit"))[0].content == "Submitted."
        assert (solved.stop, solved.turns) == (Stop.SUBMITTED, 2)
        assert solved.finish().value == 1.0
        assert solved.patch.startswith(b"diff --git a/calc.py b/calc.py")
        idle.act(call("submit"))
        assert (idle.finish().value, idle.patch) == (0.0, b"")


def test_finish_grades_once_and_gives_the_box_back(backend: Backend) -> None:
    with episode(backend) as one:
        solve(one)
        first = one.finish()
        assert one.finish(Stop.TOKENS) is first
        assert one.stop is Stop.GAVE_UP
        with pytest.raises(SandboxClosed):
            one.state_digest()


def test_export_ends_an_episode_ungraded_and_finish_may_still_grade_it(backend: Backend) -> None:
    with episode(backend) as solved:
        solve(solved)
        patch = solved.export(Stop.TOKENS)
        assert patch.startswith(b"diff --git a/calc.py b/calc.py")
        assert (solved.stop, solved.reward, solved.error) == (Stop.TOKENS, None, None)
        with pytest.raises(SandboxClosed):
            solved.state_digest()
        assert solved.export() == solved.patch == patch
        assert (solved.finish().value, solved.stop) == (1.0, Stop.TOKENS)


def test_law_3_a_patch_that_cannot_be_exported_is_no_empty_one(backend: Backend) -> None:
    with episode(backend) as broken:
        solve(broken)
        broken.close()
        assert broken.export() == b""
        assert broken.error is not None
        assert broken.error.startswith("SandboxClosed: ")
        assert broken.finish().value is None


def test_each_limit_stops_with_its_reason_and_is_graded_as_it_stands(backend: Backend) -> None:
    clock = Clock()
    with (
        episode(backend, turns=1) as turns,
        episode(backend, tokens=100) as tokens,
        episode(backend, cost=0.5) as cost,
        episode(backend, episode_seconds=60.0, clock=clock) as seconds,
    ):
        for each in (turns, tokens, cost):
            solve(each)
        assert [each.stop for each in (turns, tokens, cost)] == [Stop.TURNS, None, None]
        tokens.charge(tokens=99)
        assert tokens.stop is None
        tokens.charge(tokens=1)
        cost.charge(cost=0.5)
        solve(seconds)
        clock.now = 60.0
        seconds.act(call("view", path="calc.py"))
        stops = [each.stop for each in (turns, tokens, cost, seconds)]
        assert stops == [Stop.TURNS, Stop.TOKENS, Stop.COST, Stop.SECONDS]
        assert [each.finish().value for each in (turns, tokens, cost, seconds)] == [1.0] * 4


def test_submitting_in_the_last_turn_is_submitting(backend: Backend) -> None:
    with episode(backend, turns=1) as last:
        last.act(call("submit"))
        assert last.stop is Stop.SUBMITTED


def test_a_command_does_not_outlive_the_episode(backend: Backend) -> None:
    with episode(backend, episode_seconds=1.5) as short:
        before = time.monotonic()
        [result] = short.act(call("bash", command="sleep 60"))
        assert "timed out after" in result.content
        assert time.monotonic() - before < 10
        assert short.stop is Stop.SECONDS


def test_calls_after_the_end_are_not_run(backend: Backend) -> None:
    with episode(backend) as one:
        calls = [*call("submit"), *call("write", path="late.txt", content="x")]
        results = one.act(calls)
        assert [r.content for r in results] == [
            "Submitted.",
            "Error: not run, the episode is over: submitted.",
        ]
        with pytest.raises(InputError, match="the episode is over"):
            one.act(call("submit"))
        one.finish()
        assert one.patch == b""


def test_words_without_a_call_are_answered(backend: Backend) -> None:
    with episode(backend) as one:
        assert one.act([])[0].content == f"Error: {NO_CALL}"
        assert one.act("")[0].content == f"Error: {NO_CALL}"
        assert one.act("the call is not closed.")[0].content == "Error: the call is not closed."
        assert (one.turns, one.turns_left, one.stop) == (3, 7, None)


def test_a_malformed_submit_does_not_submit(backend: Backend) -> None:
    with episode(backend) as one:
        assert one.act(call("submit", now=True))[0].is_error
        assert one.stop is None


def test_only_the_tools_given_can_be_called(backend: Backend) -> None:
    with episode(backend, tools=["view", "submit"]) as one:
        assert one.act(call("bash", command="ls"))[0].content.startswith("Error: unknown tool 'bash'")
    with pytest.raises(ConfigError):
        episode(backend, tools=["fly"])


def test_law_1_episodes_begin_the_same_and_forks_go_on_the_same(backend: Backend) -> None:
    with episode(backend) as one, episode(backend) as two:
        assert one.state_digest() == two.state_digest()
        solve(one)
        assert one.state_digest() != two.state_digest()
        forks = one.fork(2)
        assert {fork.state_digest() for fork in forks} == {one.state_digest()}
        assert [fork.turns for fork in forks] == [1, 1]
        forks[0].act(call("write", path="calc.py", content=""))
        assert [fork.finish().value for fork in forks] == [0.0, 1.0]
        assert one.finish().value == 1.0


def test_law_3_a_sandbox_that_fails_is_our_fault_and_never_a_zero(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with episode(backend) as one, episode(backend) as two:
        one.close()
        results = one.act([*call("view", path="calc.py"), *call("submit")])
        assert results[0].content == "Error: the sandbox failed; this is no fault of yours."
        assert results[1].content == "Error: not run, the episode is over: sandbox fault."
        assert (one.stop, one.finish().value) == (Stop.FAULT, None)
        assert one.error is not None
        assert one.error.startswith("SandboxClosed: ")

        def fail(*_: object) -> bytes:
            raise SandboxError("the disk is gone")

        two.act(call("submit"))
        monkeypatch.setattr(type(two._box), "diff", fail)
        assert two.finish().value is None
        assert (two.stop, two.error) == (Stop.SUBMITTED, "SandboxError: the disk is gone")


@pytest.mark.parametrize(
    "command",
    [
        "rm -rf /testbed/* /testbed/.git",
        "chmod 0 /testbed",
        "kill -9 1; kill -STOP 1; kill -9 $PPID",
        "head -c 300000000 /dev/zero > big",
        "git config core.fsmonitor 'touch /tmp/x'; printf '* filter=evil' > .gitattributes; "
        "git config filter.evil.clean 'touch /tmp/x'; ln -s / root; ln -s . self",
    ],
)
def test_law_3_whatever_an_agent_breaks_in_its_box_is_its_own_0(backend: Backend, command: str) -> None:
    with episode(backend, disk_bytes=32 * 1024**2) as one:
        one.act(call("bash", command=command, timeout=5))
        for name, arguments in (("view", {"path": "."}), ("test", {}), ("search", {"pattern": "def"})):
            [result] = one.act(call(name, **arguments))
            assert result.content
        one.act(call("submit"))
        assert (one.stop, one.finish().value, one.error) == (Stop.SUBMITTED, 0.0, None)


def test_closing_from_another_thread_cancels_a_command(backend: Backend) -> None:
    one = episode(backend)
    threading.Timer(0.5, one.close).start()
    before = time.monotonic()
    [result] = one.act(call("bash", command="sleep 15"))
    assert time.monotonic() - before < 10
    assert (result.is_error, one.stop) == (True, Stop.FAULT)


def test_unknown_tasks(backend: Backend) -> None:
    with pytest.raises(TaskError, match="found nowhere"):
        Episode(SUITE, "nowhere", backend)
