"""Text to token ids, with text that may be quoted: a repository cannot write the marks of a chat."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gym_code.errors import ConfigError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class Encoder:
    """Encodes pieces of text that follow one another; safe to share among threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._added = {added.content: n for n, added in tokenizer.get_added_tokens_decoder().items()}
        self._marks = re.compile("|".join(map(re.escape, sorted(self._added, key=len, reverse=True))) or "$^")
        self._plain = _without_added_tokens(tokenizer)
        for text, number in self._added.items():
            if number in self._run(text):
                raise ConfigError("plain text becomes an added token", where="tokenizer", found=text)

    def __call__(self, pieces: Sequence[str]) -> list[int]:
        """Token ids of the pieces joined. Every second piece is quoted: in it no added token is recognised.

        Otherwise the ids are those of the joined text: added tokens are where a tokenizer cuts in any case,
        and what lies between them is encoded in one go, quoted or not.
        """
        ids: list[int] = []
        run = ""
        for number, piece in enumerate(pieces):
            if number % 2:
                run += piece
                continue
            end = 0
            for mark in self._marks.finditer(piece):
                ids += [*self._run(run + piece[end : mark.start()]), self._added[mark[0]]]
                run, end = "", mark.end()
            run += piece[end:]
        return ids + self._run(run)

    def _run(self, text: str) -> list[int]:
        return list(self._plain.encode(text, add_special_tokens=False).ids) if text else []


def _without_added_tokens(tokenizer: Tokenizer) -> Tokenizer:
    from tokenizers import Tokenizer

    spec = json.loads(tokenizer.to_str())
    return Tokenizer.from_str(json.dumps(spec | {"added_tokens": [], "post_processor": None}))
