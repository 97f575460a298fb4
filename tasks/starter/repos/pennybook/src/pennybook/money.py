"""Amounts of money as whole cents."""

import re

_AMOUNT = re.compile(r"([+-]?)(\d{1,3}(?:,\d{3})+|\d+)(?:\.(\d{1,2}))?")


def parse_cents(text: str) -> int:
    """Cents of an amount such as `12`, `-3.5`, `1,234.50`. Raises ValueError for anything else."""
    match = _AMOUNT.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"not an amount: {text!r}")
    sign, whole, fraction = match.groups()
    cents = int(whole.replace(",", "")) * 100 + int((fraction or "0").ljust(2, "0"))
    return -cents if sign == "-" else cents


def format_cents(cents: int, *, grouped: bool = False) -> str:
    """An amount with two decimals; `grouped` puts commas between thousands."""
    whole, fraction = divmod(abs(cents), 100)
    text = f"{whole:,}" if grouped else str(whole)
    return f"{'-' if cents < 0 else ''}{text}.{fraction:02}"


def split_evenly(cents: int, parts: int) -> list[int]:
    """An amount in shares that differ by at most one cent, the larger ones (in absolute value) first.

    Raises ValueError for fewer than one part.
    """
    if parts < 1:
        raise ValueError(f"cannot split into {parts} parts")
    share, extra = divmod(abs(cents), parts)
    sign = -1 if cents < 0 else 1
    return [sign * (share + (index < extra)) for index in range(parts)]
