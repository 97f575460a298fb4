"""Write a git patch between two trees in memory: byte-exact, whatever the encoding or the line ends."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from gym_code.errors import TaskError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gym_code.types import File

_NO_END = "\\ No newline at end of file\n"


def git_patch(before: Mapping[str, File], after: Mapping[str, File]) -> bytes:
    """The patch that makes `after` of `before`; empty where they are equal.

    Raises `TaskError` for a change of a symbolic link, of a mode, or of a file with NUL bytes.
    """
    parts: list[str] = []
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old != new:
            _check(path, old, new)
            parts += _file(path, old, new)
    # Latin-1 maps each byte to one character and back.
    return "".join(parts).encode("latin-1")


def _check(path: str, old: File | None, new: File | None) -> None:
    both = [file for file in (old, new) if file is not None]
    modes = {file.executable for file in both}
    if len(modes) > 1 or any(file.link is not None or b"\0" in file.content for file in both):
        raise TaskError(
            "cannot write this change as text", where=path, expected="text, mode kept", found="other"
        )


def _file(path: str, old: File | None, new: File | None) -> Iterator[str]:
    name = path.encode().decode("latin-1")
    if not name.isascii() or any(c in name for c in '"\\\t\n'):
        raise TaskError(
            "cannot write this path in a patch", where=path, expected="plain ASCII", found=repr(path)
        )
    yield f"diff --git a/{name} b/{name}\n"
    file = old or new
    mode = "100755" if file is not None and file.executable else "100644"
    if old is None:
        yield f"new file mode {mode}\n"
    if new is None:
        yield f"deleted file mode {mode}\n"
    lines = list(
        difflib.unified_diff(
            _lines(old),
            _lines(new),
            "/dev/null" if old is None else f"a/{name}",
            "/dev/null" if new is None else f"b/{name}",
        )
    )
    for line in lines:
        yield line if line.endswith("\n") else f"{line}\n{_NO_END}"


def _lines(file: File | None) -> list[str]:
    """Lines split at LF alone: `str.splitlines` would also split at CR and form feeds."""
    if file is None or not file.content:
        return []
    text = file.content.decode("latin-1")
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]
