"""What the benchmarks tell: progress, result files, and benchmarks/README.md.

In the page each benchmark's tables stand between two marks of its name.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gym_code.errors import InputError

README = Path(__file__).parent / "README.md"


def say(text: str) -> None:
    """Progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


def publish(
    name: str,
    out: Path,
    results: dict[str, Any],
    text: str,
    draw: Callable[[Path, dict[str, Any]], None],
    *,
    readme: bool,
) -> None:
    """Write results.json and results.png, print the tables; `readme`: put them into the page, too."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    draw(out / "results.png", results)
    if readme:
        put_into_readme(name, text)
    print(text, end="")


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
