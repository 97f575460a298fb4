"""view, edit and write: the exact words, which models are trained on."""

from __future__ import annotations

import ast
import errno
from typing import TYPE_CHECKING

import pytest
from toys import ADD

from gym_code.tools.search import _program

if TYPE_CHECKING:
    from hands import Hand


def test_view_shows_the_raw_text_and_nothing_else(memory: Hand) -> None:
    assert memory.says("view", path="calc.py") == ADD.start["calc.py"]
    assert memory.says("view", path="README.md") == "# calc \U0001f9ee\n\nAdds – and subtracts.\n"
    assert memory.says("view", path="/testbed/calc.py") == ADD.start["calc.py"]


def test_view_of_lines(memory: Hand) -> None:
    assert memory.says("view", path="calc.py", start=1, end=2) == "def add(a, b):\n    return a - b\n"
    assert memory.says("view", path="calc.py", start=5) == "def sub(a, b):\n    return a - b\n"
    assert memory.says("view", path="calc.py", end=1) == "def add(a, b):\n"
    assert memory.says("view", path="calc.py", start=6, end=99) == "    return a - b\n"
    assert memory.error("view", path="calc.py", start=7) == "calc.py has 6 lines; line 7 is past its end."
    assert memory.error("view", path="calc.py", start=3, end=2) == "end (2) must not be less than start (3)."


def test_only_a_line_feed_ends_a_line(memory: Hand) -> None:
    memory.box.write("odd.txt", "a\x0cb\u2028c\r\nd".encode())
    assert memory.says("view", path="odd.txt", start=1, end=1) == "a\x0cb\u2028c\r\n"
    assert memory.says("view", path="odd.txt", start=2) == "d"


def test_view_of_an_empty_file_and_of_directories(memory: Hand) -> None:
    memory.box.write("empty.py", b"")
    assert memory.says("view", path="empty.py") == ""
    assert memory.says("view", path="tests") == "test_calc.py"
    assert memory.says("view", path=".") == "\n".join(memory.box.list("."))
    assert "tests/" in memory.says("view", path=".").split("\n")
    assert memory.error("view", path="tests", start=1) == "tests is a directory; start and end are for files."


def test_view_cuts_at_the_budget_and_says_how_to_go_on(memory: Hand) -> None:
    memory.box.write(
        "long.txt", b"".join(b"%09d\n" % n for n in range(1, 1001))
    )  # 10 bytes a line, budget 8192
    shown = memory.says("view", path="long.txt")
    assert shown.split("\n")[818] == "000000819"
    assert shown.endswith("\n[181 more lines; view with start=820 to see them]")
    assert memory.says("view", path="long.txt", start=820, end=821) == "000000820\n000000821\n"
    rest = memory.says("view", path="long.txt", start=820)
    assert rest.startswith("000000820\n")
    assert rest.endswith("000001000\n")


def test_view_of_one_endless_line(memory: Hand) -> None:
    memory.box.write("line.txt", "ä".encode() * 10_000)
    shown = memory.says("view", path="line.txt")
    assert shown == "ä" * 4096 + "\n[line 1 is longer than 8192 bytes and was cut; use bash to see the rest]"


def test_view_replaces_what_is_not_utf8_and_says_so(memory: Hand) -> None:
    memory.box.write("latin.txt", b"caf\xe9\n\xff\xfe\n")
    shown = memory.says("view", path="latin.txt")
    assert shown == "caf\ufffd\n\ufffd\ufffd\n[3 bytes are not UTF-8, shown as \ufffd]"


def test_paths_that_are_not_there(memory: Hand) -> None:
    assert memory.error("view", path="calc.pi") == "calc.pi does not exist; did you mean calc.py?"
    assert memory.error("view", path="tests/test_calk.py").endswith("did you mean tests/test_calc.py?")
    assert memory.error("view", path="zzz/zzz") == "zzz/zzz does not exist."
    assert memory.error("edit", path="nope", old="a", new="b") == "nope does not exist."
    assert memory.error("edit", path="tests", old="a", new="b") == "tests is a directory."
    assert memory.error("write", path="tests", content="") == "tests is a directory."
    assert memory.error("write", path="calc.py/x", content="") == (
        "calc.py/x: a part of the path is a file, not a directory."
    )
    assert memory.error("view", path="a\0b") == "the path holds a NUL character, which no file name can."
    assert memory.error("view", path="ü" * 3000) == "the path is longer than 4096 bytes."


