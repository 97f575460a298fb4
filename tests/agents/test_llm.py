"""The chat policy against a real HTTP server that speaks the protocol."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from agents.llm import ChatPolicy
from agents.loop import play
from agents.policy import ContextFullError, PolicyError, load_policy
from gym_code.episode import Episode
from gym_code.errors import ConfigError
from gym_code.sandbox import open_backend
from gym_code.tools import MALFORMED, openai_tools
from gym_code.types import Stop, Task
from tests.agents.endpoint import answer, failure
from tests.toys import ToySuite

if TYPE_CHECKING:
    from tests.agents.endpoint import Endpoint

TASK = Task(id="calc__add-1", instruction="Add.", base_commit="0" * 40)
OPENING = [{"role": "user", "content": "Add."}]


def policy(endpoint: Endpoint, **options: Any) -> ChatPolicy:
    made = ChatPolicy(model="m", base_url=endpoint.url, **options)
    made.begin(TASK, openai_tools(), seed=3)
    return made


def test_a_conversation_with_tool_calls(endpoint: Endpoint) -> None:
    endpoint.answers = [
        answer("Look.", ("c1", "view", '{"path": "calc.py"}')),
        answer(None, ("c2", "submit", "{}")),
    ]
    agent = policy(endpoint, sampling={"temperature": 0.5}, prompt_price=2.0, completion_price=10.0)

    first = agent.decide(OPENING)
    assert first.text == "Look."
    assert [(c.id, c.name, c.arguments) for c in first.calls] == [("c1", "view", {"path": "calc.py"})]
    assert first.tokens == 1050
    assert first.cost == pytest.approx((1000 * 2.0 + 50 * 10.0) / 1e6)

    second = agent.decide([{"role": "tool", "tool_call_id": "c1", "content": "x = 1\n"}])
    assert [c.name for c in second.calls] == ["submit"]
    assert second.text == ""

    asked = endpoint.requests[1]
    assert asked["path"] == "/v1/chat/completions"
    assert (asked["model"], asked["seed"], asked["temperature"]) == ("m", 3, 0.5)
    assert [tool["function"]["name"] for tool in asked["tools"]] == [
        t["function"]["name"] for t in openai_tools()
    ]
    function = {"name": "view", "arguments": '{"path": "calc.py"}'}
    assert asked["messages"] == [
        {"role": "user", "content": "Add."},
        {
            "role": "assistant",
            "content": "Look.",
            "tool_calls": [{"id": "c1", "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "x = 1\n"},
    ]
    assert agent.sampling == {"model": "m", "temperature": 0.5}


def test_begin_forgets_the_last_episode(endpoint: Endpoint) -> None:
    endpoint.answers = [answer("a"), answer("b")]
    agent = policy(endpoint)
    agent.decide(OPENING)
    agent.begin(TASK, openai_tools(), seed=4)
    agent.decide(OPENING)
    assert endpoint.requests[1]["messages"] == OPENING
    assert endpoint.requests[1]["seed"] == 4


def test_malformed_arguments_reach_the_episode_and_go_back_as_json(endpoint: Endpoint) -> None:
    endpoint.answers = [answer("", ("c1", "bash", '{"command": "ls')), answer("")]
    agent = policy(endpoint)
    decision = agent.decide(OPENING)
    assert decision.calls[0].arguments == {MALFORMED: '{"command": "ls'}
    agent.decide([{"role": "tool", "tool_call_id": "c1", "content": "Error: not JSON"}])
    sent = endpoint.requests[1]["messages"][1]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(sent) == {MALFORMED: '{"command": "ls'}


def test_repeated_and_empty_call_ids_are_made_unique(endpoint: Endpoint) -> None:
    calls = [("c1", "view", "{}"), ("c1", "view", "{}"), ("", "view", "{}")]
    endpoint.answers = [answer("", *calls), answer("", ("c1", "view", "{}"))]
    agent = policy(endpoint)
    ids = [c.id for c in agent.decide(OPENING).calls] + [c.id for c in agent.decide([]).calls]
    assert ids[0] == "c1"
    assert len(set(ids)) == 4


def test_busy_and_broken_servers_are_asked_again(endpoint: Endpoint) -> None:
    endpoint.answers = [failure(429, "slow down"), failure(503, "starting"), answer("hello")]
    assert policy(endpoint).decide(OPENING).text == "hello"
    assert len(endpoint.requests) == 3


def test_an_endpoint_that_keeps_failing_is_a_policy_error(endpoint: Endpoint) -> None:
    endpoint.answers = [failure(500, "broken")] * 3
    with pytest.raises(PolicyError, match=r"m: HTTP 500: .*broken"):
        policy(endpoint, max_retries=2).decide(OPENING)
    assert endpoint.answers == []


def test_a_refused_request_is_not_repeated(endpoint: Endpoint) -> None:
    endpoint.answers = [failure(401, "wrong key")]
    with pytest.raises(PolicyError, match="HTTP 401"):
        policy(endpoint).decide(OPENING)
    assert len(endpoint.requests) == 1


def test_a_full_context_is_told_apart(endpoint: Endpoint) -> None:
    endpoint.answers = [failure(400, "too long", "context_length_exceeded")]
    with pytest.raises(ContextFullError):
        policy(endpoint).decide(OPENING)


def test_an_answer_without_usage_counts_no_tokens(endpoint: Endpoint) -> None:
    endpoint.answers = [answer("x", usage=False)]
    assert policy(endpoint).decide(OPENING).tokens == 0


def test_an_answer_without_choices_is_a_policy_error(endpoint: Endpoint) -> None:
    status, body = answer("x")
    endpoint.answers = [(status, body | {"choices": []})]
    with pytest.raises(PolicyError, match="holds no choices"):
        policy(endpoint).decide(OPENING)


def test_nobody_listens() -> None:
    agent = ChatPolicy(model="m", base_url="http://127.0.0.1:9/v1", max_retries=0, timeout=5)
    agent.begin(TASK, (), seed=0)
    with pytest.raises(PolicyError, match="m: Connection error"):
        agent.decide(OPENING)


def test_no_endpoint_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    with pytest.raises(ConfigError, match="expected base_url or OPENAI_API_KEY"):
        load_policy("llm", {"model": "m"})


@pytest.mark.sandbox
def test_an_episode_over_http_is_solved_after_a_malformed_call(endpoint: Endpoint) -> None:
    edit = {"path": "calc.py", "old": "add(a, b):\n    return a - b", "new": "add(a, b):\n    return a + b"}
    endpoint.answers = [
        answer("", ("c1", "edit", '{"path": "calc.py", ')),
        failure(502, "bad gateway"),
        answer("Again.", ("c2", "edit", json.dumps(edit)), ("c3", "test", "{}")),
        answer("", ("c4", "submit", "{}")),
    ]
    backend = open_backend("namespace")
    try:
        with Episode(ToySuite(packages=("pytest==9.2.0",)), "toy__add-1", backend) as episode:
            trajectory = play(policy(endpoint), episode)
    finally:
        backend.close()
    contents = [[result.content for result in turn.results] for turn in trajectory.turns]
    assert contents[0][0].startswith("Error: edit: the arguments are not JSON:")
    assert contents[1:] == [["Edited calc.py.", "2 passed, 0 failed"], ["Submitted."]]
    assert (trajectory.stop, episode.tokens) == (Stop.SUBMITTED, 3150)
    assert trajectory.reward is not None
    assert trajectory.reward.value == 1.0
    roles = [message["role"] for message in endpoint.requests[-1]["messages"]]
    assert roles == ["system", "user", "assistant", "tool", "assistant", "tool", "tool"]
