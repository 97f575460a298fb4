"""What an overlay's upper directories say against their base: read by the keeper, never by a program of the
host.

Upper directories are walked as plain data. A whiteout (character device 0:0) deletes; a directory with the
attribute `user.overlay.opaque=y` hides what lies below it; the rest is added or replaced. Standard library
only: the keeper, which runs isolated, imports it.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Literal

from gym_code.sandbox.ignore import IgnoreRules
from gym_code.sandbox.removal import remove

PATCH_BYTES = 32 << 20
"""What a patch may hold of new content; a larger one would be refused by whoever applies it, and a sparse
file can claim any size."""
ENTRY_BYTES = 128
"""What a patch needs for each file beside its path and content, roughly."""
BLOCK_BYTES = 1 << 14
"""Contents are hashed in blocks of this size, of which those of zeros alone cost nothing."""
PAGE_BYTES = os.sysconf("SC_PAGESIZE")
"""What a tmpfs takes at least: a copy in these takes no more than its original."""
_ZEROS = bytes(max(BLOCK_BYTES, PAGE_BYTES))
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


def collect(uppers: list[str], root: str, known: Hashes | None = None) -> Found:
    """The changes that layers (bottom first) make to the directory `root`, by path; what equals the
    base is out."""
    walk, known = _Walk(Base(root)), {} if known is None else known
    for upper in uppers:
        if os.path.isdir(upper):
            walk.layer(os.fsencode(upper), b"")
    return {key: change for key, change in walk.found.items() if not _same(change, key, walk.base, known)}


class _Walk:
    """Changes found so far. Every directory above a change is one itself: `below` finds what a path hides."""

    def __init__(self, base: Base) -> None:
        self.base = base
        self.found: Found = {}
        self.below: dict[bytes, set[bytes]] = {}

    def layer(self, upper: bytes, prefix: bytes) -> None:
        """Take in one directory of a layer."""
        for name in sorted(os.listdir(os.path.join(upper, prefix))):
            key = os.path.join(prefix, name)
            path = os.path.join(upper, key)
            info = os.lstat(path)
            mode = stat.S_IMODE(info.st_mode)
            if stat.S_ISDIR(info.st_mode):
                known = self.found.get(key)
                below = known.kind == "d" if known else self.base.is_directory(key)
                if not below or opaque(path):
                    self.hide(key)
                self.put(key, Change("d", mode, os.fsdecode(path)))
                if not too_deep(key):
                    self.layer(upper, key)
            else:
                self.hide(key)
                if stat.S_ISREG(info.st_mode) or stat.S_ISLNK(info.st_mode):
                    kind: Kind = "f" if stat.S_ISREG(info.st_mode) else "l"
                    self.put(key, Change(kind, mode, os.fsdecode(path)))
                # what remains are whiteouts, and sockets and pipes, which are no part of a tree

    def put(self, key: bytes, change: Change) -> None:
        """Note the new state of a path."""
        self.found[key] = change
        self.below.setdefault(os.path.dirname(key), set()).add(key)

    def hide(self, key: bytes) -> None:
        """A path is gone, with all that lies below it in earlier layers and in the base."""
        gone = [key]
        while gone:
            here = gone.pop()
            self.found.pop(here, None)
            gone += self.below.pop(here, ())
        info = self.base.find(key)
        if info is None:
            return
        self.put(key, Change("-"))
        if stat.S_ISDIR(info.st_mode):
            for folder, folders, files in os.walk(self.base.path(key)):
                for name in folders + files:
                    self.put(os.path.relpath(os.path.join(folder, name), self.base.root), Change("-"))


def too_deep(key: bytes) -> bool:
    """Whether what lies below a directory is out of reach (see `DEEPEST`)."""
    return len(key) > LONGEST or key.count(b"/") >= DEEPEST


def opaque(path: str | bytes) -> bool:
    """Whether a directory of an upper layer hides what lies below it."""
    try:
        return os.getxattr(path, _OPAQUE, follow_symlinks=False) == b"y"
    except OSError:
        return False


Hashes = dict[tuple[int, int], bytes]
"""Hashes by device and inode: an agent can give one large file thousands of names, each of which would cost
its size again."""


def _same(change: Change, key: bytes, base: Base, known: Hashes) -> bool:
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
        stat.S_ISREG(info.st_mode)
        and info.st_size == size
        and _hash(change.source, known) == _hash(base.path(key), known)
    )


def blocks(file: BinaryIO, block: int = BLOCK_BYTES) -> Iterator[tuple[int, bytes]]:
    """Position and bytes of the blocks of an unbuffered file that hold anything but zeros."""
    fd, at = file.fileno(), 0
    size = os.fstat(fd).st_size
    while at < size:
        try:
            at = os.lseek(fd, at, os.SEEK_DATA) // block * block
        except OSError:
            return  # a hole up to the end
        data = os.pread(fd, block, at)
        if data != _ZEROS[: len(data)]:
            yield at, data
        at += block


def _hash(path: str | bytes, known: Hashes) -> bytes:
    """`content_hash` of a file. Holes are skipped: where a file has them depends on its file system, and a
    sparse file costs nothing."""
    with open(path, "rb", buffering=0) as file:
        info = os.fstat(file.fileno())
        key = info.st_dev, info.st_ino
        if key not in known:
            if info.st_size <= BLOCK_BYTES:
                known[key] = hashlib.sha256(file.read()).digest()
            else:
                known[key] = _hash_blocks(info.st_size, blocks(file))
        return known[key]


def content_hash(data: bytes) -> bytes:
    """32 bytes that stand for a content: SHA-256; above one block, of its size and the blocks that are not
    zeros."""
    if len(data) <= BLOCK_BYTES:
        return hashlib.sha256(data).digest()
    pieces = ((at, data[at : at + BLOCK_BYTES]) for at in range(0, len(data), BLOCK_BYTES))
    return _hash_blocks(len(data), ((at, piece) for at, piece in pieces if piece != _ZEROS[: len(piece)]))


def _hash_blocks(size: int, pieces: Iterable[tuple[int, bytes]]) -> bytes:
    sha = hashlib.sha256(b"%d" % size)
    for at, data in pieces:
        sha.update(b" %d " % at)
        sha.update(data)
    return sha.digest()


def is_git(path: bytes) -> bool:
    """Whether a path lies in a `.git` of any level, whatever its case."""
    return any(part.lower() == b".git" for part in path.split(b"/"))


def within_budget(sizes: Iterable[tuple[int, bytes]]) -> set[bytes]:
    """The paths of (size, path) rows that fit into a patch, the smallest first (see `PATCH_BYTES`)."""
    chosen, left = set(), PATCH_BYTES
    for size, path in sorted(sizes):
        left -= size + len(path) + ENTRY_BYTES
        if left < 0:
            break
        chosen.add(path)
    return chosen


def _patched(found: Found, root: str) -> set[bytes]:
    """The changes that belong into a patch: neither git's own nor ignored, and within the budget."""
    base = Base(root)
    rules = base_rules(root)
    chosen, sizes = set(), []
    for path, change in found.items():
        if is_git(path):
            continue
        tracked = base.find(path) is not None
        if change.kind in "-d":
            if tracked:
                chosen.add(path)
        elif tracked or not rules.match(path):
            sizes.append((os.lstat(change.source).st_size, path))
    return chosen | within_budget(sizes)


