"""Diffs are read and applied as git reads and applies them, and hostile ones are refused."""

from __future__ import annotations

import base64
import os
import random
import subprocess
import zlib
from typing import TYPE_CHECKING

import pytest

from gym_code.diff import UnsafePathError, parse_patch, touched_paths
from gym_code.errors import PatchError
from gym_code.patch import apply_patch, with_changes
from gym_code.suite.tree import read_tree, write_tree
from gym_code.types import File

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ENV = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": os.devnull, "GIT_ATTR_NOSYSTEM": "1", "LC_ALL": "C"}


def git(directory: Path, *arguments: str) -> bytes:
    command = ["git", "-c", "user.name=t", "-c", "user.email=t@t", *arguments]
    result = subprocess.run(command, cwd=directory, capture_output=True, env={**os.environ, **ENV})
    assert result.returncode == 0, result.stderr
    return result.stdout


def diff(directory: Path, before: Mapping[str, File], after: Mapping[str, File], *options: str) -> bytes:
    """What git says changes from one tree to the other."""
    git(directory, "init", "-q")
    for number, tree in enumerate((before, after)):
        for path in git(directory, "ls-files", "-z").split(b"\0")[:-1]:
            (directory / os.fsdecode(path)).unlink()
        write_tree(directory, tree)
        git(directory, "add", "-Af")
        git(directory, "commit", "-q", "--allow-empty", "-m", str(number))
    return git(directory, "diff", "--binary", *options, "HEAD~1", "HEAD")


def text(*lines: str) -> File:
    return File(content="".join(f"{line}\n" for line in lines).encode())


BEFORE = {
    "a.py": text(*(f"line {n}" for n in range(40))),
    "crlf.txt": File(content=b"one\r\ntwo\rhalf\r\nthree\r\n"),
    "dir/bin": File(content=bytes(range(256)) * 8),
    "gone.txt": text("bye"),
    "empty": File(),
    "run.sh": File(content=b"#!/bin/sh\n", executable=True),
    "no-newline": File(content=b"end"),
    "link": File(link="a.py"),
    "becomes-a-link": text("x"),
    'q "uote"\t\u00e9.txt': text("odd name"),
    "with space.txt": text("s"),
}
AFTER = {
    "a.py": text(
        "line 0",
        "new",
        *(f"line {n}" for n in range(2, 30)),
        "changed",
        *(f"line {n}" for n in range(31, 40)),
    ),
    "crlf.txt": File(content=b"one\r\ntwo\rHALF\r\nthree\r\nfour\r\n"),
    "dir/bin": File(content=bytes(range(255, -1, -1)) + bytes(range(256)) * 7),
    "new/deep/file.txt": File(content=b"new without newline"),
    "new-empty": File(),
    "empty": text("no more"),
    "run.sh": File(content=b"#!/bin/sh\n"),
    "no-newline": text("end"),
    "link": File(link="run.sh"),
    "becomes-a-link": File(link="a.py"),
    'q "uote"\t\u00e9.txt': text("odder name"),
    "with space.txt": text("t"),
    "huge.bin": File(content=b"\0" * 100_000),
}


@pytest.mark.parametrize("options", [(), ("-U0",), ("-M", "-C", "--find-copies-harder")])
def test_what_git_says_applies_and_can_be_taken_back(tmp_path: Path, options: tuple[str, ...]) -> None:
    patch = diff(tmp_path, BEFORE, AFTER, *options)
    assert with_changes(BEFORE, apply_patch(BEFORE, patch)) == dict(sorted(AFTER.items()))
    if "-C" not in options:
        assert with_changes(AFTER, apply_patch(AFTER, patch, reverse=True)) == dict(sorted(BEFORE.items()))


def test_renames_and_copies_apply(tmp_path: Path) -> None:
    body = [f"line {n}" for n in range(30)]
    before = {"old.py": text(*body), "kept.py": text(*body, "k")}
    after = {"new.py": text(*body, "tail"), "kept.py": text(*body, "k"), "copy.py": text(*body, "k", "c")}
    patch = diff(tmp_path, before, after, "-M", "-C", "--find-copies-harder")
    assert b"rename from" in patch or b"copy from" in patch
    assert with_changes(before, apply_patch(before, patch)) == dict(sorted(after.items()))


