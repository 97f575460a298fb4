"""Tables: rows of values laid out in columns of equal width."""

from collections.abc import Sequence

_GAP = "  "


def format_table(
    rows: Sequence[Sequence[object]], *, headers: Sequence[str] | None = None, align: str | None = None
) -> str:
    """Rows as lines of text, cells padded to the width of their column, columns two spaces apart.

    headers: titles, printed first and underlined with hyphens.
    align: one letter for each column, `l` left (the default), `r` right, `c` centred (the odd space goes right).
    Lines carry no trailing spaces. None prints as an empty cell, and short rows are filled up with empty cells.
    Raises ValueError for an unknown letter, or an `align` whose length is not the number of columns.
    """
    cells = [["" if value is None else str(value) for value in row] for row in rows]
    if headers is not None:
        cells.insert(0, list(headers))
    count = max((len(row) for row in cells), default=0)
    letters = _letters(align, count)
    cells = [row + [""] * (count - len(row)) for row in cells]
    widths = [max(len(row[column]) for row in cells) for column in range(count)]
    lines = [_line(row, widths, letters) for row in cells]
    if headers is not None:
        lines.insert(1, _GAP.join("-" * width for width in widths))
    return "\n".join(lines)


def _letters(align: str | None, count: int) -> str:
    if align is None:
        return "l" * count
    if len(align) != count:
        raise ValueError(f"align has {len(align)} letters for {count} columns")
    for letter in align:
        if letter not in "lrc":
            raise ValueError(f"unknown alignment {letter!r}")
    return align


def _line(row: Sequence[str], widths: Sequence[int], letters: str) -> str:
    return _GAP.join(_pad(*cell) for cell in zip(row, widths, letters, strict=True)).rstrip()


def _pad(text: str, width: int, letter: str) -> str:
    if letter == "r":
        return text.rjust(width)
    if letter == "c":
        left = (width - len(text)) // 2
        return " " * left + text.ljust(width - left)
    return text.ljust(width)