def base_rules(root: str) -> IgnoreRules:
    """The ignore rules of the start tree whose files lie below `root`; its manifest lies beside that."""
    with open(os.path.join(root, "../../manifest.json"), encoding="utf-8") as file:
        manifest = json.load(file)
    files = []
    for name, (mode, _) in manifest.items():
        if name.rpartition("/")[2] == ".gitignore" and mode != "120000":
            with open(os.path.join(root, name), "rb") as rules:
                files.append((os.fsencode(name), rules.read()))
    return IgnoreRules.from_files(files)


def stream(fd: int, uppers: list[str], base: str, part: str, *, content: bool) -> None:
    """Write the change set of one part (`workspace`) to a pipe: for each path kind, mode, path and body.

    The body is a link's target; a file's hash, or with `content` its bytes: then only what belongs into a
    patch is told, and what is written stays within `PATCH_BYTES`. The end is a record of kind `.`; a reader
    that misses it has seen a torn stream.
    """
    base = os.path.join(base, part)
    known: Hashes = {}
    found = collect([os.path.join(upper, part) for upper in uppers], base, known)
    chosen = _patched(found, base) if content else found.keys()
    with os.fdopen(fd, "wb", closefd=False) as out:
        for path in sorted(chosen):
            change = found[path]
            body = b""
            if change.kind == "l":
                body = os.fsencode(os.readlink(change.source))
            elif change.kind == "f" and content:
                with open(change.source, "rb") as file:
                    body = file.read()
            elif change.kind == "f":
                body = _hash(change.source, known)
            out.write(record(change.kind, change.mode, path, body))
        out.write(record(".", 0, b"", b""))


def record(kind: str, mode: int, path: bytes, body: bytes) -> bytes:
    """One record of the stream."""
    return struct.pack(">cHII", kind.encode(), mode, len(path), len(body)) + path + body


def records(pieces: Iterable[bytes]) -> Iterator[tuple[str, int, bytes, bytes]]:
    """The records of a stream that comes in pieces. Raises ValueError when it is torn."""
    data, size = bytearray(), struct.calcsize(">cHII")
    for piece in pieces:
        data += piece
        at = 0
        while at + size <= len(data):
            kind, mode, path_size, body_size = struct.unpack_from(">cHII", data, at)
            body = at + size + path_size
            if body + body_size > len(data):
                break
            if kind == b".":
                return
            yield (kind.decode(), mode, bytes(data[at + size : body]), bytes(data[body : body + body_size]))
            at = body + body_size
        del data[:at]
    raise ValueError("torn change stream")


Names = dict[tuple[int, int], str]
"""Where files of several names were copied to, by device and inode."""


def apply_layer(source: str, target: str, key: str = "", copied: Names | None = None) -> None:
    """Lay one upper directory over another, so that `target` says what both say together.

    key: where in the layer this directory lies; what is too deep is left out. copied: files of this layer
    that are there already and have more names.
    """
    copied = {} if copied is None else copied
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
                apply_layer(here, there, below, copied)
        else:
            if exists:
                remove(there)
            # A second copy of a file with many names would need room that the layer never took.
            if (first := copied.get((info.st_dev, info.st_ino))) is not None:
                os.link(first, there, follow_symlinks=False)
                continue
            _copy(here, there, info)
            if info.st_nlink > 1:
                copied[info.st_dev, info.st_ino] = there
        os.utime(there, ns=(info.st_atime_ns, info.st_mtime_ns), follow_symlinks=False)


def _copy(here: str, there: str, info: os.stat_result) -> None:
    if stat.S_ISLNK(info.st_mode):
        os.symlink(os.readlink(here), there)
    elif stat.S_ISREG(info.st_mode):
        with open(here, "rb", buffering=0) as reader, open(there, "wb", buffering=0) as writer:
            writer.truncate(info.st_size)
            for at, data in blocks(reader, PAGE_BYTES):  # sparse files stay sparse: they may not fit else
                if os.pwrite(writer.fileno(), data, at) < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), there)
        os.chmod(there, stat.S_IMODE(info.st_mode))
    else:
        os.mknod(there, info.st_mode, info.st_rdev)  # whiteouts, and pipes and sockets as they are
