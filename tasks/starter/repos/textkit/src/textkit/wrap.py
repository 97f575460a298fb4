"""Paragraphs: fill them to a width, indent them, shorten them."""


def wrap(text: str, width: int = 70) -> list[str]:
    """Break one paragraph into lines of at most `width` characters.

    White space is collapsed. A word longer than the width starts on a line of its own and is cut into pieces.
    Raises ValueError for a width below 1.
    """
    if width < 1:
        raise ValueError(f"width must be at least 1, not {width}")
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and len(line) + 1 + len(word) <= width:
            line += " " + word
            continue
        if line:
            lines.append(line)
        while len(word) > width:
            lines.append(word[:width])
            word = word[width:]
        line = word
    if line:
        lines.append(line)
    return lines


def fill(text: str, width: int = 70) -> str:
    """Wrap every paragraph of a text; paragraphs are separated by blank lines and stay so."""
    paragraphs: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.strip():
            paragraphs[-1].append(line)
        elif paragraphs[-1]:
            paragraphs.append([])
    return "\n\n".join("\n".join(wrap(" ".join(lines), width)) for lines in paragraphs if lines)


def indent(text: str, prefix: str = "    ", *, first: str | None = None) -> str:
    """Put `prefix` before every line that is not blank (`first` before the first such line)."""
    out = []
    head = prefix if first is None else first
    for line in text.splitlines(keepends=True):
        if line.strip():
            line = head + line
            head = prefix
        out.append(line)
    return "".join(out)


def shorten(text: str, width: int, *, placeholder: str = "...") -> str:
    """Collapse white space and drop words from the end until the text and the placeholder fit.

    Raises ValueError when not even the placeholder fits.
    """
    if len(placeholder) > width:
        raise ValueError(f"placeholder of {len(placeholder)} characters does not fit into {width}")
    words = text.split()
    if len(" ".join(words)) <= width:
        return " ".join(words)
    while words and len(" ".join(words)) + 1 + len(placeholder) > width:
        words.pop()
    return " ".join([*words, placeholder])
