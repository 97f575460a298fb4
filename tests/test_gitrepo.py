"""The commit id computed without git is the one git computes, and the import stream makes that commit."""

from __future__ import annotations

import os
import subprocess
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from gym_code.errors import TaskError
from gym_code.gitrepo import IDENTITY, MESSAGE, SECONDS, base_commit
from gym_code.sandbox import open_backend
from gym_code.sandbox.base import BoxSpec
from gym_code.types import File, StartTree, tree_digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

SCRUBBED = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_ATTR_NOSYSTEM": "1"}
TREE = {
    "a.txt": File(content=b"crlf\r\n"),
    "a/b.py": File(content=b"x = 1\n"),
    "a-b": File(content=b""),
    "bin/run": File(content=b"#!/bin/sh\n", executable=True),
    "link": File(link="a/b.py"),
    ".gitattributes": File(content=b"* text=auto eol=crlf\n"),
    ".gitignore": File(content=b"*\n"),
    'odd "name"\té\n': File(content=b"\x00\xff"),
}


def fast_import(files: Mapping[str, File]) -> bytes:
    """A stream from which git itself makes the commit; content is taken as it is, without filters."""
    who = f"{IDENTITY} {SECONDS} +0000"
    header = f"commit refs/heads/main\nauthor {who}\ncommitter {who}\n"
    stream = f"{header}data {len(MESSAGE)}\n{MESSAGE}".encode()
    for path, file in files.items():
        mode = b"120000" if file.link else b"100755" if file.executable else b"100644"
        body = file.link.encode() if file.link else file.content
        name = b"".join(b"\\%03o" % byte for byte in path.encode())
        stream += b'M %s inline "%s"\ndata %d\n%s\n' % (mode, name, len(body), body)
    return stream + b"done\n"


def git(directory: Path, *arguments: str, stdin: bytes = b"") -> str:
    result = subprocess.run(
        ["git", *arguments],
        cwd=directory,
        input=stdin,
        capture_output=True,
        env={**os.environ, **SCRUBBED},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.decode().strip()


def test_law_1_commit_id_is_what_git_makes_of_the_stream(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "fast-import", "--quiet", "--done", stdin=fast_import(TREE))
    assert git(tmp_path, "rev-parse", "main") == base_commit(TREE)
    assert git(tmp_path, "fsck", "--strict") == ""
    assert git(tmp_path, "cat-file", "blob", "main:a.txt") == "crlf"


def test_commit_id_is_pinned() -> None:
    assert base_commit({"hello.txt": File(content=b"hello\n")}) == "cb5c8c6afa53ee489ae036061d9242756bd2b4cf"


def test_the_empty_tree_has_a_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "fast-import", "--quiet", "--done", stdin=fast_import({}))
    assert git(tmp_path, "rev-parse", "main") == base_commit({})


@pytest.mark.parametrize("path", ["/abs", "../up", "a//b", ".git/config", "sub/.GIT/hooks/x", "a/./b", ""])
def test_paths_git_cannot_hold_are_refused(path: str) -> None:
    with pytest.raises(TaskError, match="relative path outside"):
        base_commit({path: File()})


def test_a_file_that_is_also_a_directory_is_refused() -> None:
    with pytest.raises(TaskError, match="also a directory"):
        base_commit({"a": File(), "a/b": File()})


@pytest.mark.sandbox
def test_law_1_a_box_has_this_commit() -> None:
    tree = {path: file for path, file in TREE.items() if "\n" not in path}
    with closing(open_backend("namespace")) as backend:
        spec = BoxSpec(start=StartTree(digest=tree_digest(tree), files=lambda: tree))
        with backend.open(spec) as box:
            assert box.base_commit == base_commit(tree)
            shown = box.exec(["git", "log", "-1", "--format=%H"]).stdout.decode().strip()
    assert shown in ("", base_commit(tree)), "a box without git shows nothing"
