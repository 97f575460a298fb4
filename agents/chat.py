"""From messages to token ids and back, append-only: what was sampled is never tokenised again (law 2).

A model with a chat template is spoken to by it (`TemplateChat`). The tiny model has a format of its own,
ChatML with Hermes tool calls and neither system message nor list of tools (`TinyChat`): a call is JSON
between `<tool_call>` tags, a result stands between `<tool_response>` tags in a user message. What comes from
a repository is encoded with special tokens switched off, so it cannot speak as the user or end a turn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agents.encoder import Encoder
from agents.loop import opening
from agents.template import THINK, THOUGHT, Template, checked
from agents.toolcalls import hermes_calls, number_calls
from gym_code.errors import ConfigError
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
    """The chat format of the model in a directory, laid out as on the hub.

    Raises `ConfigError` where tokenizer or template are missing, or the template cannot be trained with.
    """
    from tokenizers import Tokenizer

    path = directory / "tokenizer.json"
    if not path.is_file():
        raise ConfigError("no tokenizer", where=str(directory), expected=path.name, found="no such file")
    tokenizer = Tokenizer.from_file(str(path))
    settings = _json(directory / "tokenizer_config.json")
    source = _template_source(directory, settings)
    if source is None:
        if tokenizer.token_to_id(RESPONSE_CUE) is None:
            raise ConfigError(
                "no chat template", where=str(directory), expected="that of an instruct model", found="none"
            )
        return TinyChat(tokenizer)
    tokens = {
        name: value if isinstance(value, str) else value["content"]
        for name, value in settings.items()
        if name.endswith("_token") and isinstance(value, str | dict)
    }
    ends = _json(directory / "generation_config.json").get("eos_token_id", [])
    template = Template(source=source, tokens=tokens, where=str(directory))
    return TemplateChat(tokenizer, template, ends if isinstance(ends, list) else [ends])


class TemplateChat:
    """The conversation of one model by its chat template.

    ends: token ids that end a completion, beside the end mark of the template. Raises `ConfigError` for a
    template that cannot be trained with.
    """

    def __init__(self, tokenizer: Tokenizer, template: Template, ends: Sequence[int] = ()) -> None:
        self._tokenizer, self._encode = tokenizer, Encoder(tokenizer)
        self._template, self._family = checked(template)
        follow = self._template.follow([])
        mark, *_ = self._encode(follow)
        known = [tokenizer.token_to_id(token) for token in self._family.ends]
        self.end_ids = tuple(dict.fromkeys([mark, *ends, *(n for n in known if n is not None)]))
        text = "".join(follow)
        if mark not in tokenizer.get_added_tokens_decoder() or self._ids(text) != self._encode(follow):
            raise ConfigError(
                "the tokenizer does not fit the chat template",
                where=template.where,
                expected="special tokens that stand alone, one of them at the end of a turn",
                found=repr(text),
            )
        facts = [tokenizer.to_str(), self._template.source, dict(self._template.tokens), self.end_ids]
        self.digest = hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def start(self, task: Task, tools: Sequence[Mapping[str, JSON]]) -> list[int]:
        """The first prompt: system message, tools, instruction and cue."""
        return self._encode(self._template.start(opening(task), tools))

    def observe(self, completion_ids: Sequence[int], results: Sequence[ToolResult]) -> list[int]:
        """What follows a completion: its end mark if sampling was cut off, the results, the cue."""
        ids = self._encode(self._template.follow(results))
        return ids[1:] if completion_ids and completion_ids[-1] in self.end_ids else ids

    def decode(self, completion_ids: Sequence[int]) -> str:
        """The text of a completion without its end mark."""
        return _decode(self._tokenizer, completion_ids, self.end_ids)

    def parse(self, text: str, turn: int) -> tuple[ToolCall, ...] | str:
        """The tool calls in a completion's text, or what is wrong with them; thoughts hold none."""
        if self._template.opens_thought or text.lstrip().startswith(THINK):
            _, closed, text = text.partition(THOUGHT)
            if not closed:
                return f"no tool call found: the thought was not closed with {THOUGHT}"
        return number_calls(self._family.read(text), turn)

    def assistant(self, calls: Sequence[ToolCall], text: str = "") -> list[int]:
        """The tokens of a demonstrated turn, end mark included; only for SFT (sampled tokens are kept).

        Raises `ConfigError` for a turn that the template cannot write: Llama's writes one call a turn, and
        leaves out text beside it.
        """
        ids = self._encode(self._template.turn(calls, text))
        return ids[: len(ids) - ids[::-1].index(self.end_ids[0])]

    def _ids(self, text: str) -> list[int]:
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)


class TinyChat:
    """The conversation of the tiny model. What surrounds contents is one token each."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer, self._encode = tokenizer, Encoder(tokenizer)
        special = (END, USER, CUE, RESPONSE, MORE, RESPONSE_CUE)
        self.end_ids = tuple(self._encode([END]))
        source = tokenizer.to_str() + json.dumps(special)
        self.digest = hashlib.sha256(source.encode()).hexdigest()

    def start(self, task: Task, tools: Sequence[Mapping[str, JSON]]) -> list[int]:
        """The first prompt: the instruction and the cue. The model knows its tools from its training."""
        return self._encode([USER, task.instruction, CUE])

    def observe(self, completion_ids: Sequence[int], results: Sequence[ToolResult]) -> list[int]:
        """What follows a completion: its end mark if sampling was cut off, the results, the cue."""
        contents = [result.content for result in results] or [""]
        pieces = [RESPONSE, *(piece for content in contents for piece in (content, MORE))]
        pieces[-1] = RESPONSE_CUE
        cut_off = not completion_ids or completion_ids[-1] not in self.end_ids
        return [*(self.end_ids if cut_off else ()), *self._encode(pieces)]

    def decode(self, completion_ids: Sequence[int]) -> str:
        """The text of a completion without its end mark."""
        return _decode(self._tokenizer, completion_ids, self.end_ids)

    def parse(self, text: str, turn: int) -> tuple[ToolCall, ...] | str:
        """The tool calls in a completion's text, or a sentence that says what is wrong with them."""
        return number_calls(hermes_calls(text), turn)

    def assistant(self, calls: Sequence[ToolCall], text: str = "") -> list[int]:
        """The tokens of a demonstrated turn, end mark included; only for SFT (sampled tokens are kept)."""
        turn = [text] if text else []
        for call in calls:
            body = json.dumps({"name": call.name, "arguments": dict(call.arguments)}, ensure_ascii=False)
            turn.append(f"{CALL_OPEN}{body}{CALL_CLOSE}")
        return [*self._encode(["\n".join(turn)]), *self.end_ids]


def _decode(tokenizer: Tokenizer, completion_ids: Sequence[int], end_ids: Sequence[int]) -> str:
    ids = list(completion_ids)
    if ids and ids[-1] in end_ids:
        ids.pop()
    return str(tokenizer.decode(ids, skip_special_tokens=False))


def _template_source(directory: Path, settings: Mapping[str, JSON]) -> str | None:
    """The chat template where transformers looks for it: a file, or the tokenizer's settings."""
    path = directory / "chat_template.jinja"
    if path.is_file():
        return path.read_text()
    found = settings.get("chat_template")
    if isinstance(found, list):
        named = {item["name"]: item["template"] for item in found}
        found = named.get("tool_use", named.get("default"))
    return found


def _json(path: Path) -> Mapping[str, JSON]:
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError("not JSON", where=str(path), expected="an object", found=error) from None
    if not isinstance(data, dict):
        raise ConfigError(
            "not what it should be", where=str(path), expected="an object", found=type(data).__name__
        )
    return data