def test_files_change_places() -> None:
    swap = b"diff --git a/x b/y\nrename from x\nrename to y\ndiff --git a/y b/x\nrename from y\nrename to x\n"
    assert apply_patch({"x": text("1"), "y": text("2")}, swap) == {"x": text("2"), "y": text("1")}


def test_random_edits_agree_with_git(tmp_path: Path) -> None:
    dice = random.Random(7)
    for round_number in range(12):
        lines = [dice.choice("abcdef") for _ in range(dice.randrange(1, 60))]
        edited = list(lines)
        for _ in range(dice.randrange(1, 8)):
            at = dice.randrange(len(edited) + 1)
            edited[at : at + dice.randrange(3)] = [dice.choice("abcxyz") for _ in range(dice.randrange(3))]
        before, after = {"f": text(*lines)}, {"f": text(*edited)}
        directory = tmp_path / str(round_number)
        directory.mkdir()
        patch = diff(directory, before, after)
        assert with_changes(before, apply_patch(before, patch)) == after
        assert with_changes(after, apply_patch(after, patch, reverse=True)) == before


def test_a_hunk_is_found_where_its_lines_moved_to() -> None:
    files = {"f": text(*(f"{n}" for n in range(50)))}
    patch = b"--- a/f\n+++ b/f\n@@ -3,3 +3,3 @@\n 30\n-31\n+XX\n 32\n"
    assert apply_patch(files, patch) == {"f": text(*(f"{n}" if n != 31 else "XX" for n in range(50)))}


def test_a_hunk_that_stands_nowhere_is_refused_with_place_expected_and_found() -> None:
    with pytest.raises(PatchError) as caught:
        apply_patch({"f": text("a", "b")}, b"--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n-c\n+d\n")
    assert str(caught.value) == "f: hunk 1 does not apply at line 1 (expected b'a\\n', found b'a\\n')"


@pytest.mark.parametrize(
    ("patch", "message"),
    [
        (b"hello", "not a diff"),
        (b"--- a/f\n+++ b/f\n@@ -1,2 +1,2 @@\n a\n", "cut short"),
        (b"--- a/f\n+++ b/f\n@@ -1 +1 @@\nzzz\n", "hunk is not whole"),
        (b"@@ -1 +1 @@\n-a\n+b\n", "hunk without a file"),
        (b"diff --git a/f b/f\nnew file mode 100644\nBinary files /dev/null and b/f differ\n", "no content"),
        (b"diff --git a/f b/f\nnew file mode 100777\n", "unknown file mode"),
        (b"diff --git a/f b/f\nnew file mode 100644\nGIT binary patch\nliteral 5\nE!!!!\n\n", "binary patch"),
        (b"--- a/f\n+++ b/f\n@@ -" + b"1" * 5000 + b" +1 @@\n-a\n+b\n", "number is too large"),
        (b"--- a/f\n+++ b/f\n@@ -1 +1," + b"1" * 5000 + b" @@\n-a\n+b\n", "number is too large"),
        (
            b"diff --git a/f b/f\nGIT binary patch\nliteral " + b"1" * 5000 + b"\nE!!!!\n\n",
            "number is too large",
        ),
        (b"--- /dev/null\n+++ b/" + b"a/" * 60_000 + b"x\n@@ -0,0 +1 @@\n+x\n", "path is too long"),
        (b"--- /dev/null\n+++ b/" + b"a/" * 128 + b"x\n@@ -0,0 +1 @@\n+x\n", "path is too long"),
        (b"--- /dev/null\n+++ b/" + b"a" * 2047 + b"\n@@ -0,0 +1 @@\n+x\n", "path is too long"),
    ],
)
def test_what_is_not_whole_is_refused(patch: bytes, message: str) -> None:
    with pytest.raises(PatchError, match=message):
        apply_patch({"f": text("a")}, patch)


@pytest.mark.parametrize(
    "name",
    [b"/etc/passwd", b"a/../../x", b"a/.git/hooks/pre-commit", b"a/sub/.GIT/config", b'"a/..\\057x"', b"a/"],
)
def test_law_7_paths_outside_the_tree_or_inside_git_are_refused(name: bytes) -> None:
    with pytest.raises(UnsafePathError):
        parse_patch(b"--- /dev/null\n+++ " + name + b"\n@@ -0,0 +1 @@\n+x\n")


