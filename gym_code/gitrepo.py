"""The git commit of a start tree: a function of its bytes, computed without git and without touching a disk.

`base_commit(files)` is the id that the box's repository must have as HEAD. Nothing is filtered: a blob is the
file's raw bytes whatever `.gitattributes` says, and ignored files belong to the commit too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from gym_code.errors import TaskError
from gym_code.types import File

IDENTITY = "gym-code <gym-code@localhost>"
SECONDS = 946684800
"""Author and committer time of every base commit (2000-01-01T00:00:00Z): no id depends on the clock."""
MESSAGE = "Start\n"

Files = Mapping[str, File]


def base_commit(files: Files) -> str:
    """The id (40 hex digits, SHA-1) of the one commit a start tree becomes.

    Raises `TaskError` for a path that a git tree cannot hold (see `check_paths`).
    """
    check_paths(files)
    return _object("commit", _commit_body(_tree(files).hex())).hex()


def check_paths(files: Files) -> None:
    """Raise `TaskError` unless paths are relative, normal, outside `.git`; no file may be a directory too."""
    for path in files:
        parts = path.split("/")
        if any(part in ("", ".", "..") or part.lower() == ".git" for part in parts) or "\0" in path:
            raise TaskError(
                "unusable path in a tree", expected="a relative path outside .git", found=repr(path)
            )
        for end in range(1, len(parts)):
            parent = "/".join(parts[:end])
            if parent in files:
                raise TaskError(
                    "a file is also a directory", where=path, expected="one of them", found=repr(parent)
                )


def _mode(file: File) -> bytes:
    return b"120000" if file.link is not None else b"100755" if file.executable else b"100644"


def _body(file: File) -> bytes:
    return _encode(file.link) if file.link is not None else file.content


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _object(kind: str, body: bytes) -> bytes:
    return hashlib.sha1(f"{kind} {len(body)}\0".encode() + body, usedforsecurity=False).digest()


def _tree(files: Files) -> bytes:
    """The raw id of the tree object, in git's order: a directory sorts as if its name ended in a slash."""
    directories: dict[str, dict[str, File]] = {}
    entries: list[tuple[bytes, bytes, bytes]] = []
    for path, file in files.items():
        head, slash, rest = path.partition("/")
        if slash:
            directories.setdefault(head, {})[rest] = file
        else:
            name = _encode(head)
            entries.append((name, _mode(file) + b" " + name + b"\0", _object("blob", _body(file))))
    for head, inner in directories.items():
        name = _encode(head)
        entries.append((name + b"/", b"40000 " + name + b"\0", _tree(inner)))
    return _object("tree", b"".join(line + oid for _, line, oid in sorted(entries)))


def _commit_body(tree: str) -> bytes:
    who = f"{IDENTITY} {SECONDS} +0000"
    return f"tree {tree}\nauthor {who}\ncommitter {who}\n\n{MESSAGE}".encode()
