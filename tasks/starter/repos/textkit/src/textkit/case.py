"""Naming styles: split an identifier or a phrase into words and join them again."""

import re

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
_SMALL_WORDS = frozenset("a an and as at but by for in of on or the to".split())


def split_words(text: str) -> list[str]:
    """The ASCII words of a phrase or an identifier in any style, in order and with their case kept.

    >>> split_words("HTTPServer_error-404")
    ['HTTP', 'Server', 'error', '404']
    """
    return _WORD.findall(text)


def snake_case(text: str) -> str:
    """`lower_words_with_underscores`."""
    return "_".join(word.lower() for word in split_words(text))


def kebab_case(text: str) -> str:
    """`lower-words-with-hyphens`."""
    return "-".join(word.lower() for word in split_words(text))


def pascal_case(text: str) -> str:
    """`EveryWordCapitalised`."""
    return "".join(word.capitalize() for word in split_words(text))


def camel_case(text: str) -> str:
    """Like `pascal_case`, the first word in lower case."""
    first, *rest = split_words(text) or [""]
    return first.lower() + "".join(word.capitalize() for word in rest)


def title_case(text: str) -> str:
    """A headline: words capitalised, except small ones (a, of, the ...) between the first and the last."""
    words = text.split()
    last = len(words) - 1
    return " ".join(
        word
        if word.lower() in _SMALL_WORDS and 0 < index < last and word.islower()
        else word[:1].upper() + word[1:]
        for index, word in enumerate(words)
    )