def test_edit_replaces_exactly_once(memory: Hand) -> None:
    old, new = "def add(a, b):\n    return a - b", "def add(a, b):\n    return a + b  # ∑ \U0001f9ee"
    assert memory.says("edit", path="calc.py", old=old, new=new) == "Edited calc.py."
    assert memory.box.read("calc.py").decode() == ADD.start["calc.py"].replace(old, new)


def test_edit_that_is_not_found_once_says_how_often(memory: Hand) -> None:
    assert memory.error("edit", path="calc.py", old="return a - b", new="x") == (
        "old was found 2 times in calc.py (lines 2, 6), expected once; give more text around it."
    )
    assert memory.error("edit", path="calc.py", old="def ad(a, b):", new="x") == (
        "old was found 0 times in calc.py, expected once. "
        "The nearest lines:\n1: def add(a, b):\n5: def sub(a, b):"
    )
    assert memory.error("edit", path="calc.py", old="def add(a, b):\n  return a - b", new="x") == (
        "old was found 0 times in calc.py, expected once. Lines 1-2 differ from it in white space only."
    )
    assert memory.error("edit", path="calc.py", old="#" * 50, new="x") == (
        "old was found 0 times in calc.py, expected once. No line looks like it."
    )
    assert memory.box.read("calc.py").decode() == ADD.start["calc.py"]


def test_edit_counts_places_that_overlap(memory: Hand) -> None:
    memory.box.write("a.txt", b"aaa\n")
    assert "found 2 times" in memory.error("edit", path="a.txt", old="aa", new="b")


def test_edit_names_line_ends_as_the_difference(memory: Hand) -> None:
    memory.box.write("dos.txt", b"one\r\ntwo\r\nthree\r\n")
    assert "Lines 1-2 differ from it in line ends (the file has \\r\\n) only." in memory.error(
        "edit", path="dos.txt", old="one\ntwo", new="x"
    )
    assert memory.says("edit", path="dos.txt", old="one\r\ntwo", new="x") == "Edited dos.txt."
    assert memory.box.read("dos.txt") == b"x\r\nthree\r\n"


def test_edit_leaves_bytes_alone_that_are_not_utf8(memory: Hand) -> None:
    memory.box.write("latin.txt", b"caf\xe9 one\n")
    memory.says("edit", path="latin.txt", old="one", new="two")
    assert memory.box.read("latin.txt") == b"caf\xe9 two\n"


def test_edit_that_changes_nothing(memory: Hand) -> None:
    assert memory.error("edit", path="calc.py", old="def add", new="def add") == (
        "old and new are the same; nothing would change."
    )


def test_edit_of_a_hostile_file_takes_no_time(memory: Hand) -> None:
    memory.box.write(
        "big.txt", b"a" * 100 + b"\n" + b"".join(b"ab" * 49 + b"%d\n" % n for n in range(150_000))
    )
    assert "0 times" in memory.error("edit", path="big.txt", old="ba" * 50, new="")


def test_write(memory: Hand) -> None:
    assert (
        memory.says("write", path="new/dir/größe.py", content="x = '\U0001f40d'\n")
        == "Wrote new/dir/größe.py."
    )
    assert memory.box.read("new/dir/größe.py").decode() == "x = '\U0001f40d'\n"
    assert memory.says("write", path="calc.py", content="") == "Wrote calc.py."
    assert memory.box.read("calc.py") == b""


def test_a_full_disk_and_other_troubles_are_explained(memory: Hand, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = {
        errno.ENOSPC: "a: no space left, the disk quota is used up.",
        errno.EACCES: "a: permission denied.",
        errno.ELOOP: "a: Too many levels of symbolic links.",
    }
    for number, expected in faults.items():

        def fail(*_: object, number: int = number, **__: object) -> None:
            raise OSError(number, {errno.ELOOP: "Too many levels of symbolic links"}.get(number, ""))

        monkeypatch.setattr(type(memory.box), "write", fail)
        assert memory.error("write", path="a", content="") == expected


def test_submit(memory: Hand) -> None:
    assert memory.says("submit") == "Submitted."


def test_the_searcher_is_sent_as_python_3_6_reads_it() -> None:
    sent = _program()
    ast.parse(sent, feature_version=(3, 6))
    assert "__future__" not in sent
