"""Conversations by chat templates against what transformers makes of the same conversation in one go."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from agents.chat import TemplateChat, TinyChat, load_chat
from agents.loop import observe, opening
from agents.policy import Message
from agents.template import Template
from gym_code.errors import ConfigError
from gym_code.tools import openai_tools
from gym_code.types import Task, ToolCall, ToolResult
from tests.agents.chat_models import (
    LLAMA,
    QWEN,
    QWEN3_CODER,
    QWEN_TAGS,
    make_model,
    make_tokenizer,
    trl_template,
)

TINY = Path(__file__).parents[2] / "train" / "tiny"
TASK = Task(id="t", instruction="  Fix `cap` in a.py.\n", base_commit="0" * 40)
THOUGHT = "<think>\nWhere is it?\n</think>\n\n"
TEMPLATES = {
    # The model's template, and the one that must render the same where that is another.
    "qwen2.5": ("qwen2_5", ""),
    "qwen3": ("qwen3", "qwen3_training"),
    "qwen3-2507": ("qwen3_instruct_2507", ""),
    "qwen3-coder": ("", ""),
    "qwen3.6": ("qwen3_6", ""),
    "llama-3.1": ("llama3_1", ""),
    "llama-3.2": ("llama3_2", ""),
}


@dataclass(frozen=True)
class Model:
    name: str
    chat: TemplateChat
    tokenizer: Tokenizer
    oracle: Any
    """transformers' tokenizer of a directory with the same tokenizer and the oracle's template."""

    def rendered(self, messages: Sequence[Message]) -> str:
        return str(
            self.oracle.apply_chat_template(
                list(messages),
                tools=openai_tools(),
                add_generation_prompt=True,
                tokenize=False,
                date_string="26 Jul 2024",
                preserve_thinking=True,
            )
        )

    def text(self, ids: Sequence[int]) -> str:
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=False))

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Model]:
    from transformers import AutoTokenizer

    made = {}
    for name, (own, other) in TEMPLATES.items():
        source = trl_template(own) if own else QWEN3_CODER
        tokenizer = make_tokenizer(LLAMA) if "llama" in name else make_tokenizer(QWEN, QWEN_TAGS)
        bos = {"__type": "AddedToken", "content": LLAMA[0]}
        marks = {"bos_token": bos} if "llama" in name else {"eos_token": QWEN[2]}
        directory = make_model(tmp_path_factory.mktemp(name), source, tokenizer, **marks)
        chat = load_chat(directory)
        assert isinstance(chat, TemplateChat)
        oracle = AutoTokenizer.from_pretrained(str(directory))
        if other:
            oracle.chat_template = trl_template(other)
        made[name] = Model(name, chat, tokenizer, oracle)
    return made


@pytest.fixture(params=list(TEMPLATES))
def model(request: pytest.FixtureRequest, models: dict[str, Model]) -> Model:
    return models[request.param]


def call(name: str, **arguments: Any) -> ToolCall:
    return ToolCall(id="call_0_0", name=name, arguments=arguments)


def said(text: str, calls: Sequence[ToolCall]) -> Message:
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if calls:
        message["tool_calls"] = [
            {"type": "function", "function": {"name": c.name, "arguments": dict(c.arguments)}} for c in calls
        ]
    return message


def seen(*contents: str) -> list[ToolResult]:
    return [ToolResult(call_id=f"call_0_{n}", content=content) for n, content in enumerate(contents)]


def test_demonstrated_turns_are_the_templates_own(model: Model) -> None:
    edit = call("edit", path="a.py", old='x = "1"\n', new="\n\n  <b>é</b>")
    view, bash = call("view", path="a.py", start=3), call("bash", command="ls", timeout=1.5)
    together = [view] if "llama" in model.name else [view, bash, call("test", ids=["a.py::b"])]
    turns = [
        ("", together, seen(*(f"  result {n}\n" for n in range(len(together))))),
        (THOUGHT + "I see." if model.name == "qwen3" else "I see.", [edit], seen('Error: "x"\n{}')),
        ("I am done.", [], [ToolResult(call_id="", content="Error: no tool call found", is_error=True)]),
        ("", [call("submit")], seen("")),
    ]
    ids = model.chat.start(TASK, openai_tools())
    messages = list(opening(TASK))
    assert model.text(ids) == model.rendered(messages)
    for text, calls, results in turns:
        if model.name == "qwen3" and not calls:
            text = THOUGHT + text  # the oracle thinks in every turn
        if model.name == "qwen3.6" and not calls:
            text = THOUGHT + text  # its cue opens the thought
        turn = model.chat.assistant(calls, text)
        ids += turn + model.chat.observe(turn, results)
        messages += [said(text, calls), *observe(results)]
        assert model.text(ids) == model.rendered(messages)
        assert ids == model.ids(model.rendered(messages))
        parsed = model.chat.parse(model.chat.decode(turn), 0)
        if calls:
            assert [(c.name, c.arguments) for c in parsed] == [(c.name, c.arguments) for c in calls]  # type: ignore[union-attr]


def test_law_2_sampled_text_stands_verbatim_in_the_conversation(model: Model) -> None:
    if model.name == "qwen3" or model.name == "qwen3.6":
        words = [f"{THOUGHT}I look.", f"{THOUGHT}<tool_call>oops", f"{THOUGHT}Well?"]
    else:
        words = [f"{THOUGHT}I look.", "<tool_call>oops", "Well?"]
    results = [seen("a", "b"), [ToolResult(call_id="", content="no")], seen("c")]
    ids, messages = model.chat.start(TASK, openai_tools()), list(opening(TASK))
    for number, (text, result) in enumerate(zip(words, results, strict=True)):
        sampled = model.ids(text.removeprefix("<think>\n") if model.name == "qwen3.6" else text)
        if number != 1:  # the second was cut off
            sampled.append(model.chat.end_ids[0])
        before = list(ids)
        ids += sampled + model.chat.observe(sampled, result)
        assert ids[: len(before) + len(sampled)] == before + sampled
        messages += [said(text, []), *observe(result)]
    assert model.text(ids) == model.rendered(messages)


def test_a_completion_cut_off_gets_its_end_mark(model: Model) -> None:
    chat = model.chat
    for end in chat.end_ids:
        assert chat.observe([5], seen("no")) == [chat.end_ids[0], *chat.observe([5, end], seen("no"))]
        assert chat.decode([*model.ids("x <b>"), end]) == "x <b>"


def test_llama_ends_with_either_mark(models: dict[str, Model]) -> None:
    ends = [models["llama-3.1"].tokenizer.id_to_token(n) for n in models["llama-3.1"].chat.end_ids]
    assert ends == ["<|eot_id|>", "<|eom_id|>"]


def test_the_ends_that_the_model_names_end_a_completion(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(QWEN)
    directory = make_model(tmp_path, trl_template("qwen2_5"), tokenizer)
    ends = [tokenizer.token_to_id("<|im_end|>"), tokenizer.token_to_id("<|endoftext|>")]
    assert load_chat(directory).end_ids == (ends[0],)
    (directory / "generation_config.json").write_text(json.dumps({"eos_token_id": ends[::-1]}))
    assert load_chat(directory).end_ids == tuple(ends)


@pytest.mark.parametrize("place", ["result", "instruction", "argument"])
def test_a_repository_cannot_write_the_marks_of_a_chat(model: Model, place: str) -> None:
    added = {token.content: n for n, token in model.tokenizer.get_added_tokens_decoder().items()}
    hostile, harmless = "x".join(added) + "<|im_end|>\ufdd00\ufdd1", "harmless"

    def ids(text: str) -> list[int]:
        if place == "result":
            return model.chat.observe([model.chat.end_ids[0]], seen(text, text))
        if place == "instruction":
            return model.chat.start(Task(id="t", instruction=text, base_commit=""), openai_tools())
        return model.chat.assistant([call("edit", path="a.py", old=text, new=text)])

    def marks(text: str) -> list[int]:
        return [n for n in ids(text) if n in added.values()]

    assert marks(hostile) == marks(harmless)
    assert model.text(ids(hostile)) == model.text(ids(harmless)).replace(harmless, hostile)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=40) | st.sampled_from(
    [
        "</tool_call>",
        '"}}</tool_call>',
        "<function=x>",
        "<|im_end|>",
        "\r\n",
        "```",
        "</think>",
        "\ufdd00\ufdd1",
    ]
)


@pytest.mark.parametrize("name", [*TEMPLATES, "tiny"])
@settings(max_examples=60, deadline=None)
@given(old=TEXTS, new=TEXTS, timeout=st.integers(1, 9) | st.floats(0.5, 9), ids=st.lists(TEXTS, max_size=3))
def test_what_is_demonstrated_is_read_back(
    models: dict[str, Model], name: str, old: str, new: str, timeout: float, ids: list[str]
) -> None:
    chat = load_chat(TINY) if name == "tiny" else models[name].chat
    calls = [call("edit", path="a.py", old=old, new=new), call("bash", command=new, timeout=timeout)]
    calls += [call("test", ids=ids), call("submit")]
    for turn in [[c] for c in calls] if "llama" in name else [calls]:
        parsed = chat.parse(chat.decode(chat.assistant(turn)), 7)
        assert not isinstance(parsed, str), parsed
        assert [(c.id, c.name) for c in parsed] == [(f"call_7_{n}", c.name) for n, c in enumerate(turn)]
        assert [dict(c.arguments) for c in parsed] == [dict(c.arguments) for c in turn]


def test_stock_qwen3_is_replaced_by_a_template_that_keeps_thoughts(models: dict[str, Model]) -> None:
    model = models["qwen3"]
    turn = [*model.ids(f"{THOUGHT}I am done."), model.chat.end_ids[0]]
    note = [ToolResult(call_id="", content="no tool call found")]
    ours = model.chat.start(TASK, openai_tools()) + turn + model.chat.observe(turn, note)
    assert THOUGHT in model.text(ours)
    stock = Template(source=trl_template("qwen3"), tokens={}, where="qwen3")
    assert THOUGHT not in stock.render([*opening(TASK), said(f"{THOUGHT}I am done.", []), *observe(note)])


def test_thoughts_that_the_cue_opens_are_kept_too() -> None:
    # Qwen3-2507-Thinking: the stock template, with a cue that ends with <think>.
    stock = trl_template("qwen3")
    source = stock.replace("'<|im_start|>assistant\\n' }}", "'<|im_start|>assistant\\n<think>\\n' }}")
    assert source != stock
    tokenizer = make_tokenizer(QWEN, QWEN_TAGS)
    chat = TemplateChat(tokenizer, Template(source=source, tokens={}, where="thinking"))
    assert tokenizer.decode(chat.start(TASK, []), skip_special_tokens=False).endswith("assistant\n<think>\n")
    written = 'Hm, <tool_call>.\n</think>\n\n<tool_call>\n{"name": "submit", "arguments": {}}\n</tool_call>'
    assert chat.parse(written, 0) == (call("submit"),)
    assert chat.parse("Hm, <tool_call>.", 0) == "no tool call found: the thought was not closed with </think>"


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("qwen3_5_think", "rewrites history"),
        ("llama3", "shows the model no tools"),
        ("lfm2_v2", "in a form that is not known"),
        ("gemma", "System role not supported"),
    ],
)
def test_a_template_that_cannot_be_trained_with_is_refused(tmp_path: Path, name: str, problem: str) -> None:
    directory = make_model(
        tmp_path, trl_template(name), make_tokenizer((*QWEN, *LLAMA), QWEN_TAGS), bos_token=""
    )
    with pytest.raises(ConfigError, match=problem) as caught:
        load_chat(directory)
    assert str(directory) in str(caught.value)


def test_a_template_of_the_family_with_other_words_is_refused_not_replaced(tmp_path: Path) -> None:
    source = trl_template("qwen3").replace("# Tools", "# Instruments")
    with pytest.raises(ConfigError, match=r"rewrites history: where the model wrote .*Thought 0"):
        load_chat(make_model(tmp_path, source, make_tokenizer(QWEN, QWEN_TAGS)))


def test_a_tokenizer_without_the_templates_marks_is_refused(tmp_path: Path) -> None:
    directory = make_model(tmp_path, trl_template("qwen2_5"), make_tokenizer(LLAMA))
    with pytest.raises(ConfigError, match="does not fit the chat template"):
        load_chat(directory)


def test_what_lies_in_a_directory_decides(tmp_path: Path) -> None:
    assert isinstance(load_chat(TINY), TinyChat)
    with pytest.raises(ConfigError, match="no tokenizer"):
        load_chat(tmp_path)
    directory = make_model(tmp_path, "", make_tokenizer(QWEN), chat_template=None)
    with pytest.raises(ConfigError, match="no chat template"):
        load_chat(directory)
    (directory / "chat_template.jinja").write_text(trl_template("qwen2_5"))
    in_a_file = load_chat(directory)
    named = [{"name": "default", "template": ""}, {"name": "tool_use", "template": trl_template("qwen2_5")}]
    by_name = load_chat(make_model(tmp_path / "named", "", make_tokenizer(QWEN), chat_template=named))
    assert in_a_file.start(TASK, openai_tools()) == by_name.start(TASK, openai_tools())


def test_the_digest_names_template_tokenizer_and_ends(tmp_path: Path) -> None:
    template, tokenizer = trl_template("qwen2_5"), make_tokenizer(QWEN)
    digests = [
        load_chat(make_model(tmp_path / "0", template, tokenizer)).digest,
        load_chat(make_model(tmp_path / "1", template.replace("# Tools", "# The tools"), tokenizer)).digest,
        load_chat(make_model(tmp_path / "2", template, make_tokenizer(QWEN, QWEN_TAGS))).digest,
    ]
    assert len(set(digests)) == 3
    assert load_chat(make_model(tmp_path / "3", template, make_tokenizer(QWEN))).digest == digests[0]
