"""From messages to token ids and back, append-only: what was sampled is never tokenised again (law 2).

The format is ChatML with Hermes tool calls (the one of Qwen2.5): a call is JSON between `<tool_call>` tags, a
result stands between `<tool_response>` tags in a user message. The text of results is encoded with special
tokens switched off, so that a repository cannot speak as the user or end a turn.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from gym_code.types import JSON, Task, ToolCall, ToolResult

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END = "<|im_end|>"
USER = "<|im_start|>user\n"
CUE = f"{END}\n<|im_start|>assistant\n"
RESPONSE = "\n<|im_start|>user\n<tool_response>\n"
MORE = "\n</tool_response>\n<tool_response>\n"
RESPONSE_CUE = f"\n</tool_response>{CUE}"
CALL_OPEN, CALL_CLOSE = "<tool_call>\n", "\n</tool_call>"

_CALL = re.compile(r"<tool_call>\s*(.*?)\s*</tool_call>", re.DOTALL)


class Chat(Protocol):
    """The conversation of one model as token ids. Every method that returns ids returns what to *append*."""

    end_ids: tuple[int, ...]
    """Tokens that end a completion; the first is the one appended where sampling was cut off."""
    digest: str
    """SHA-256 (hex) of template and tokenizer; stands in every trajectory."""

    def start(self, task: Task, tools: Sequence[Mapping[str, JSON]]) -> list[int]:
        """The first prompt, with the tools as OpenAI-compatible schemas."""

    def observe(self, completion_ids: Sequence[int], results: Sequence[ToolResult]) -> list[int]:
        """What follows a completion: its end mark if sampling was cut off, the results, the cue."""

    def decode(self, completion_ids: Sequence[int]) -> str:
        """The text of a completion without its end mark."""

    def parse(self, text: str, turn: int) -> tuple[ToolCall, ...] | str:
        """The tool calls in a completion's text, or a sentence that says what is wrong with them."""

    def assistant(self, calls: Sequence[ToolCall], text: str = "") -> list[int]:
        """The tokens of a demonstrated turn, end mark included; only for SFT (sampled tokens are kept)."""


def load_chat(directory: Path) -> Chat:
    """The chat format of the model in a directory."""
    return ChatFormat.load(directory)


class ChatFormat:
    """Builds prompts for one tokenizer. Every method returns token ids to *append* to what is stored."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._special = {text: self._ids(text) for text in (END, USER, CUE, RESPONSE, MORE, RESPONSE_CUE)}
        self.end_id = self._special[END][0]
        self.end_ids: tuple[int, ...] = (self.end_id,)
        source = tokenizer.to_str() + json.dumps(list(self._special))
        self.digest = hashlib.sha256(source.encode()).hexdigest()

    @classmethod
    def load(cls, directory: Path) -> ChatFormat:
        """The format of the model in a directory (its `tokenizer.json`)."""
        from tokenizers import Tokenizer

        return cls(Tokenizer.from_file(str(directory / "tokenizer.json")))

    def start(self, task: Task | str, tools: Sequence[Mapping[str, JSON]] = ()) -> list[int]:
        """The first prompt: the instruction and the cue; the model knows its tools from its training."""
        instruction = task if isinstance(task, str) else task.instruction
        return [*self._special[USER], *self._plain(instruction), *self._special[CUE]]

    def observe(self, completion_ids: Sequence[int], results: Sequence[ToolResult]) -> list[int]:
        """What follows a completion: its end mark if sampling was cut off, the results, the cue."""
        ids = [] if completion_ids and completion_ids[-1] == self.end_id else [self.end_id]
        ids += self._special[RESPONSE]
        for number, result in enumerate(results):
            ids += self._special[MORE] if number else []
            ids += self._plain(result.content)
        return ids + self._special[RESPONSE_CUE]

    def assistant(self, calls: Sequence[ToolCall], text: str = "") -> list[int]:
        """The tokens of a demonstrated turn, end mark included; only for SFT (sampled tokens are kept)."""
        parts = [text] if text else []
        for call in calls:
            body = json.dumps({"name": call.name, "arguments": dict(call.arguments)}, ensure_ascii=False)
            parts.append(f"{CALL_OPEN}{body}{CALL_CLOSE}")
        return [*self._ids("\n".join(parts)), self.end_id]

    def parse(self, text: str, turn: int) -> tuple[ToolCall, ...] | str:
        """The tool calls in a completion's text, or a sentence that says what is wrong with them."""
        return parse_calls(text, turn)

    def decode(self, completion_ids: Sequence[int]) -> str:
        """The text of a completion without its end mark."""
        ids = list(completion_ids)
        if ids and ids[-1] == self.end_id:
            ids.pop()
        return str(self._tokenizer.decode(ids, skip_special_tokens=False))

    def _ids(self, text: str) -> list[int]:
        self._tokenizer.encode_special_tokens = False
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def _plain(self, text: str) -> list[int]:
        self._tokenizer.encode_special_tokens = True
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


def parse_calls(text: str, turn: int) -> tuple[ToolCall, ...] | str:
    """The tool calls in a completion's text, or a sentence that says what is wrong with them."""
    found = _CALL.findall(text)
    if not found:
        return 'no tool call found; write one as <tool_call>\n{"name": ..., "arguments": {...}}\n</tool_call>'
    calls = []
    for number, body in enumerate(found):
        try:
            data = json.loads(body)
        except ValueError as error:
            return f"the tool call is not valid JSON: {error}"
        if not isinstance(data, dict) or not isinstance(data.get("name"), str):
            return 'a tool call is an object {"name": ..., "arguments": {...}}'
        arguments = data.get("arguments", {})
        if not isinstance(arguments, dict):
            return f"arguments of {data['name']} must be an object, found {type(arguments).__name__}"
        calls.append(ToolCall(id=f"call_{turn}_{number}", name=data["name"], arguments=arguments))
    return tuple(calls)
