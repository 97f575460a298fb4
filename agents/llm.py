"""A policy behind any OpenAI-compatible chat endpoint with tool calls (needs the extra `llm`)."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from agents.compact import KEEP_TURNS, LOW_WATER, Conversation, said
from agents.policy import ContextFullError, Decision, Message, PolicyError
from gym_code.errors import ConfigError
from gym_code.tools import parse_call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import openai
    from openai.types.chat import ChatCompletion

    from gym_code.types import JSON, Task, ToolCall


FULL = ("context_length_exceeded", "input_tokens", "input_text")
"""What a refused request carries where the prompt was too long: OpenAI's `code`, vLLM's `param`."""
SUMMARY = (
    "Sum up for yourself what you have found out and changed so far and what is left to do, with file names "
    "and exact identifiers, in at most 300 words. Call no tool. Only this summary will be kept."
)


class ChatPolicy:
    """Asks a chat model what to do, with the conversation so far in every request.

    base_url and api_key: default to OPENAI_BASE_URL and OPENAI_API_KEY. sampling: passed on as it is
    (temperature, top_p, max_completion_tokens, ...). max_retries: of a request that met 408, 409, 429, 5xx
    or a broken connection; waits grow exponentially and heed Retry-After. timeout: seconds for one request.
    prompt_price and completion_price: per million tokens, in the unit of `limits.cost`.

    context_tokens: most tokens of a prompt. What would be longer, by the endpoint's own count of the last
    one, is shortened (`agents/compact.py`) before it is sent; so is what the endpoint refuses as too long,
    with or without this limit. keep_turns: turns at the end that stay. summary: have the model sum up what is
    left out.
    """

    name = "llm"

    def __init__(
        self,
        *,
        model: str,
        base_url: str | None = None,
        api_key: str | None = None,
        sampling: Mapping[str, JSON] | None = None,
        max_retries: int = 6,
        timeout: float = 600.0,
        prompt_price: float = 0.0,
        completion_price: float = 0.0,
        context_tokens: int | None = None,
        keep_turns: int = KEEP_TURNS,
        summary: bool = False,
    ) -> None:
        for option, value in (("context_tokens", context_tokens), ("keep_turns", keep_turns)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError("wrong option", where=f"agent llm: {option}", expected=">= 1", found=value)
        self._model, self._sampling = model, dict(sampling or {})
        self._prices = (prompt_price, completion_price)
        self._client = _client(base_url, api_key, max_retries, timeout)
        self._most_tokens, self._keep_turns, self._summary = context_tokens, keep_turns, summary
        self._conversation = Conversation()
        self._tools: Sequence[Mapping[str, JSON]] = ()
        self._seed = 0
        self._call_ids: set[str] = set()
        self._rate = 0.0
        """Tokens a character, by the endpoint's count of the last prompt; 0: not known."""
        self._characters_of_tools = 0
        self._used = (0, 0)
        """Prompt and completion tokens of this decision."""

    @property
    def sampling(self) -> Mapping[str, JSON]:
        """The model and what it is sampled with."""
        return {"model": self._model, **self._sampling}

    def begin(self, task: Task, tools: Sequence[Mapping[str, JSON]], seed: int) -> None:
        """Start with an empty conversation; the seed goes to the endpoint, which may or may not honour it."""
        self._conversation = Conversation(keep_turns=self._keep_turns)
        self._tools, self._seed = tools, seed
        self._call_ids, self._rate = set(), 0.0
        self._characters_of_tools = len(json.dumps(tools))

    def decide(self, messages: Sequence[Message]) -> Decision:
        """Ask once more. Raises `ContextFullError` or, when the endpoint keeps failing, `PolicyError`."""
        for message in messages:
            self._conversation.apply(message)
        self._used = (0, 0)
        completion, compacted = self._ask()
        answer = completion.choices[0].message
        calls = tuple(
            self._call(call.id, call.function.name, call.function.arguments)
            for call in answer.tool_calls or ()
            if call.type == "function"
        )
        text = answer.content or ""
        self._conversation.apply(said(text, calls))
        cost = sum(used * price for used, price in zip(self._used, self._prices, strict=True)) / 1e6
        return Decision(text=text, calls=calls, compacted=compacted, tokens=sum(self._used), cost=cost)

    def _ask(self) -> tuple[ChatCompletion, tuple[Message, ...]]:
        """The completion of the conversation, and what was put in the place of what had to be left out."""
        compacted: list[Message] = []
        if self._most_tokens is not None and self._rate * self._characters() > self._most_tokens:
            compacted += self._compact(LOW_WATER * self._most_tokens / self._rate)
        while True:
            characters = self._characters()
            try:
                completion = self._complete(self._conversation.messages)
            except ContextFullError:
                made = self._compact(LOW_WATER * characters)
                if not made:
                    raise
                compacted += made
                continue
            if completion.usage:
                self._rate = completion.usage.prompt_tokens / characters
            return completion, tuple(compacted)

    def _compact(self, characters: float) -> list[Message]:
        """Leave out what is old until no more than so many characters, with the tools, are sent."""
        if self._summary and (text := self._summed_up()):
            return self._conversation.leave_out_turns(text)
        made = self._conversation.shorten_results(int(characters) - self._characters_of_tools)
        if self._characters() > characters:
            made += self._conversation.leave_out_turns()
        return made

    def _summed_up(self) -> str:
        """The model's summary of the turns that go; empty where none do, or they are too long for it."""
        old = self._conversation.old().messages
        if not any(message["role"] == "assistant" for message in old):
            return ""
        try:
            completion = self._complete([*old, {"role": "user", "content": SUMMARY}])
        except ContextFullError:
            return ""
        return completion.choices[0].message.content or ""

    def _characters(self) -> int:
        return self._conversation.characters + self._characters_of_tools

    def _complete(self, messages: Sequence[Message]) -> ChatCompletion:
        import openai

        request: dict[str, Any] = {"model": self._model, "messages": messages, "seed": self._seed}
        if self._tools:
            request["tools"] = self._tools
        try:
            completion: ChatCompletion = self._client.chat.completions.create(**request | self._sampling)
        except openai.APIStatusError as error:
            if error.code in FULL or error.param in FULL:
                raise ContextFullError(f"{self._model}: {error.message}") from error
            raise PolicyError(f"{self._model}: HTTP {error.status_code}: {error.message}") from error
        except openai.OpenAIError as error:
            raise PolicyError(f"{self._model}: {error}") from error
        if not completion.choices:
            raise PolicyError(f"{self._model}: the endpoint's answer holds no choices")
        if usage := completion.usage:
            self._used = (self._used[0] + usage.prompt_tokens, self._used[1] + usage.completion_tokens)
        return completion

    def _call(self, call_id: str, name: str, arguments: str) -> ToolCall:
        """The call under an id of its own: some servers repeat theirs or send none."""
        number = len(self._call_ids)
        while not call_id or call_id in self._call_ids:
            call_id, number = f"call_{number}", number + 1
        self._call_ids.add(call_id)
        return parse_call(call_id, name, arguments)


def _client(base_url: str | None, api_key: str | None, max_retries: int, timeout: float) -> openai.OpenAI:
    try:
        import openai
    except ImportError:
        raise ConfigError("the agent llm needs the package openai: pip install 'gym-code[llm]'") from None
    base_url = base_url or os.environ.get("OPENAI_BASE_URL")
    api_key = api_key or os.environ.get("OPENAI_API_KEY")
    if api_key is None and base_url is None:
        raise ConfigError(
            "no endpoint", where="agent llm", expected="base_url or OPENAI_API_KEY", found="neither"
        )
    # A local server asks for no key, the client insists on one.
    return openai.OpenAI(
        base_url=base_url, api_key=api_key or "none", max_retries=max_retries, timeout=timeout
    )
