"""A policy behind any OpenAI-compatible chat endpoint with tool calls (needs the extra `llm`)."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from agents.policy import ContextFullError, Decision, Message, PolicyError
from gym_code.errors import ConfigError
from gym_code.tools import parse_call

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import openai
    from openai.types.chat import ChatCompletion

    from gym_code.types import JSON, Task, ToolCall


class ChatPolicy:
    """Asks a chat model what to do, with the whole conversation so far in every request.

    base_url and api_key: default to OPENAI_BASE_URL and OPENAI_API_KEY. sampling: passed on as it is
    (temperature, top_p, max_completion_tokens, ...). max_retries: of a request that met 408, 409, 429, 5xx
    or a broken connection; waits grow exponentially and heed Retry-After. timeout: seconds for one request.
    prompt_price and completion_price: per million tokens, in the unit of `limits.cost`.
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
    ) -> None:
        self._model, self._sampling = model, dict(sampling or {})
        self._prices = (prompt_price, completion_price)
        self._client = _client(base_url, api_key, max_retries, timeout)
        self._history: list[Message] = []
        self._tools: Sequence[Mapping[str, JSON]] = ()
        self._seed = 0
        self._call_ids: set[str] = set()

    @property
    def sampling(self) -> Mapping[str, JSON]:
        """The model and what it is sampled with."""
        return {"model": self._model, **self._sampling}

    def begin(self, task: Task, tools: Sequence[Mapping[str, JSON]], seed: int) -> None:
        """Start with an empty conversation; the seed goes to the endpoint, which may or may not honour it."""
        self._history, self._tools, self._seed = [], tools, seed
        self._call_ids = set()

    def decide(self, messages: Sequence[Message]) -> Decision:
        """Ask once more. Raises `ContextFullError` or, when the endpoint keeps failing, `PolicyError`."""
        self._history += messages
        completion = self._ask()
        if not completion.choices:
            raise PolicyError(f"{self._model}: the endpoint's answer holds no choices")
        message = completion.choices[0].message
        calls = tuple(
            self._call(call.id, call.function.name, call.function.arguments)
            for call in message.tool_calls or ()
            if call.type == "function"
        )
        text = message.content or ""
        self._history.append(_assistant(text, calls))
        prompt, sampled = _usage(completion)
        cost = (prompt * self._prices[0] + sampled * self._prices[1]) / 1e6
        return Decision(text=text, calls=calls, tokens=prompt + sampled, cost=cost)

    def _ask(self) -> ChatCompletion:
        import openai

        request: dict[str, Any] = {"model": self._model, "messages": self._history, "seed": self._seed}
        if self._tools:
            request["tools"] = self._tools
        try:
            completion: ChatCompletion = self._client.chat.completions.create(**request | self._sampling)
        except openai.APIStatusError as error:
            if error.code == "context_length_exceeded":
                raise ContextFullError(f"{self._model}: {error.message}") from error
            raise PolicyError(f"{self._model}: HTTP {error.status_code}: {error.message}") from error
        except openai.OpenAIError as error:
            raise PolicyError(f"{self._model}: {error}") from error
        return completion

    def _call(self, call_id: str, name: str, arguments: str) -> ToolCall:
        """The call under an id of its own: some servers repeat theirs or send none."""
        if not call_id or call_id in self._call_ids:
            call_id = f"call_{len(self._call_ids)}"
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


def _assistant(text: str, calls: Sequence[ToolCall]) -> Message:
    """What the model said, as it goes back to it: malformed arguments too as JSON, or servers refuse them."""
    message: dict[str, JSON] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": json.dumps(call.arguments)},
            }
            for call in calls
        ]
    return message


def _usage(completion: ChatCompletion) -> tuple[int, int]:
    """Prompt and completion tokens; zeros where the server does not count them."""
    usage = completion.usage
    return (usage.prompt_tokens, usage.completion_tokens) if usage else (0, 0)