def test_law_7_nothing_is_put_beyond_a_link() -> None:
    made = b"diff --git a/l b/l\nnew file mode 120000\n--- /dev/null\n+++ b/l\n@@ -0,0 +1 @@\n+/etc\n"
    made = made + b"\\ No newline at end of file\n"
    beyond = b"--- /dev/null\n+++ b/l/passwd\n@@ -0,0 +1 @@\n+x\n"
    assert apply_patch({}, made) == {"l": File(link="/etc")}
    with pytest.raises(UnsafePathError, match="beyond a file or link"):
        apply_patch({}, made + beyond)


def test_a_small_diff_cannot_unpack_to_gigabytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("gym_code.diff.MAX_UNPACKED_BYTES", 50_000)
    patch = diff(tmp_path, {}, {"bomb": File(content=b"\0" * 60_000)})
    assert len(patch) < 2000
    with pytest.raises(PatchError, match="another size"):
        apply_patch({}, patch)


def test_a_long_path_within_the_bounds_applies() -> None:
    path = b"a/" * 127 + b"x"
    made = apply_patch({}, b"--- /dev/null\n+++ b/" + path + b"\n@@ -0,0 +1 @@\n+x\n")
    assert made == {path.decode(): text("x")}


def test_one_diff_can_cause_so_much_work_and_no_more() -> None:
    """A hunk that nearly stands everywhere: a million comparisons at each of thousands of places."""
    count = 100_000
    files = {"f": File(content=b"x\n" * count), "g": text("a")}
    old = b" x\n" * (count // 2) + b"-y\n"
    hunk = b"@@ -20000,%d +20000,%d @@\n" % (count // 2 + 1, count // 2) + old
    with pytest.raises(PatchError, match="too much work"):
        apply_patch(files, b"--- a/f\n+++ b/f\n" + hunk)
    fits = hunk.replace(b"-y\n", b"-x\n").replace(b"-20000", b"-19000")
    assert apply_patch(files, b"--- a/f\n+++ b/f\n" + fits)["f"] == File(content=b"x\n" * (count - 1))


def test_a_delta_of_operations_that_copy_nothing_ends() -> None:
    data = b"\x02\x05" + b"\x00" * 3_000_000
    packed = zlib.compress(data)
    lines = []
    for at in range(0, len(packed), 52):
        part = packed[at : at + 52]
        mark = len(part) + 64 if len(part) <= 26 else len(part) + 70
        lines.append(bytes([mark]) + base64.b85encode(part, pad=True) + b"\n")
    head = b"diff --git a/f b/f\nGIT binary patch\ndelta %d\n" % len(data)
    with pytest.raises(PatchError, match="too much work"):
        apply_patch({"f": text("a")}, head + b"".join(lines) + b"\n")


@pytest.mark.parametrize(("name", "limit"), [("MAX_FILES", 1), ("MAX_LINES", 5)])
def test_a_diff_beyond_its_bounds_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, limit: int) -> None:
    patch = b"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n"
    other = patch.replace(b"/f", b"/g")
    monkeypatch.setattr(f"gym_code.diff.{name}", limit)
    assert len(parse_patch(patch)) == 1
    with pytest.raises(PatchError, match="at most"):
        parse_patch(patch + other)


def test_all_or_nothing() -> None:
    patch = b"--- a/f\n+++ b/f\n@@ -1 +1 @@\n-a\n+b\n--- a/g\n+++ b/g\n@@ -1 +1 @@\n-nope\n+b\n"
    files = {"f": text("a"), "g": text("x")}
    with pytest.raises(PatchError):
        apply_patch(files, patch)
    assert files == {"f": text("a"), "g": text("x")}


def test_touched_paths_names_old_and_new() -> None:
    patch = b"diff --git a/x b/y\nsimilarity index 100%\nrename from x\nrename to y\n"
    assert touched_paths(patch) == {"x", "y"}


def test_read_tree_gives_back_what_write_tree_wrote(tmp_path: Path) -> None:
    write_tree(tmp_path, BEFORE)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_bytes(b"x")
    assert read_tree(tmp_path) == dict(sorted(BEFORE.items()))
