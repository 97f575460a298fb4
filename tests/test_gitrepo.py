"""The commit id computed without git is the one git computes, and the import stream makes that commit."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from gym_code.errors import TaskError
from gym_code.gitrepo import commit_id, fast_import, scrubbed_environment
from gym_code.types import File

if TYPE_CHECKING:
    from pathlib import Path

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


def git(directory: Path, *arguments: str, stdin: bytes = b"") -> str:
    result = subprocess.run(
        ["git", *arguments],
        cwd=directory,
        input=stdin,
        capture_output=True,
        env=scrubbed_environment("/nonexistent"),
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.decode().strip()


def test_law_1_commit_id_is_what_git_makes_of_the_stream(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "fast-import", "--quiet", "--done", stdin=fast_import(TREE))
    assert git(tmp_path, "rev-parse", "main") == commit_id(TREE)
    assert git(tmp_path, "fsck", "--strict") == ""
    assert git(tmp_path, "cat-file", "blob", "main:a.txt") == "crlf"


def test_commit_id_is_pinned() -> None:
    assert commit_id({"hello.txt": File(content=b"hello\n")}) == "8f8dbc8ae0ce4e8d0ed247657566510f10e06b01"


def test_the_empty_tree_has_a_commit(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "main")
    git(tmp_path, "fast-import", "--quiet", "--done", stdin=fast_import({}))
    assert git(tmp_path, "rev-parse", "main") == commit_id({})


@pytest.mark.parametrize("path", ["/abs", "../up", "a//b", ".git/config", "sub/.GIT/hooks/x", "a/./b", ""])
def test_paths_git_cannot_hold_are_refused(path: str) -> None:
    with pytest.raises(TaskError, match="relative path outside"):
        commit_id({path: File()})


def test_a_file_that_is_also_a_directory_is_refused() -> None:
    with pytest.raises(TaskError, match="also a directory"):
        commit_id({"a": File(), "a/b": File()})
