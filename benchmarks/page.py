"""benchmarks/README.md: each benchmark's tables stand between two marks of its name."""

from __future__ import annotations

from pathlib import Path

from gym_code.errors import InputError

README = Path(__file__).parent / "README.md"


def put_into_readme(name: str, text: str) -> None:
    """Replace what the page says of a benchmark."""
    README.write_text(between_marks(README.read_text(), name, text))


def between_marks(page: str, name: str, text: str) -> str:
    """The page with `text` between the marks of `name`. Raises `InputError` where they are missing."""
    first, last = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    head, begin, rest = page.partition(first)
    _, end, tail = rest.partition(last)
    if not begin or not end:
        raise InputError("no place for the tables", expected=f"{first} and {last}", found="not both")
    return f"{head}{first}\n{text}{last}{tail}"
