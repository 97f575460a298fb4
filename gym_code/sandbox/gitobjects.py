"""Git objects, packs and the index in plain Python: the repository that a start tree becomes.

Written here, not by a `git` process, because training makes hundreds of small trees a minute and because
nothing of the host's configuration, templates or hooks can take part. Formats: gitformat-pack(5) and
gitformat-index(5).
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from gym_code.gitrepo import IDENTITY, MESSAGE, SECONDS, check_paths
from gym_code.types import File

SIGNATURE = f"{IDENTITY} {SECONDS} +0000".encode()

REGULAR, EXECUTABLE, LINK, TREE = b"100644", b"100755", b"120000", b"40000"
_COMMIT, _TREE, _BLOB = 1, 2, 3
_NAMES = {_COMMIT: b"commit", _TREE: b"tree", _BLOB: b"blob"}


def object_id(kind: int, body: bytes) -> bytes:
    """The 20-byte id of an object."""
    return hashlib.sha1(b"%s %d\0" % (_NAMES[kind], len(body)) + body, usedforsecurity=False).digest()


def blob_id(body: bytes) -> bytes:
    """The 20-byte id of a blob."""
    return object_id(_BLOB, body)


@dataclass(slots=True)
class Objects:
    """A set of new objects, to be written as one pack."""

    bodies: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)

    def add(self, kind: int, body: bytes) -> bytes:
        """Add an object; its id."""
        oid = object_id(kind, body)
        self.bodies[oid] = (kind, body)
        return oid

    def blob(self, body: bytes) -> bytes:
        """Add a blob; its id."""
        return self.add(_BLOB, body)

    def tree(self, entries: Mapping[bytes, tuple[bytes, bytes]]) -> bytes:
        """Add the trees of `path -> (mode, blob id)`; the id of the root tree."""
        root: dict[bytes, object] = {}
        for path, entry in entries.items():
            *parents, name = path.split(b"/")
            here = root
            for part in parents:
                here = cast("dict[bytes, object]", here.setdefault(part, {}))
            here[name] = entry
        return self._write_tree(root)

    def _write_tree(self, node: Mapping[bytes, object]) -> bytes:
        rows = []
        for name, child in node.items():
            if isinstance(child, dict):
                rows.append((name + b"/", TREE, name, self._write_tree(child)))
            else:
                mode, oid = cast("tuple[bytes, bytes]", child)
                rows.append((name, mode, name, oid))
        rows.sort()
        return self.add(_TREE, b"".join(mode + b" " + name + b"\0" + oid for _, mode, name, oid in rows))

    def commit(self, tree: bytes) -> bytes:
        """Add a parentless commit of a tree with the fixed signature; its id."""
        lines = (
            b"tree " + tree.hex().encode(),
            b"author " + SIGNATURE,
            b"committer " + SIGNATURE,
            b"",
            MESSAGE.encode(),
        )
        return self.add(_COMMIT, b"\n".join(lines))

    def pack(self, *, level: int = 1) -> tuple[bytes, bytes]:
        """The pack file and its index (version 2)."""
        ids = sorted(self.bodies)
        out = [b"PACK" + struct.pack(">II", 2, len(ids))]
        offset, offsets, checks = 12, [], []
        for oid in ids:
            kind, body = self.bodies[oid]
            raw = _pack_header(kind, len(body)) + zlib.compress(body, level)
            offsets.append(offset)
            checks.append(zlib.crc32(raw))
            offset += len(raw)
            out.append(raw)
        data = b"".join(out)
        trailer = hashlib.sha1(data, usedforsecurity=False).digest()
        return data + trailer, _pack_index(ids, offsets, checks, trailer)


def _pack_header(kind: int, size: int) -> bytes:
    byte, size = kind << 4 | size & 15, size >> 4
    out = bytearray()
    while size:
        out.append(byte | 128)
        byte, size = size & 127, size >> 7
    out.append(byte)
    return bytes(out)


def _pack_index(ids: list[bytes], offsets: list[int], checks: list[int], trailer: bytes) -> bytes:
    counts = [0] * 256
    for oid in ids:
        counts[oid[0]] += 1
    fanout, total = [], 0
    for count in counts:
        total += count
        fanout.append(total)
    large = [value for value in offsets if value >= 1 << 31]
    small = [value if value < 1 << 31 else 1 << 31 | large.index(value) for value in offsets]
    n = len(ids)
    data = b"".join(
        (
            b"\xfftOc" + struct.pack(">I", 2),
            struct.pack(">256I", *fanout),
            b"".join(ids),
            struct.pack(f">{n}I", *checks),
            struct.pack(f">{n}I", *small),
            struct.pack(f">{len(large)}Q", *large),
            trailer,
        )
    )
    return data + hashlib.sha1(data, usedforsecurity=False).digest()


def index_file(entries: Mapping[bytes, tuple[bytes, bytes]]) -> bytes:
    """A git index without stat data: the same bytes on every machine; git refreshes it on first use."""
    out = [b"DIRC" + struct.pack(">II", 2, len(entries))]
    for path in sorted(entries):
        mode, oid = entries[path]
        head = struct.pack(">10I", 0, 0, 0, 0, 0, 0, int(mode, 8), 0, 0, 0)
        row = head + oid + struct.pack(">H", min(len(path), 0xFFF)) + path
        out.append(row + b"\0" * (8 - len(row) % 8))
    data = b"".join(out)
    return data + hashlib.sha1(data, usedforsecurity=False).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class StartRepo:
    """The files of `.git` for a start tree, and what its commit holds."""

    base_commit: str
    entries: Mapping[bytes, tuple[bytes, bytes]]
    """path -> (mode, blob id)"""
    files: Mapping[str, bytes]
    """path below `.git` -> content"""


_CONFIG = b"""[core]
\trepositoryformatversion = 0
\tfilemode = true
\tbare = false
\tlogallrefupdates = true
"""


def tree_entries(objects: Objects, files: Mapping[str, File]) -> dict[bytes, tuple[bytes, bytes]]:
    """Add the blobs of a tree; path -> (mode, blob id)."""
    check_paths(files)
    entries: dict[bytes, tuple[bytes, bytes]] = {}
    for path, file in files.items():
        if file.link is not None:
            entry = LINK, objects.blob(file.link.encode("utf-8", "surrogateescape"))
        else:
            entry = EXECUTABLE if file.executable else REGULAR, objects.blob(file.content)
        entries[path.encode("utf-8", "surrogateescape")] = entry
    return entries


def start_repo(files: Mapping[str, File]) -> StartRepo:
    """The repository of a start tree: branch main, one commit, no hooks, no remotes."""
    objects = Objects()
    entries = tree_entries(objects, files)
    commit = objects.commit(objects.tree(entries))
    pack, index = objects.pack()
    name = "objects/pack/pack-" + pack[-20:].hex()
    content = {
        "HEAD": b"ref: refs/heads/main\n",
        "config": _CONFIG,
        "index": index_file(entries),
        "refs/heads/main": commit.hex().encode() + b"\n",
        name + ".pack": pack,
        name + ".idx": index,
    }
    return StartRepo(base_commit=commit.hex(), entries=entries, files=content)
