"""Texts to typed values. All functions raise ValueError for a text that they do not understand."""

import re

_TRUTH = {
    "yes": True,
    "true": True,
    "on": True,
    "1": True,
    "no": False,
    "false": False,
    "off": False,
    "0": False,
}
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}
_ORDER = list(reversed(_SECONDS))
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def parse_bool(text):
    """yes, true, on, 1 or no, false, off, 0, in any letter case."""
    try:
        return _TRUTH[text.strip().lower()]
    except KeyError:
        raise ValueError(f"not a truth value: {text!r}") from None


def parse_list(text):
    """Items separated by commas or line ends, without surrounding spaces and without empty ones."""
    items = (item.strip() for item in re.split(r"[,\n]", text))
    return [item for item in items if item]


def parse_duration(text):
    """Seconds in a text such as `90`, `1h30m`, `2d 6h` or `250ms`.

    Units are d, h, m, s and ms, each at most once and from large to small, with spaces allowed between parts.
    A plain number counts seconds. Numbers may have a decimal point. The result is an int where it is whole.
    """
    stripped = text.strip()
    if re.fullmatch(r"\d+(?:\.\d+)?", stripped):
        return _whole(float(stripped))
    total, last, position = 0.0, -1, 0
    while position < len(stripped):
        match = _PART.match(stripped, position)
        if match is None or _ORDER.index(match.group(2)) <= last:
            raise ValueError(f"not a duration: {text!r}")
        last = _ORDER.index(match.group(2))
        total += float(match.group(1)) * _SECONDS[match.group(2)]
        position = match.end()
        while stripped[position : position + 1] == " ":
            position += 1
    if last < 0:
        raise ValueError(f"not a duration: {text!r}")
    return _whole(total)


def _whole(seconds):
    rounded = round(seconds, 6)
    return int(rounded) if rounded == int(rounded) else rounded
