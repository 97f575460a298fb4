"""A text diff turned round, as text: SWE-smith's patches make the bug, the solution is their reverse."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gym_code.diff import parse_patch, split_lines
from gym_code.errors import PatchError

if TYPE_CHECKING:
    from collections.abc import Iterator

_SWAPPED = {
    b"old mode ": b"new mode ",
    b"new file mode ": b"deleted file mode ",
    b"rename from ": b"rename to ",
}


def reverse_diff(diff: str) -> str:
    """The diff that takes `diff` back. Raises `PatchError` for binary parts, copies, and what is no diff.

    >>> print(reverse_diff("--- a/x\\n+++ b/x\\n@@ -1 +1,2 @@\\n-a\\n+b\\n+c\\n"), end="")
    --- a/x
    +++ b/x
    @@ -1,2 +1 @@
    -b
    -c
    +a
    """
    raw = diff.encode("utf-8", "surrogateescape")
    parts = parse_patch(raw)
    if any(part.binary for part in parts):
        raise PatchError("a binary diff cannot be turned round", expected="a text diff", found="binary parts")
    turned = b"".join(_lines(split_lines(raw)))
    if parse_patch(turned) != tuple(part.reversed() for part in parts):
        raise PatchError("a diff cannot be turned round", expected="a diff as git writes it", found="another")
    return turned.decode("utf-8", "surrogateescape")


def _lines(lines: list[bytes]) -> Iterator[bytes]:
    at = 0
    while at < len(lines):
        line = lines[at]
        if line.startswith(b"--- ") and at + 1 < len(lines) and lines[at + 1].startswith(b"+++ "):
            yield b"--- " + _side(lines[at + 1][4:], b"b/", b"a/")
            yield b"+++ " + _side(line[4:], b"a/", b"b/")
            at += 2
        elif line.startswith(b"@@ -"):
            _, old, new, rest = line.split(b" ", 3)
            yield b" ".join((b"@@ -" + new[1:], b"+" + old[1:], rest))
            end = _hunk_end(lines, at + 1, _count(old), _count(new))
            yield from _hunk(lines[at + 1 : end])
            at = end
        else:
            pairs = _pairs(lines, at)
            yield from pairs
            at += len(pairs)


def _side(name: bytes, old: bytes, new: bytes) -> bytes:
    """`a/x` for `b/x`; /dev/null stays."""
    return new + name[len(old) :] if name.startswith(old) else name


def _pairs(lines: list[bytes], at: int) -> list[bytes]:
    """A header line, or two that change places, turned round."""
    line = lines[at]
    for old, new in _SWAPPED.items():
        if line.startswith(old):
            if at + 1 < len(lines) and lines[at + 1].startswith(new):
                return [old + lines[at + 1][len(new) :], new + line[len(old) :]]
            return [new + line[len(old) :]]
    if line.startswith(b"deleted file mode "):
        return [b"new file mode " + line[len(b"deleted file mode ") :]]
    if line.startswith(b"index ") and b".." in line:
        hashes, space, mode = line[6:].rstrip(b"\r\n").partition(b" ")
        old_hash, _, new_hash = hashes.partition(b"..")
        return [b"index " + new_hash + b".." + old_hash + space + mode + b"\n"]
    if (
        line.startswith(b"diff --git a/")
        and (half := line[11:].rstrip(b"\r\n").split(b" b/"))
        and len(half) == 2
    ):
        return [b"diff --git a/" + half[1] + b" b/" + half[0].removeprefix(b"a/") + b"\n"]
    return [line]


def _count(side: bytes) -> int:
    return int(side.partition(b",")[2] or b"1")


def _hunk_end(lines: list[bytes], at: int, old: int, new: int) -> int:
    while at < len(lines) and (old > 0 or new > 0 or lines[at].startswith(b"\\ ")):
        mark = lines[at][:1]
        old -= mark not in (b"+", b"\\")
        new -= mark not in (b"-", b"\\")
        at += 1
    return at


def _hunk(lines: list[bytes]) -> Iterator[bytes]:
    """The body: what was added is taken away, and written first, as git does."""
    taken: list[bytes] = []
    added: list[bytes] = []
    last = taken
    for line in lines:
        if line.startswith(b"+"):
            taken.append(b"-" + line[1:])
            last = taken
        elif line.startswith(b"-"):
            added.append(b"+" + line[1:])
            last = added
        elif line.startswith(b"\\") and (taken or added):
            last.append(line)
        else:
            yield from (*taken, *added, line)
            taken.clear()
            added.clear()
    yield from (*taken, *added)
