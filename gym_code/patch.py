"""Apply git diffs in memory: no process, no file system, nothing in a tree can steer it (law 7).

`apply_patch(files, diff)` gives what changes; `reverse=True` takes a patch back. A hunk may lie some lines
elsewhere than it says (the nearest place where its lines stand is taken, as `git apply` does); its lines must
match exactly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gym_code.diff import EXECUTABLE, LINK, REGULAR, UnsafePathError, parse_patch, split_lines
from gym_code.errors import PatchError
from gym_code.types import File

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from gym_code.diff import Binary, FilePatch, Hunk

MAX_CHANGED_BYTES = 256 * 1024**2
"""Most bytes of content that one diff may leave in the files it touches."""
MAX_DRIFT_LINES = 2000
"""How far from its stated place a hunk is looked for."""
MAX_WORK = 8_000_000
"""Most lines that applying one diff may split, try and compare; an operation of a binary delta counts as
four. Bounds the time (seconds) and the memory that a hostile diff could cost."""

Changes = dict[str, "File | None"]
"""New state of every touched path; None means deleted."""


class _Work:
    """What is left of the work that one diff may cause."""

    def __init__(self) -> None:
        self._left = MAX_WORK

    def spend(self, lines: int) -> None:
        self._left -= lines
        if self._left < 0:
            raise PatchError("diff takes too much work", expected=f"at most {MAX_WORK} lines", found="more")


def apply_patch(files: Mapping[str, File], diff: bytes, *, reverse: bool = False) -> Changes:
    """What `diff` changes in `files`, by path. Raises `PatchError`, `UnsafePathError`.

    All or nothing: no part is applied where another does not fit. Submodule entries are passed over.
    """
    parts = parse_patch(diff)
    if reverse:
        parts = tuple(part.reversed() for part in reversed(parts))
    # As in git: renames and copies are taken from the tree before the diff, so files may also change places.
    changes: Changes = {part.old: None for part in parts if part.moved and part.old is not None}
    bytes_left, work = MAX_CHANGED_BYTES, _Work()
    for part in parts:
        if not part.gitlink:
            bytes_left -= _apply_file(files, changes, part, work)
            if bytes_left < 0:
                raise PatchError("diff is too large", expected=f"{MAX_CHANGED_BYTES} bytes", found="more")
    return changes


def with_changes(files: Mapping[str, File], changes: Mapping[str, File | None]) -> dict[str, File]:
    """The tree after the changes, in path order."""
    merged = {**files, **changes}
    return {path: file for path, file in sorted(merged.items()) if file is not None}


def _apply_file(files: Mapping[str, File], changes: Changes, part: FilePatch, work: _Work) -> int:
    """Apply the part of one file; the bytes of content it leaves."""

    def now(path: str) -> File | None:
        return changes[path] if path in changes else files.get(path)

    path = part.new if part.new is not None else part.old
    if path is None:
        raise PatchError("a diff names no file")
    before = None
    if part.old is not None:
        before = now(part.old) if part.old == part.new or part.new is None else files.get(part.old)
    if part.old is not None and before is None:
        raise PatchError("does not apply", where=part.old, expected="a file", found="none")
    if part.new is not None and part.new != part.old and now(part.new) is not None:
        raise PatchError("does not apply", where=part.new, expected="no file", found="one")
    content = _body(before)
    if part.binary is not None:
        content = _apply_binary(content, part.binary[0], path, work)
    elif part.hunks:
        content = _apply_hunks(content, part.hunks, path, work)
    if part.new is None:
        changes[path] = None
        if content:
            raise PatchError(
                "does not apply", where=path, expected="nothing left", found=f"{len(content)} bytes"
            )
        return 0
    _refuse_below_a_file(part.new, now)
    changes[part.new] = _made(content, part.new_mode, before)
    return len(content)


def _refuse_below_a_file(path: str, now: Callable[[str], File | None]) -> None:
    """A path beyond a file or a symbolic link would be written somewhere else than it says."""
    parts = path.split("/")
    for end in range(1, len(parts)):
        parent = "/".join(parts[:end])
        if now(parent) is not None:
            raise UnsafePathError(
                "lies beyond a file or link", where=path, expected="a directory", found=parent
            )


def _body(file: File | None) -> bytes:
    if file is None:
        return b""
    return file.content if file.link is None else file.link.encode("utf-8", "surrogateescape")


def _made(content: bytes, mode: bytes | None, before: File | None) -> File:
    if mode is None and before is not None:
        mode = LINK if before.link is not None else EXECUTABLE if before.executable else REGULAR
    if mode == LINK:
        return File(link=content.decode("utf-8", "surrogateescape"))
    return File(content=content, executable=mode == EXECUTABLE)


def _apply_hunks(content: bytes, hunks: tuple[Hunk, ...], where: str, work: _Work) -> bytes:
    work.spend(content.count(b"\n"))
    lines = split_lines(content)
    result: list[bytes] = []
    done = offset = 0
    for number, hunk in enumerate(hunks, 1):
        wanted = (hunk.start - 1 if hunk.old else hunk.start) + offset
        at = _find(lines, hunk.old, wanted, done, work)
        if at is None:
            found = lines[wanted][:60] if 0 <= wanted < len(lines) else b"the end of the file"
            raise PatchError(
                f"hunk {number} does not apply at line {hunk.start}",
                where=where,
                expected=repr(hunk.old[0][:60] if hunk.old else b""),
                found=repr(found),
            )
        offset += at - wanted
        result += lines[done:at]
        result += hunk.new
        done = at + len(hunk.old)
    return b"".join(result + lines[done:])


def _find(lines: list[bytes], old: tuple[bytes, ...], wanted: int, first: int, work: _Work) -> int | None:
    """Where `old` stands at or after `first`, nearest to `wanted`."""
    last = len(lines) - len(old)
    if not old:
        return wanted if first <= wanted <= len(lines) else None
    for distance in range(min(max(wanted - first, last - wanted, 0), MAX_DRIFT_LINES) + 1):
        work.spend(1)
        for at in (wanted - distance, wanted + distance):
            if first <= at <= last and lines[at] == old[0]:
                work.spend(len(old))
                if tuple(lines[at : at + len(old)]) == old:
                    return at
    return None


def _apply_binary(content: bytes, binary: Binary, where: str, work: _Work) -> bytes:
    """The content a binary part makes; a git delta copies from the old content and inserts."""
    if not binary.delta:
        return binary.data
    try:
        return _apply_delta(content, binary.data, work)
    except IndexError:
        raise PatchError("binary delta is cut short", where=where) from None
    except PatchError as error:
        raise PatchError(error.message, where=where) from None


def _apply_delta(content: bytes, data: bytes, work: _Work) -> bytes:
    position = 0

    def byte() -> int:
        nonlocal position
        position += 1
        return data[position - 1]

    def number() -> int:
        value = shift = 0
        while True:
            digit = byte()
            value |= (digit & 127) << shift
            shift += 7
            if digit < 128:
                return value
            if shift > 63:
                raise PatchError("binary delta holds too large a number")

    before, after = number(), number()
    if before != len(content) or after > MAX_CHANGED_BYTES:
        raise PatchError("binary delta is for another file")
    result = bytearray()
    while position < len(data) and len(result) <= after:
        op = byte()
        work.spend(4)
        if op & 128:
            start = sum(byte() << 8 * bit for bit in range(4) if op >> bit & 1)
            size = sum(byte() << 8 * bit for bit in range(3) if op >> (bit + 4) & 1)
            result += content[start : start + (size or 0x10000)]
        else:
            result += data[position : position + op]
            position += op
    if len(result) != after:
        raise PatchError("binary delta is wrong")
    return bytes(result)
