"""Read git diffs: what each file's part says, without looking at any tree.

Text hunks, new, deleted, renamed and copied files, modes, symbolic links, binary patches and quoted names are
understood, with `diff --git` lines or without. What is not whole is refused: no guess is made.
"""

from __future__ import annotations

import base64
import itertools
import re
import zlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gym_code.errors import PatchError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_UNPACKED_BYTES = 64 * 1024**2
"""Most bytes that the binary parts of one diff may unpack to: a small diff could hold gigabytes."""

MAX_LINES = 2_000_000
"""A diff of more lines is not read."""
MAX_FILES = 20_000
"""Most files that one diff may touch."""
MAX_PATH_BYTES = 2048
MAX_PATH_PARTS = 128

_MAX_DIGITS = 9
_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_QUOTED = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\([0-7]{3}|.)", re.DOTALL)
_ESCAPES = {b"a": b"\a", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
REGULAR, EXECUTABLE, LINK = b"100644", b"100755", b"120000"
_GITLINK = b"160000"


class UnsafePathError(PatchError):
    """A diff names a path outside the tree or inside `.git`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hunk:
    """A run of lines `old` (from 1-based line `start`) that becomes `new`; lines keep their endings."""

    start: int
    old: tuple[bytes, ...]
    new: tuple[bytes, ...]
    new_start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """One direction of a binary patch: the whole content, or (`delta`) a git delta against the old."""

    data: bytes
    delta: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePatch:
    """What a diff says of one file. `old` is None for a new file, `new` is None for a deleted one."""

    old: str | None
    new: str | None
    old_mode: bytes | None = None
    new_mode: bytes | None = None
    copied: bool = False
    hunks: tuple[Hunk, ...] = ()
    binary: tuple[Binary, Binary | None] | None = None
    """Forward and, where the diff has it, backward."""

    @property
    def gitlink(self) -> bool:
        """Whether this is a submodule entry, which carries no content."""
        return _GITLINK in (self.old_mode, self.new_mode)

    @property
    def moved(self) -> bool:
        """Whether the file is renamed: its old path is gone afterwards."""
        return self.old is not None and self.new is not None and self.old != self.new and not self.copied

    def reversed(self) -> FilePatch:
        """The patch that takes this one back. Raises `PatchError` where there is no way back."""
        if self.copied:
            raise PatchError("a copy cannot be taken back", where=self.new or "")
        binary = None
        if self.binary is not None:
            if self.binary[1] is None:
                raise PatchError("binary patch cannot be taken back", where=str(self.new or self.old))
            binary = (self.binary[1], self.binary[0])
        hunks = tuple(
            replace(h, start=h.new_start, new_start=h.start, old=h.new, new=h.old) for h in self.hunks
        )
        return FilePatch(
            old=self.new, new=self.old, old_mode=self.new_mode, new_mode=self.old_mode, copied=False,
            hunks=hunks, binary=binary,
        )  # fmt: skip


def touched_paths(diff: bytes) -> frozenset[str]:
    """Every path that a diff names, old and new. Raises `PatchError`."""
    return frozenset(path for part in parse_patch(diff) for path in (part.old, part.new) if path is not None)


def parse_patch(diff: bytes) -> tuple[FilePatch, ...]:
    """The files of a diff, in order; empty input is an empty diff. Raises `PatchError`, `UnsafePathError`."""
    if not diff.strip():
        return ()
    lines = diff.count(b"\n")
    if lines > MAX_LINES:
        raise PatchError("diff is too long", expected=f"at most {MAX_LINES} lines", found=lines)
    parts = tuple(itertools.islice(_Reader(diff).files(), MAX_FILES + 1))
    if len(parts) > MAX_FILES:
        raise PatchError("diff is too large", expected=f"at most {MAX_FILES} files", found="more")
    if not parts:
        raise PatchError(
            "not a diff", expected="`diff --git` or `---` and `+++` lines", found=repr(diff[:60])
        )
    return parts


class _Reader:
    """Walks the lines of a diff. `line` is the next one, without its line feed; None at the end."""

    def __init__(self, diff: bytes) -> None:
        self._lines = split_lines(diff)
        self._at = 0
        self._bytes_left = MAX_UNPACKED_BYTES

    @property
    def line(self) -> bytes | None:
        return self._lines[self._at].removesuffix(b"\n") if self._at < len(self._lines) else None

    def take(self) -> bytes:
        line = self.line
        if line is None:
            raise self.error("diff is cut short", "more lines", "the end")
        self._at += 1
        return line

    def error(self, message: str, expected: str, found: object) -> PatchError:
        return PatchError(message, where=f"diff line {self._at + 1}", expected=expected, found=found)

    def number(self, digits: bytes) -> int:
        if len(digits) > _MAX_DIGITS:
            raise self.error("number is too large", f"at most {_MAX_DIGITS} digits", f"{len(digits)} digits")
        return int(digits)

    def files(self) -> Iterator[FilePatch]:
        while (line := self.line) is not None:
            if line.startswith(b"diff --git "):
                yield self._git_file()
            elif line.startswith(b"--- ") and self._peek(1).startswith(b"+++ "):
                old, new = self._names()
                yield FilePatch(old=old, new=new, hunks=tuple(self._hunks()))
            elif _HUNK.match(line):
                raise self.error("hunk without a file", "`diff --git`", repr(line[:60]))
            else:
                self._at += 1

    def _peek(self, ahead: int) -> bytes:
        at = self._at + ahead
        return self._lines[at] if at < len(self._lines) else b""

    def _git_file(self) -> FilePatch:
        header = self.take()
        values = self._extended_headers()
        hunks: tuple[Hunk, ...] = ()
        binary = None
        line = self.line or b""
        if line.startswith(b"--- "):
            old, new = self._names()
            hunks = tuple(self._hunks())
        else:
            old, new = self._header_names(header, values)
            if line == b"GIT binary patch":
                self.take()
                binary = self._binary()
            elif line.startswith((b"Binary files ", b"@@ ")):
                raise self.error("no content for a file", "hunks or a GIT binary patch", repr(line[:60]))
        if b"new file mode" in values:
            old = None
        if b"deleted file mode" in values:
            new = None
        modes = [
            values.get(key) for key in (b"old mode", b"deleted file mode", b"new mode", b"new file mode")
        ]
        index = values.get(b"index", b"").split()
        if len(index) == 2 and index[1] == _GITLINK:
            modes[0] = _GITLINK
        for mode in modes:
            if mode is not None and mode not in (REGULAR, EXECUTABLE, LINK, _GITLINK):
                raise self.error("unknown file mode", "100644, 100755, 120000 or 160000", repr(mode))
        return FilePatch(
            old=old, new=new, old_mode=modes[0] or modes[1], new_mode=modes[2] or modes[3],
            copied=b"copy from" in values, hunks=hunks, binary=binary,
        )  # fmt: skip

    def _extended_headers(self) -> dict[bytes, bytes]:
        keys = (
            b"old mode", b"new mode", b"deleted file mode", b"new file mode", b"copy from", b"copy to",
            b"rename from", b"rename to", b"similarity index", b"dissimilarity index", b"index",
        )  # fmt: skip
        values: dict[bytes, bytes] = {}
        while (line := self.line) is not None:
            key = next((key for key in keys if line.startswith(key + b" ")), None)
            if key is None:
                break
            values[key] = self.take()[len(key) + 1 :]
        return values

    def _names(self) -> tuple[str | None, str | None]:
        old, new = self.take(), self.take()
        if not new.startswith(b"+++ "):
            raise self.error("file header is not whole", "a `+++` line", repr(new[:60]))
        return self._name(old[4:], 1), self._name(new[4:], 1)

    def _header_names(self, header: bytes, values: dict[bytes, bytes]) -> tuple[str | None, str | None]:
        for verb in (b"rename", b"copy"):
            if verb + b" from" in values and verb + b" to" in values:
                return self._name(values[verb + b" from"], 0), self._name(values[verb + b" to"], 0)
        names = header[len(b"diff --git ") :]
        quoted = _QUOTED.match(names)
        half = names[: quoted.end()] if quoted else names[: len(names) // 2]
        other = names[len(half) + 1 :]
        old, new = self._name(half, 1), self._name(other, 1)
        if old != new:
            raise self.error("file header is not whole", "the same name twice", repr(header[:120]))
        return old, new

    def _name(self, raw: bytes, strip: int) -> str | None:
        """A path as written in a header; `strip` leading directories (`a/`, `b/`) are dropped."""
        quoted = _QUOTED.match(raw)
        raw = _unquote(quoted[1]) if quoted else raw.split(b"\t")[0].removesuffix(b"\r")
        if raw == b"/dev/null":
            return None
        if raw.startswith(b"/"):
            raise UnsafePathError("absolute path", where=f"diff line {self._at}", expected="a relative path",
                                  found=repr(raw[:120]))  # fmt: skip
        parts = raw.split(b"/", MAX_PATH_PARTS + strip)[strip:]
        if len(raw) > MAX_PATH_BYTES or len(parts) > MAX_PATH_PARTS:
            raise self.error(
                "path is too long", f"{MAX_PATH_BYTES} bytes, {MAX_PATH_PARTS} parts", repr(raw[:60])
            )
        bad = (b"", b".", b"..")
        if not parts or any(part in bad or part.lower() == b".git" or b"\0" in part for part in parts):
            raise UnsafePathError("unsafe path", where=f"diff line {self._at}",
                                  expected="a normal path outside .git", found=repr(raw[:120]))  # fmt: skip
        return b"/".join(parts).decode("utf-8", "surrogateescape")

    def _hunks(self) -> Iterator[Hunk]:
        while (match := _HUNK.match(self.line or b"")) is not None:
            self.take()
            start, old_left, new_start, new_left = (self.number(g or b"1") for g in match.groups())
            old: list[bytes] = []
            new: list[bytes] = []
            while len(old) < old_left or len(new) < new_left:
                line = self.take()
                mark = line[:1]
                if mark not in (b" ", b"", b"-", b"+"):
                    raise self.error(
                        "hunk is not whole", f"{old_left} old and {new_left} new lines", repr(line[:60])
                    )
                text = line[1:] + b"\n"
                if (self.line or b"").startswith(b"\\ "):
                    self.take()
                    text = line[1:]
                if mark != b"+":
                    old.append(text)
                if mark != b"-":
                    new.append(text)
            if len(old) != old_left or len(new) != new_left:
                raise self.error("hunk is not whole", f"{old_left} old and {new_left} new lines",
                                 f"{len(old)} and {len(new)}")  # fmt: skip
            yield Hunk(start=start, old=tuple(old), new=tuple(new), new_start=new_start)

    def _binary(self) -> tuple[Binary, Binary | None]:
        forward = self._binary_half()
        if forward is None:
            raise self.error("binary patch is empty", "literal or delta", repr(self.line))
        return forward, self._binary_half()

    def _binary_half(self) -> Binary | None:
        kind, _, size = (self.line or b"").partition(b" ")
        if kind not in (b"literal", b"delta") or not size.isdigit():
            return None
        length = self.number(size)
        self.take()
        packed = bytearray()
        while self.line:
            line = self.take()
            count = line[0] - 64 if line[:1].isupper() else line[0] - 70
            try:
                packed += base64.b85decode(line[1:])[:count]
            except ValueError:
                raise self.error("binary patch is not base 85", "base 85", repr(line[:60])) from None
        if self.line is not None:
            self.take()
        try:
            data = zlib.decompressobj().decompress(bytes(packed), min(length, self._bytes_left) + 1)
        except zlib.error as error:
            raise self.error("binary patch does not unpack", "zlib data", str(error)) from None
        if len(data) != length:
            raise self.error("binary patch has another size", f"{length} bytes", len(data))
        self._bytes_left -= len(data)
        return Binary(data=data, delta=kind == b"delta")


def _unquote(raw: bytes) -> bytes:
    def plain(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code, 8) & 255]) if len(code) == 3 else _ESCAPES.get(code, code)

    return _ESCAPE.sub(plain, raw)


def split_lines(content: bytes) -> list[bytes]:
    """Lines that end in a line feed; a lone carriage return ends none (`bytes.splitlines` says otherwise)."""
    lines = [line + b"\n" for line in content.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines
