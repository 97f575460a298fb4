"""The tiny model's tokenizer: byte-level BPE; a name is one token, the chat's boilerplate is fused.

Every byte can be encoded, so any observation can be read. Words are split off from spaces and digits stand
alone: a parameter is the same single token wherever it appears, which is what a small model can copy.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from agents.chat import CALL_CLOSE, CALL_OPEN, CUE, END, MORE, RESPONSE, RESPONSE_CUE, USER

if TYPE_CHECKING:
    from tokenizers import Tokenizer

PAD = "<|endoftext|>"
_PATH = '", "arguments": {"path": "'
_LAST = f'"}}}}{CALL_CLOSE}'
FUSED = (
    f'{CALL_OPEN}{{"name": "view{_PATH}',
    f'{CALL_OPEN}{{"name": "edit{_PATH}',
    '", "old": "',
    '", "new": "',
    f'{CALL_OPEN}{{"name": "test", "arguments": {{}}}}{CALL_CLOSE}',
    f'{CALL_OPEN}{{"name": "submit", "arguments": {{}}}}{CALL_CLOSE}',
    _LAST,
)
SPECIAL = (PAD, END, USER, CUE, RESPONSE, MORE, RESPONSE_CUE, *FUSED)
SPLIT = r"\n *|[A-Za-z_]+|[0-9]| ?[^\sA-Za-z_0-9]+ ?| +|\s"


def build_tokenizer(texts: Iterable[str], vocab_size: int) -> Tokenizer:
    """Train the tokenizer on plain texts (no special tokens in them)."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, directory: Path) -> None:
    """Write `tokenizer.json` and the files that `AutoTokenizer` wants beside it."""
    from transformers import PreTrainedTokenizerFast

    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END, pad_token=PAD)
    fast.save_pretrained(str(directory))
    tokenizer.save(str(directory / "tokenizer.json"))
