"""Models in hub layout, without weights: a small tokenizer with a family's special tokens, and a template."""

import importlib.util
import json
import os
from pathlib import Path

import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers

QWEN = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_TAGS = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>", "</tool_response>")
LLAMA = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
)

QWEN3_CODER = """
{%- set system = messages[0].content if messages[0].role == 'system' %}
{%- if system %}{{ '<|im_start|>system\n' ~ system }}{% endif %}
{%- if tools %}
    {{- '\n\n# Tools\n\nYou have access to the following functions:\n\n<tools>' }}
    {%- for tool in tools %}
        {{- '\n<function>\n<name>' ~ tool.function.name ~ '</name>\n<parameters>' }}
        {%- for name in tool.function.parameters.properties %}
            {{- '\n<parameter>\n<name>' ~ name ~ '</name>\n</parameter>' }}
        {%- endfor %}
        {{- '\n</parameters>\n</function>' }}
    {%- endfor %}
    {{- '\n</tools>\n\nWrite <tool_call>\n<function=name>\n<parameter=name>\nvalue\n</parameter>' }}
{%- endif %}
{%- if system %}{{ '<|im_end|>\n' }}{% endif %}
{%- for message in (messages[1:] if system else messages) %}
    {%- if message.role == 'tool' %}
        {{- '<|im_start|>user\n' if loop.previtem.role != 'tool' }}
        {{- '<tool_response>\n' ~ message.content ~ '\n</tool_response>\n' }}
        {{- '<|im_end|>\n' if loop.last or loop.nextitem.role != 'tool' }}
    {%- elif message.tool_calls %}
        {{- '<|im_start|>assistant' ~ ('\n' ~ message.content | trim ~ '\n' if message.content) }}
        {%- for call in message.tool_calls %}
            {{- '\n<tool_call>\n<function=' ~ call.function.name ~ '>\n' }}
            {%- for key, value in call.function.arguments | items %}
                {{- '<parameter=' ~ key ~ '>\n' }}
                {{- value if value is string else value | tojson }}
                {{- '\n</parameter>\n' }}
            {%- endfor %}
            {{- '</function>\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' ~ message.role ~ '\n' ~ message.content ~ '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{{- '<|im_start|>assistant\n' if add_generation_prompt }}
"""
"""The form of Qwen3-Coder, which TRL does not ship: calls and results as its template writes them."""


def trl_template(name: str) -> str:
    """A template that the installed TRL ships, read without importing TRL."""
    spec = importlib.util.find_spec("trl")
    if spec is None or spec.origin is None:
        if os.environ.get("CI") == "true":
            raise RuntimeError("CI lacks an oracle: pip install -e '.[oracle]'")
        pytest.skip("TRL is not installed (pip install -e '.[oracle]')")
    return (Path(spec.origin).parent / "chat_templates" / f"{name}.jinja").read_text()


def make_tokenizer(special: tuple[str, ...], tags: tuple[str, ...] = ()) -> Tokenizer:
    """Byte-level BPE, so that every text survives; `tags` are added tokens that are not special."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(["def cap(value, stop):\n    return min(value, stop)\n"] * 9, trainer)
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in special])
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False) for text in tags])
    return tokenizer


def make_model(directory: Path, template: str, tokenizer: Tokenizer, **settings: object) -> Path:
    """A model directory as on the hub, with the template in the tokenizer's settings."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(directory / "tokenizer.json"))
    told = {"chat_template": template, "tokenizer_class": "PreTrainedTokenizerFast", **settings}
    (directory / "tokenizer_config.json").write_text(json.dumps(told))
    return directory
