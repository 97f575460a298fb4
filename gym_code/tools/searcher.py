"""Searches a tree of files. The tool `search` sends this file into the box and runs it there, where a hostile
pattern or tree costs the agent's own time. Standard library only; a request comes as JSON on standard input
and the answer goes as JSON to standard output, the same for the same tree.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys

TYPE_CHECKING = False  # importing typing would cost as much as the rest of the start
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SKIPPED = {".git", "__pycache__"}
_FILE_BYTES = 4 * 1024**2
_LINE_CHARS = 200


def _files(path: str) -> Iterator[str]:
    """Regular files below a path (or the path itself), each directory's in order of their names."""
    waiting = [path]
    while waiting:  # not os.walk, which recurses: a tree may nest deeper than Python's stack
        place = waiting.pop()
        try:
            names = os.listdir(place)  # noqa: PTH208 (pathlib costs 10 ms of start-up)
        except NotADirectoryError:
            yield place
            continue
        except OSError:
            continue
        for name in sorted(names, reverse=True):
            below = os.path.join(place, name) if place != "." else name  # noqa: PTH118
            # A link is not followed: it may lead round in a circle, or out of the tree.
            if name not in _SKIPPED and not os.path.islink(below):  # noqa: PTH114
                waiting.append(below)


def _read(path: str) -> str | None:
    """The text of a regular file of moderate size that holds no NUL; None for everything else."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _FILE_BYTES:
            return None
        with open(path, "rb") as file:  # noqa: PTH123
            data = file.read(_FILE_BYTES)
    except OSError:
        return None
    return None if b"\0" in data else data.decode("utf-8", "replace")


def _text(pattern: str, path: str, most: int) -> list[tuple[str, int, str]]:
    expression = re.compile(pattern)
    found = []
    for name in _files(path):
        text = _read(name)
        for number, line in enumerate(text.split("\n"), 1) if text is not None else ():
            if expression.search(line):
                found.append((name, number, line[:_LINE_CHARS]))
                if len(found) > most:
                    return found
    return found


def _python_files(word: str, path: str, most: int) -> list[str]:
    found = []
    for name in _files(path):
        text = _read(name) if name.endswith(".py") else None
        if text is not None and word in text:
            found.append(name)
            if len(found) > most:
                break
    return found


def main() -> None:
    """Answer one request: {"kind", "pattern", "path", "most"} -> {"found"} or {"error"}."""
    request = json.loads(sys.stdin.buffer.read().decode())
    search: Callable[[str, str, int], object] = _text if request["kind"] == "text" else _python_files
    if not os.path.lexists(request["path"]):
        answer: dict[str, object] = {"error": "missing"}
    else:
        try:
            answer = {"found": search(request["pattern"], request["path"], request["most"])}
        except (re.error, OverflowError, RecursionError) as error:
            answer = {"error": "pattern", "reason": str(error)}
    sys.stdout.write(json.dumps(answer))


if __name__ == "__main__":
    main()
