"""Slugs: short ASCII names for URLs and files."""

import re
import unicodedata
from collections.abc import Container

_SPELLED = {"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "þ": "th", "'": None, "’": None}
_TABLE = str.maketrans(_SPELLED)
_WORD = re.compile(r"[a-z0-9]+")


def slugify(text: str, *, separator: str = "-", max_length: int | None = None) -> str:
    """Lower-case ASCII letters and digits of a text, runs of anything else replaced by one separator.

    Accents are dropped, a few letters are spelled out (`ß` becomes `ss`), apostrophes vanish.
    A slug longer than `max_length` loses whole words from its end; a first word that is too long is cut.
    Raises ValueError for a `max_length` below 1.
    """
    if max_length is not None and max_length < 1:
        raise ValueError(f"max_length must be at least 1, not {max_length}")
    decomposed = unicodedata.normalize("NFKD", text.lower().translate(_TABLE))
    plain = "".join(char for char in decomposed if not unicodedata.combining(char))
    return _fit(_WORD.findall(plain), separator, max_length)


def _fit(words: list[str], separator: str, max_length: int | None) -> str:
    while max_length is not None and len(words) > 1 and len(separator.join(words)) > max_length:
        words = words[:-1]
    return separator.join(words)[:max_length]


def unique_slug(text: str, taken: Container[str], *, separator: str = "-") -> str:
    """A slug that is not in `taken`: the plain one, or with the first free number from 2 on appended.

    A text without any letter or digit gives `untitled`.
    """
    base = slugify(text, separator=separator) or "untitled"
    candidate, number = base, 2
    while candidate in taken:
        candidate, number = f"{base}{separator}{number}", number + 1
    return candidate
