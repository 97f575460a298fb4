"""What an overlay's upper directories say against their base: read by the keeper, never by a program of the
host.

Upper directories are walked as plain data. A whiteout (character device 0:0) deletes; a directory with the
attribute `user.overlay.opaque=y` hides what lies below it; the rest is added or replaced. Standard library
only: the keeper, which runs isolated, imports it.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
from dataclasses import dataclass
from typing import Literal

FILE_BYTES = 32 << 20
"""Larger files are left out of patches: no reviewer reads them, and a sparse file can claim any size."""
DEEPEST, LONGEST = 128, 2048
"""Directories more levels down, or with longer paths (bytes), are no part of a tree: an agent can nest them
until no path can name them, and that must be its own loss, not a fault of the box.
"""
_OPAQUE = "user.overlay.opaque"

Kind = Literal["f", "l", "d", "-"]


@dataclass(slots=True)
class Change:
    """The new state of a path: a file, a link, a directory, or gone. `source` is where its bytes lie."""

    kind: Kind
    mode: int = 0
    source: str = ""


class Base:
    """The immutable directory below the layers. Paths are never followed through its symbolic links."""

    def __init__(self, root: str) -> None:
        self.root = os.fsencode(root)
        self.real: dict[bytes, bool] = {b"": True}

    def path(self, key: bytes) -> bytes:
        """Where a path of the base lies."""
        return os.path.join(self.root, key)

    def is_directory(self, key: bytes) -> bool:
        """Whether a path is a true directory, reached through true directories only."""
        known = self.real.get(key)
        if known is None:
            info = self.find(key)
            known = self.real[key] = info is not None and stat.S_ISDIR(info.st_mode)
        return known

    def find(self, key: bytes) -> os.stat_result | None:
        """What lies at a path, if anything."""
        if not self.is_directory(os.path.dirname(key)):
            return None
        try:
            return os.lstat(self.path(key))
        except FileNotFoundError:
            return None


Found = dict[bytes, Change]


def collect(uppers: list[str], root: str) -> Found:
    """The changes that layers (bottom first) make to the directory `root`, by path; what equals the
    base is out."""
    found: Found = {}
    base = Base(root)
    for upper in uppers:
        if os.path.isdir(upper):
            _collect(os.fsencode(upper), b"", found, base)
    return {key: change for key, change in found.items() if not _same(change, key, base)}


def _collect(upper: bytes, prefix: bytes, found: Found, base: Base) -> None:
    for name in sorted(os.listdir(os.path.join(upper, prefix))):
        key = os.path.join(prefix, name)
        path = os.path.join(upper, key)
        info = os.lstat(path)
        mode = stat.S_IMODE(info.st_mode)
        if stat.S_ISDIR(info.st_mode):
            below = found[key].kind == "d" if key in found else base.is_directory(key)
            if not below or opaque(path):
                _hide(key, found, base)
            found[key] = Change("d", mode, os.fsdecode(path))
            if not too_deep(key):
                _collect(upper, key, found, base)
        else:
            _hide(key, found, base)
            if stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode):
                kind: Kind = "f" if stat.S_ISREG(info.st_mode) else "l"
                found[key] = Change(kind, mode, os.fsdecode(path))
            # what remains are whiteouts, and sockets and pipes, which are no part of a tree


def _hide(key: bytes, found: Found, base: Base) -> None:
    """A path is gone, with all that lies below it in earlier layers and in the base."""
    if key in found:
        inside = key + b"/"
        for other in [other for other in found if other.startswith(inside)]:
            del found[other]
        del found[key]
    info = base.find(key)
    if info is None:
        return
    found[key] = Change("-")
    if stat.S_ISDIR(info.st_mode):
        for here, folders, files in os.walk(base.path(key)):
            for name in folders + files:
                found[os.path.relpath(os.path.join(here, name), base.root)] = Change("-")


def too_deep(key: bytes) -> bool:
    """Whether what lies below a directory is out of reach (see `DEEPEST`)."""
    return len(key) > LONGEST or key.count(b"/") >= DEEPEST


def opaque(path: str | bytes) -> bool:
    """Whether a directory of an upper layer hides what lies below it."""
    try:
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


def _same(change: Change, key: bytes, base: Base) -> bool:
    """Whether the base has the same thing there (nothing, for a deletion)."""
    info = base.find(key)
    if info is None or change.kind == "-":
        return info is None and change.kind == "-"
    if change.kind == "l":
        return stat.S_ISLNK(info.st_mode) and os.readlink(change.source) == os.fsdecode(
            os.readlink(base.path(key))
        )
    if stat.S_IMODE(info.st_mode) != change.mode:
        return False
    if change.kind == "d":
        return stat.S_ISDIR(info.st_mode)
    size = os.lstat(change.source).st_size
    return (
        stat.S_ISREG(info.st_mode) and info.st_size == size and _hash(change.source) == _hash(base.path(key))
    )


def _hash(path: str | bytes) -> bytes:
    """SHA-256 of a file; of a giant one, its size and the extents with data (a sparse file costs nothing)."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size <= FILE_BYTES:
            return hashlib.file_digest(file, "sha256").digest()
        sha, at = hashlib.sha256(b"%d" % size), 0
        while at < size:
            try:
                begin = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError:
                break  # holes only, up to the end
            at = os.lseek(file.fileno(), begin, os.SEEK_HOLE)
            sha.update(b"%d %d " % (begin, at))
            file.seek(begin)
            left = at - begin
            while left > 0 and (piece := file.read(min(left, 1 << 20))):
                sha.update(piece)
                left -= len(piece)
        return sha.digest()


