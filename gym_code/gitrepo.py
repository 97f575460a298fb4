"""The git commit of a start tree: a function of its bytes, computed without git and without touching a disk.

`commit_id(files)` is the id that the box's repository must have as HEAD. `fast_import(files)` is a stream that
makes exactly that commit (`git init -q -b main`, `git fast-import --quiet --done`, `git read-tree HEAD`). Nothing
is filtered: a blob is the file's raw bytes whatever `.gitattributes` says; ignored files are in the commit too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping

from gym_code.errors import TaskError
from gym_code.types import File

BRANCH = "main"
IDENTITY = "gym-code <gym-code@example.invalid>"
SECONDS = 946684800
"""Author and committer time of every base commit (2000-01-01T00:00:00Z): no id depends on the clock."""
MESSAGE = "base\n"

Files = Mapping[str, File]


def commit_id(files: Files) -> str:
    """The id (40 hex digits, SHA-1) of the one commit a start tree becomes.

    Raises `TaskError` for a path that a git tree cannot hold (see `check_paths`).
    """
    check_paths(files)
    return _object("commit", _commit_body(_tree(files).hex())).hex()


def fast_import(files: Files) -> bytes:
    """A `git fast-import` stream that makes the commit `commit_id(files)` on `refs/heads/main`."""
    check_paths(files)
    stream = bytearray(f"commit refs/heads/{BRANCH}\n".encode())
    stream += f"author {IDENTITY} {SECONDS} +0000\ncommitter {IDENTITY} {SECONDS} +0000\n".encode()
    stream += f"data {len(MESSAGE)}\n{MESSAGE}".encode()
    for path in sorted(files):
        mode, body = _mode(files[path]), _body(files[path])
        stream += b"M " + mode + b" inline " + _quoted(path) + b"\n"
        stream += f"data {len(body)}\n".encode() + body + b"\n"
    return bytes(stream) + b"done\n"


def scrubbed_environment(home: str) -> dict[str, str]:
    """Environment variables for a git process: no user or system configuration, no prompts, no pager."""
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": home,
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_CEILING_DIRECTORIES": "/",
    }


def check_paths(files: Files) -> None:
    """Raise `TaskError` unless paths are relative, normal, outside `.git`, and no file is also a directory."""
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


def _quoted(path: str) -> bytes:
    """The path as fast-import reads it: always quoted, in C style."""
    raw = _encode(path)
    return (
        b'"' + b"".join(b"\\%03o" % c if c < 32 or c in b'"\\' or c > 126 else bytes([c]) for c in raw) + b'"'
    )
