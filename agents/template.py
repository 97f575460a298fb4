"""A model's own chat template: the text of a first prompt, and of what follows a completion (law 2).

Contents are put between marks before rendering, so that the text comes back in pieces: even ones are the
template's, odd ones are quoted. A template rewrites contents as it likes (Llama writes results as JSON): the
marks only tell whose text it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from agents.loop import observe
from agents.policy import Message
from agents.toolcalls import FAMILIES, Family
from gym_code.errors import ConfigError
from gym_code.tools import TOOLS, openai_tools
from gym_code.types import JSON, ToolCall, ToolResult

PRESERVING = Path(__file__).with_name("qwen3.jinja")
"""A template of ours for Qwen3, whose own one rewrites history."""

FIXED: Mapping[str, JSON] = {"date_string": "26 Jul 2024", "preserve_thinking": True}
"""What templates may ask for: a date that is not today's (Llama's own default); thoughts kept (Qwen3.6)."""

THINK, THOUGHT = "<think>", "</think>"

_ASKED: Sequence[Message] = ({"role": "system", "content": "s"}, {"role": "user", "content": "u"})
_SAID = "said"
_SEEN = tuple(ToolResult(call_id=f"call_0_{n}", content=f"seen {n}") for n in range(2))
_NOTE = ToolResult(call_id="", content="Error: no tool call found", is_error=True)
_PROBES = (
    ToolCall(id="call_0_0", name="edit", arguments={"path": "a.py", "old": '"1"\n', "new": "é <b>\n\n"}),
    ToolCall(id="call_0_0", name="test", arguments={"ids": ["test_a.py::test_b"]}),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """A chat template and what it is rendered with. Its errors are `ConfigError`s, which name `where`."""

    source: str
    """Jinja, in the dialect of transformers."""
    tokens: Mapping[str, str]
    """Special tokens by role, such as `bos_token`."""
    where: str
    opens_thought: bool = False
    """Whether the cue for the assistant ends with `<think>`, so that a completion begins inside a thought."""

    def start(self, messages: Sequence[Message], tools: Sequence[Mapping[str, JSON]]) -> list[str]:
        """The pieces of the first prompt, cue included."""
        mark = _unused_mark(messages)
        return self.render([_quoting(message, mark) for message in messages], tools).split(mark)

    def follow(self, results: Sequence[ToolResult]) -> list[str]:
        """The pieces from the end of a completion to the next cue; the first begins with the end mark."""
        messages = [*_ASKED, {"role": "assistant", "content": _SAID}, *observe(results)]
        mark = _unused_mark(messages)
        pieces = self.render([_quoting(message, mark) for message in messages]).split(mark)
        if len(pieces) != 2 * len(messages) + 1:
            raise ConfigError(
                "the chat template loses or repeats messages",
                where=self.where,
                expected=f"{len(messages)}",
                found=len(pieces) // 2,
            )
        return pieces[2 * len(_ASKED) + 2 :]

    def turn(self, calls: Sequence[ToolCall], text: str) -> list[str]:
        """The pieces of a demonstrated turn from its cue on, end mark included; arguments are quoted."""
        arguments = [dict(call.arguments) for call in calls]
        mark = _unused_mark([text, arguments])
        said: dict[str, JSON] = {"role": "assistant", "content": text}
        if calls:
            said["tool_calls"] = [
                {"type": "function", "id": call.id, "function": {"name": call.name, "arguments": quoted}}
                for call, quoted in zip(calls, _quoted(arguments, mark), strict=True)
            ]
        prompt, whole = self.render(_ASKED), self.render([*_ASKED, said], cue=False)
        if not whole.startswith(prompt):
            raise ConfigError("the chat template does not write a turn after its cue", where=self.where)
        return whole[len(prompt) :].split(mark)

    def render(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, JSON]] = (), cue: bool = True
    ) -> str:
        """The conversation as transformers renders it."""
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        variables: dict[str, Any] = {**FIXED, **self.tokens, "opens_thought": self.opens_thought}
        try:
            [rendered], _ = render_jinja_template(
                [list(messages)],
                tools=list(tools) or None,
                chat_template=self.source,
                add_generation_prompt=cue,
                **variables,
            )
        except (TemplateError, TypeError, ValueError) as error:
            raise ConfigError(f"the chat template fails: {error}", where=self.where) from error
        return str(rendered)


def checked(template: Template) -> tuple[Template, Family]:
    """The template, or a preserving one in its place, and the family whose calls it writes.

    Raises `ConfigError` for a template that shows no tools, whose calls no family here reads, or that would
    show the model another text than it wrote: what is trained would not be what is used.
    """
    first = template.render(_ASKED, openai_tools())
    if missing := [name for name in TOOLS if f'"{name}"' not in first and f">{name}<" not in first]:
        raise ConfigError(
            "the chat template shows the model no tools",
            where=template.where,
            expected=", ".join(missing),
            found="none of them",
        )
    template = replace(template, opens_thought=first.endswith(f"{THINK}\n"))
    if change := _rewritten(template):
        ours = replace(template, source=PRESERVING.read_text())
        if ours.render(_ASKED, openai_tools()) != first or _rewritten(ours):
            raise ConfigError(f"the chat template rewrites history: {change}", where=template.where)
        template = ours
    return template, _family(template)


def _family(template: Template) -> Family:
    """The family that reads what the template writes."""
    for family in FAMILIES:
        if all(sign in template.source for sign in family.signs):
            written = [_spoken(template, probe) for probe in _PROBES]
            if [family.read(text) for text in written] == [[(c.name, dict(c.arguments))] for c in _PROBES]:
                return family
    raise ConfigError(
        "the chat template writes tool calls in a form that is not known",
        where=template.where,
        expected=", ".join(family.name for family in FAMILIES),
        found=_spoken(template, _PROBES[0]),
    )


def _spoken(template: Template, call: ToolCall) -> str:
    """A call as the template writes it, without thought and end mark."""
    whole = template.render([*_ASKED, {"role": "assistant", "content": _SAID}], cue=False)
    end = whole[whole.rindex(_SAID) + len(_SAID) :]
    text = "".join(template.turn([call], ""))
    return text.removesuffix(end).rpartition(THOUGHT)[2].lstrip("\n")


def _rewritten(template: Template) -> str:
    """How the template changes what was sampled, in a conversation of several turns; empty if it does not."""
    call = _spoken(template, _PROBES[0])
    whole = list(_ASKED)
    text = template.render(whole, openai_tools())
    for number, results in enumerate((_SEEN, [_NOTE], _SEEN[:1])):
        words = f"{THINK}\nThought {number}.\n{THOUGHT}\n\nI look.\n{call}"
        if results == [_NOTE] and not template.opens_thought:
            words = "Neither thought nor call."
        whole += [{"role": "assistant", "content": words}, *observe(results)]
        text += words.removeprefix(f"{THINK}\n" if template.opens_thought else "")
        text += "".join(template.follow(results))
    rendered = template.render(whole, openai_tools())
    if rendered == text:
        return ""
    at = next((n for n, (a, b) in enumerate(zip(text, rendered, strict=False)) if a != b), 0)
    return f"where the model wrote {text[at - 20 : at + 20]!r}, it is shown {rendered[at - 20 : at + 20]!r}"


def _unused_mark(value: JSON) -> str:
    """A mark that occurs nowhere in the value: a number between two code points that are no characters."""
    text = json.dumps(value, ensure_ascii=False)
    number = 0
    while f"\ufdd0{number}\ufdd1" in text:
        number += 1
    return f"\ufdd0{number}\ufdd1"


def _quoting(message: Message, mark: str) -> Message:
    return {**message, "content": _quoted(message["content"], mark)}


def _quoted(value: JSON, mark: str) -> JSON:
    """The value with every text in it between marks. White space stays outside, where a template trims it."""
    if isinstance(value, str):
        body = value.strip()
        before, _, after = value.partition(body) if body else (value, "", "")
        return f"{before}{mark}{body}{mark}{after}"
    if isinstance(value, Mapping):
        return {key: _quoted(item, mark) for key, item in value.items()}
    return [_quoted(item, mark) for item in value] if isinstance(value, list | tuple) else value
