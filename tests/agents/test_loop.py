"""Episodes played in real boxes, and graded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from agents.loop import SILENT_TURNS, gave_up, play
from agents.policy import ContextFullError, Decision, PolicyError, load_policy
from agents.scripted import NoOp, Scripted
from gym_code.episode import Episode
from gym_code.errors import SandboxError
from gym_code.sandbox import open_backend
from gym_code.types import Completion, Limits, Stop, ToolCall, Trajectory, Turn
from tests.toys import ToySuite

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agents.policy import Message, Policy
    from gym_code.sandbox.base import Backend

pytestmark = pytest.mark.sandbox
SUITE = ToySuite(packages=("pytest==9.2.0",))
VIEW = ToolCall(id="v", name="view", arguments={"path": "calc.py"})


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    backend = open_backend("namespace")
    yield backend
    backend.close()


class Listed(Scripted):
    """Plays a list of decisions, keeps what it is told; an exception in the list is raised."""

    name = "listed"

    def __init__(self, *decisions: Decision | PolicyError) -> None:
        super().__init__()
        self.listed = list(decisions)
        self.told: list[tuple[Message, ...]] = []

    def decide(self, messages: Sequence[Message]) -> Decision:
        self.told.append(tuple(messages))
        step = self.listed.pop(0) if self.listed else Decision()
        if isinstance(step, PolicyError):
            raise step
        return step


def played(policy: Policy, backend: Backend, limits: Limits | None = None, **options: Any) -> Trajectory:
    with Episode(SUITE, "toy__add-1", backend, limits) as episode:
        return play(policy, episode, **options)


@pytest.mark.parametrize("task_id", SUITE.ids())
def test_law_4_the_oracle_scores_1_and_the_noop_0(backend: Backend, task_id: str) -> None:
    rewards = []
    for name in ("oracle", "noop"):
        with Episode(SUITE, task_id, backend) as episode:
            trajectory = play(load_policy(name, suite=SUITE), episode)
        assert (trajectory.stop, trajectory.error) == (Stop.SUBMITTED, None)
        assert trajectory.reward is not None
        rewards.append(trajectory.reward.value)
    assert rewards == [1.0, 0.0]


def test_a_trajectory_holds_the_episode(backend: Backend) -> None:
    oracle = load_policy("oracle", suite=SUITE)
    trajectory = played(oracle, backend, seed=5, suite="toys", group_id="g1", sample_id="s2")
    assert (trajectory.agent, trajectory.suite, trajectory.seed) == ("oracle", "toys", 5)
    assert (trajectory.group_id, trajectory.sample_id) == ("g1", "s2")
    assert trajectory.task_digest == SUITE.task("toy__add-1").digest
    assert trajectory.backend == backend.fingerprint()
    assert trajectory.limits == SUITE.task("toy__add-1").limits
    edit, submit = trajectory.turns
    assert [message["role"] for message in edit.messages] == ["system", "user"]
    assert edit.messages[1]["content"] == "`add` must return the sum of its arguments."
    assert [result.content for result in edit.results] == ["Edited calc.py."]
    assert submit.messages == ({"role": "tool", "tool_call_id": "oracle-1", "content": "Edited calc.py."},)
    assert edit.state_digest == submit.state_digest != ""
    assert b"+    return a + b" in trajectory.patch
    assert set(trajectory.timings) == {"policy_seconds", "tool_seconds", "grade_seconds"}


def test_sampled_tokens_are_kept_as_they_are(backend: Backend) -> None:
    sampled = Completion(token_ids=(5, 6), logprobs=(-0.1, -0.2), text="", finish_reason="stop")
    policy = Listed(Decision(calls=(VIEW,), prompt_token_ids=(1, 2, 3), completion=sampled))
    turn = played(policy, backend).turns[0]
    assert (turn.prompt_token_ids, turn.completion) == ((1, 2, 3), sampled)


def test_a_policy_without_words_or_calls_gave_up_and_is_graded(backend: Backend) -> None:
    trajectory = played(Listed(Decision(calls=(VIEW,)), Decision()), backend)
    assert trajectory.stop is Stop.GAVE_UP
    assert len(trajectory.turns) == 2
    assert trajectory.reward is not None
    assert trajectory.reward.value == 0.0


def test_a_policy_that_only_talks_is_told_and_then_gave_up(backend: Backend) -> None:
    policy = Listed(*[Decision(text="Let me think.")] * 9)
    trajectory = played(policy, backend)
    assert trajectory.stop is Stop.GAVE_UP
    assert len(trajectory.turns) == SILENT_TURNS == 3
    [told] = policy.told[1]
    assert told["role"] == "user"
    assert told["content"].startswith("Error: no tool call was found")


def test_a_problem_in_the_words_is_what_the_policy_is_told(backend: Backend) -> None:
    policy = Listed(Decision(text="<call", problem="the call is not closed."), *NOOP)
    trajectory = played(policy, backend)
    assert policy.told[1] == ({"role": "user", "content": "Error: the call is not closed."},)
    assert trajectory.stop is Stop.SUBMITTED


NOOP = (Decision(calls=(ToolCall(id="s", name="submit", arguments={}),)),)


@pytest.mark.parametrize(
    ("limits", "stop", "turns"),
    [
        (Limits(turns=2), Stop.TURNS, 2),
        (Limits(tokens=250), Stop.TOKENS, 3),
        (Limits(cost=0.5), Stop.COST, 1),
    ],
)
def test_a_limit_stops_and_the_episode_is_graded_as_it_stands(
    backend: Backend, limits: Limits, stop: Stop, turns: int
) -> None:
    trajectory = played(Listed(*[Decision(calls=(VIEW,), tokens=100, cost=0.5)] * 9), backend, limits)
    assert (trajectory.stop, len(trajectory.turns)) == (stop, turns)
    assert trajectory.reward is not None
    assert trajectory.reward.value == 0.0


def test_the_submission_counts_even_where_its_tokens_reach_the_limit(backend: Backend) -> None:
    submit = Decision(calls=NOOP[0].calls, tokens=10**6)
    assert played(Listed(submit), backend, Limits(tokens=10)).stop is Stop.SUBMITTED


def test_a_full_context_ends_like_the_token_limit(backend: Backend) -> None:
    trajectory = played(Listed(Decision(calls=(VIEW,)), ContextFullError("too long")), backend)
    assert (trajectory.stop, len(trajectory.turns), trajectory.error) == (Stop.TOKENS, 1, None)
    assert trajectory.reward is not None
    assert trajectory.reward.value == 0.0


def test_a_policy_that_fails_leaves_its_turns_and_no_reward(backend: Backend) -> None:
    trajectory = played(Listed(Decision(calls=(VIEW,)), PolicyError("HTTP 500")), backend)
    assert (trajectory.stop, trajectory.reward, len(trajectory.turns)) == (None, None, 1)
    assert trajectory.error == "PolicyError: HTTP 500"


def test_law_3_a_sandbox_that_fails_is_never_a_zero(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise SandboxError("the box is gone")

    with Episode(SUITE, "toy__add-1", backend) as episode:
        monkeypatch.setattr("gym_code.episode.run_tool", broken)
        trajectory = play(NoOp(), episode)
    assert trajectory.stop is Stop.FAULT
    assert trajectory.error == "SandboxError: the box is gone"
    assert trajectory.reward is not None
    assert trajectory.reward.value is None


def test_silence_counts_only_in_a_row() -> None:
    def turn(text: str, *calls: ToolCall) -> Turn:
        said = Completion(token_ids=(), logprobs=(), text=text, finish_reason="stop")
        return Turn(completion=said, calls=calls)

    talk, act, nothing = turn("hm"), turn("", VIEW), turn("")
    assert not gave_up([])
    assert not gave_up([talk, talk, act])
    assert not gave_up([talk, act, talk, talk])
    assert gave_up([act, talk, talk, talk])
    assert gave_up([act, nothing])