def stream(fd: int, uppers: list[str], base: str, part: str, *, content: bool) -> None:
    """Write the change set of one part (`workspace`) to a pipe: for each path kind, mode, path and body.

    The body is a file's content (nothing above FILE_BYTES) with `content`, else its SHA-256; a link's
    target. The
    end is a record of kind `.`; a reader that misses it has seen a torn stream.
    """
    base = os.path.join(base, part)
    found = collect([os.path.join(upper, part) for upper in uppers], base)
    with os.fdopen(fd, "wb", closefd=False) as out:
        for path in sorted(found):
            change = found[path]
            body = b""
            if change.kind == "l":
                body = os.fsencode(os.readlink(change.source))
            elif change.kind == "f" and content:
                if os.lstat(change.source).st_size > FILE_BYTES:
                    continue
                with open(change.source, "rb") as file:
                    body = file.read()
            elif change.kind == "f":
                body = _hash(change.source)
            out.write(record(change.kind, change.mode, path, body))
        out.write(record(".", 0, b"", b""))


def record(kind: str, mode: int, path: bytes, body: bytes) -> bytes:
    """One record of the stream."""
    return struct.pack(">cHII", kind.encode(), mode, len(path), len(body)) + path + body


def records(data: bytes) -> list[tuple[str, int, bytes, bytes]]:
    """The records of a whole stream. Raises ValueError when it is torn."""
    rows: list[tuple[str, int, bytes, bytes]] = []
    at, size = 0, struct.calcsize(">cHII")
    while at + size <= len(data):
        kind, mode, path_size, body_size = struct.unpack_from(">cHII", data, at)
        at += size
        path = data[at : at + path_size]
        body = data[at + path_size : at + path_size + body_size]
        at += path_size + body_size
        if kind == b".":
            return rows
        rows.append((kind.decode(), mode, path, body))
    raise ValueError("torn change stream")


def apply_layer(source: str, target: str, key: str = "") -> None:
    """Lay one upper directory over another, so that `target` says what both say together.

    key: where in the layer this directory lies; what is too deep is left out.
    """
    for name in sorted(os.listdir(source)):
        here, there = os.path.join(source, name), os.path.join(target, name)
        info = os.lstat(here)
        exists = os.path.lexists(there)
        if stat.S_ISDIR(info.st_mode):
            was_directory = exists and stat.S_ISDIR(os.lstat(there).st_mode)
            hides = opaque(here) or (exists and not was_directory)
            if exists and hides:
                remove(there)
            if not exists or hides:
                os.mkdir(there)
            os.chmod(there, stat.S_IMODE(info.st_mode))
            if hides:
                os.setxattr(there, _OPAQUE, b"y")
            below = os.path.join(key, name)
            if not too_deep(os.fsencode(below)):
                apply_layer(here, there, below)
        else:
            if exists:
                remove(there)
            _copy(here, there, info)
        os.utime(there, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)


def _copy(here: str, there: str, info: os.stat_result) -> None:
    if stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(here), there)
    elif stat.S_ISREG(info.st_mode):
        with open(here, "rb") as reader, open(there, "wb") as writer:
            while piece := reader.read(1 << 20):
                writer.write(piece)
        os.chmod(there, stat.S_IMODE(info.st_mode))
    else:
        os.mknod(there, info.st_mode, info.st_rdev)  # whiteouts, and pipes and sockets as they are


def remove(path: str) -> None:
    """Remove a file, or a directory with all in it. The caller may do so whatever the modes."""
    if os.path.isdir(path) and not os.path.islink(path):
        for name in os.listdir(path):
            remove(os.path.join(path, name))
        os.rmdir(path)
    else:
        os.unlink(path)
