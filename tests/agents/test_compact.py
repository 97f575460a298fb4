"""Long conversations with an endpoint whose context is short: what is left out, and what the record says."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from agents.compact import TURNS_LEFT_OUT, Conversation, shown
from agents.llm import SUMMARY, ChatPolicy
from agents.loop import play
from agents.policy import ContextFullError
from agents.scripted import Replay
from gym_code.episode import Episode
from gym_code.errors import ConfigError
from gym_code.sandbox.memory import MemoryBackend
from gym_code.tools import openai_tools
from gym_code.types import Limits, Stop, Task, Trajectory
from tests.agents.endpoint import answer, failure
from tests.toys import ADD, ToySuite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agents.policy import Message
    from tests.agents.endpoint import Answer, Endpoint

BIG = "".join(f"line {number}\n" for number in range(200))
SUITE = ToySuite(replace(ADD, start={**ADD.start, "big.txt": BIG}))
OPENING = [{"role": "system", "content": "You work."}, {"role": "user", "content": "Add."}]


def turn(number: int, result: str = "r" * 400) -> list[Message]:
    call = {"id": f"c{number}", "type": "function", "function": {"name": "view", "arguments": "{}"}}
    return [
        {"role": "assistant", "content": f"Turn {number}.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": result},
    ]


def conversation(turns: int, keep: int = 2) -> Conversation:
    messages = [*OPENING, *(message for number in range(1, turns + 1) for message in turn(number))]
    return Conversation(messages, keep_turns=keep)


def contents(messages: Sequence[Message]) -> list[str]:
    return [message["content"][:12] for message in messages]


def test_the_oldest_results_go_first_and_the_last_turns_stay() -> None:
    talk = conversation(4)
    before = talk.characters
    [note] = talk.shorten_results(before - 100)  # one result is more than enough
    assert note["tool_call_id"] == "c1"
    assert note["content"].startswith("[This result of 400 characters was left out")
    whole = ["Turn 2.", "r" * 12, "Turn 3.", "r" * 12, "Turn 4.", "r" * 12]
    assert contents(talk.messages) == ["You work.", "Add.", "Turn 1.", "[This result", *whole]
    assert [note["tool_call_id"] for note in talk.shorten_results(0)] == ["c2"]
    assert talk.shorten_results(0) == []


def test_a_result_shorter_than_its_note_stays() -> None:
    talk = Conversation([*OPENING, *turn(1, "ok"), *turn(2), *turn(3)], keep_turns=1)
    assert [note["tool_call_id"] for note in talk.shorten_results(0)] == ["c2"]


def test_turns_go_as_a_whole_and_the_task_tells_so() -> None:
    talk = conversation(4)
    [message] = talk.leave_out_turns()
    assert message[TURNS_LEFT_OUT] == 2
    assert contents(talk.messages) == [
        "You work.",
        "Add.\n\n[Turns",
        "Turn 3.",
        "r" * 12,
        "Turn 4.",
        "r" * 12,
    ]
    assert not any(TURNS_LEFT_OUT in message for message in talk.messages)
    assert talk.leave_out_turns() == []
    for message in turn(5):
        talk.apply(message)
    [message] = talk.leave_out_turns("I found it.")
    assert message[TURNS_LEFT_OUT] == 3
    assert message["content"] == (
        "Add.\n\n[Turns 1 to 3 of your work were left out to save room. Your summary of them:\nI found it.]"
    )


class Narrow:
    """An endpoint with a window of so many tokens, four characters each; views calc.py until `turns`."""

    def __init__(self, endpoint: Endpoint, window: int, turns: int, refusal: Answer) -> None:
        self.window, self.turns, self.refusal = window, turns, refusal
        self.sent: list[list[Message]] = []
        self.refused, self.summaries = 0, 0
        endpoint.respond = self.respond

    def respond(self, body: dict[str, Any]) -> Answer:
        tokens = len(json.dumps([body["messages"], body["tools"]])) // 4
        if tokens > self.window:
            self.refused += 1
            return self.refusal
        if body["messages"][-1]["content"] == SUMMARY:
            self.summaries += 1
            status, made = answer(f"Summary {self.summaries}.")
        else:
            self.sent.append(body["messages"])
            number = len(self.sent)
            name, arguments = ("submit", "{}") if number == self.turns else ("view", '{"path": "big.txt"}')
            status, made = answer(f"Turn {number}.", (f"c{number}", name, arguments))
        made["usage"] = {"prompt_tokens": tokens, "completion_tokens": 20, "total_tokens": tokens + 20}
        return status, made


OPENAI = failure(400, "too long", "context_length_exceeded")
VLLM = failure(400, "This model's maximum context length is 4000 tokens.", 400, "input_tokens")


def played(endpoint: Endpoint, **options: Any) -> Trajectory:
    policy = ChatPolicy(model="m", base_url=endpoint.url, max_retries=0, **options)
    with Episode(SUITE, ADD.id, MemoryBackend(), Limits(turns=30)) as episode:
        return play(policy, episode, grade=False)


TOOLS = len(json.dumps(openai_tools())) // 4
WINDOW = TOOLS + 4000


@pytest.mark.parametrize("refusal", [OPENAI, VLLM], ids=["openai", "vllm"])
def test_what_the_endpoint_refuses_is_shortened_and_sent_again(endpoint: Endpoint, refusal: Answer) -> None:
    narrow = Narrow(endpoint, WINDOW, 12, refusal)
    trajectory = played(endpoint, keep_turns=2)
    assert (trajectory.stop, trajectory.error, len(trajectory.turns)) == (Stop.SUBMITTED, None, 12)
    assert narrow.refused >= 2
    assert all(messages[:2] == narrow.sent[0] for messages in narrow.sent)
    for messages in narrow.sent:
        noted = [m["content"].startswith("[This result") for m in messages if m["role"] == "tool"]
        assert noted == sorted(noted, reverse=True)
        assert not any(noted[-2:])
    assert any("[This result" in message["content"] for message in narrow.sent[-1])


def test_a_limit_of_ones_own_is_kept_before_the_endpoint_refuses(endpoint: Endpoint) -> None:
    narrow = Narrow(endpoint, WINDOW, 12, OPENAI)
    trajectory = played(endpoint, context_tokens=WINDOW - 1000, keep_turns=2)
    assert (trajectory.stop, len(trajectory.turns)) == (Stop.SUBMITTED, 12)
    assert narrow.refused == 0
    assert any(turn.messages[0]["role"] == "tool" for turn in trajectory.turns if len(turn.messages) > 1)


@pytest.mark.parametrize("options", [{}, {"summary": True}], ids=["notes", "summary"])
def test_the_record_gives_back_what_the_model_was_shown(endpoint: Endpoint, options: dict[str, bool]) -> None:
    narrow = Narrow(endpoint, TOOLS + 3000, 25, OPENAI)
    trajectory = played(endpoint, keep_turns=1, **options)
    assert len(trajectory.turns) == 25
    for number in range(1, 26):
        assert shown(trajectory.turns[:number]) == narrow.sent[number - 1]
    again = played(endpoint_again(endpoint, narrow), keep_turns=1, **options)
    assert [turn.messages for turn in again.turns] == [turn.messages for turn in trajectory.turns]


def endpoint_again(endpoint: Endpoint, before: Narrow) -> Endpoint:
    Narrow(endpoint, before.window, before.turns, before.refusal)
    return endpoint


def test_the_model_sums_up_what_goes_and_is_shown_its_summary(endpoint: Endpoint) -> None:
    narrow = Narrow(endpoint, WINDOW, 12, OPENAI)
    trajectory = played(endpoint, context_tokens=WINDOW - 1500, keep_turns=2, summary=True)
    assert len(trajectory.turns) == 12
    assert narrow.summaries >= 2
    assert narrow.sent[-1][1]["content"].endswith(f"Your summary of them:\nSummary {narrow.summaries}.]")
    summed = [turn for turn in trajectory.turns if TURNS_LEFT_OUT in turn.messages[0]]
    assert len(summed) == narrow.summaries
    # What the summary cost is charged to the turn that needed it.
    assert all(turn.tokens > 1.5 * trajectory.turns[2].tokens for turn in summed)


def test_the_context_is_full_only_when_nothing_is_left_to_drop(endpoint: Endpoint) -> None:
    narrow = Narrow(endpoint, TOOLS + 800, 12, OPENAI)  # the task and two results do not fit
    trajectory = played(endpoint, keep_turns=2)
    assert (trajectory.stop, trajectory.error) == (Stop.TOKENS, None)
    assert (len(trajectory.turns), narrow.refused) == (2, 1)


def test_a_replay_plays_the_calls_whatever_the_model_was_shown(endpoint: Endpoint) -> None:
    Narrow(endpoint, WINDOW, 12, OPENAI)
    trajectory = played(endpoint, keep_turns=2)
    with Episode(SUITE, ADD.id, MemoryBackend(), Limits(turns=30)) as episode:
        again = play(Replay(trajectory=trajectory), episode, grade=False)
    assert [turn.results for turn in again.turns] == [turn.results for turn in trajectory.turns]
    assert [turn.tokens for turn in again.turns] == [turn.tokens for turn in trajectory.turns]


def test_a_conversation_that_does_not_fit_at_all_is_refused(endpoint: Endpoint) -> None:
    Narrow(endpoint, 10, 1, OPENAI)
    policy = ChatPolicy(model="m", base_url=endpoint.url, max_retries=0)
    policy.begin(Task(id="t", instruction="Add.", base_commit="0" * 40), openai_tools(), 0)
    with pytest.raises(ContextFullError):
        policy.decide(OPENING)


@pytest.mark.parametrize("options", [{"context_tokens": 0}, {"keep_turns": 0}, {"keep_turns": "3"}])
def test_options_that_make_no_sense_are_refused(endpoint: Endpoint, options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"agent llm: {next(iter(options))}: wrong option"):
        ChatPolicy(model="m", base_url=endpoint.url, **options)
