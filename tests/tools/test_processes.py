"""bash, search and test in a real box, and the bad inputs that need one: nothing is left running."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from hands import Hand

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend

pytestmark = pytest.mark.sandbox


def running(hand: Hand, mark: str) -> int:
    """How many processes in the box have `mark` in their command line (this question's own left out)."""
    count = (
        "import os\nn = 0\nfor p in filter(str.isdigit, os.listdir('/proc')):\n"
        "    try: line = open(f'/proc/{p}/cmdline', 'rb').read()\n"
        "    except OSError: continue\n"
        f"    n += int(p) != os.getpid() and {mark.encode()!r} in line\n"
        "print(n)"
    )
    result = hand.box.exec(["python3", "-c", count])
    assert result.ok, result
    return int(result.stdout)


def test_bash_shows_both_streams_in_order(real: Hand) -> None:
    assert real.says("bash", command="echo one; echo two >&2; echo three") == "one\ntwo\nthree\n"
    assert real.says("bash", command="printf größe\U0001f40d") == "größe\U0001f40d"
    assert real.says("bash", command="true") == "(no output)"
    assert real.says("bash", command="echo gone; exit 3") == "gone\n[exit status 3]"
    assert real.says("bash", command="pwd") == "/testbed\n"


def test_bash_keeps_line_numbers_and_multi_line_commands(real: Hand) -> None:
    assert "line 2: nosuchcommand: command not found" in real.says("bash", command="true\nnosuchcommand")
    assert real.says("bash", command="cat <<'END'\na\n  b\nEND\n") == "a\n  b\n"
    assert "syntax error" in real.says("bash", command="if true; then")
    assert real.says("bash", command="# nothing but a comment") == "(no output)"


def test_bash_refuses_what_no_command_can_be(real: Hand) -> None:
    assert (
        real.error("bash", command="echo a\0b") == "the command holds a NUL character, which no command can."
    )
    assert real.error("bash", command="echo " + "ü" * 60_000).startswith(
        "the command is longer than 100000 bytes"
    )


def test_output_that_is_not_utf8(real: Hand) -> None:
    shown = real.says("bash", command=r"printf 'caf\xe9\n\xff'")
    assert shown == "caf\ufffd\n\ufffd\n[2 bytes are not UTF-8, shown as \ufffd]"


def test_a_gibibyte_of_output_is_bounded_and_counted(real: Hand) -> None:
    before = time.monotonic()
    shown = real.says("bash", command="echo begin; head -c 1073741824 /dev/zero | tr '\\0' a; echo; echo end")
    assert shown.startswith("begin\naaaa")
    lines = shown.split("\n")
    assert lines[-2].endswith("bytes from the middle of the output were left out]") or "output" in lines[-1]
    assert len(shown.encode()) <= real.task.limits.output_bytes + 400
    assert time.monotonic() - before < real.task.limits.exec_seconds + 5


def test_a_command_without_end_that_leaves_a_setsid_child(real: Hand) -> None:
    command = "setsid -f sleep 86399; nohup sleep 86398 >/dev/null 2>&1 & sleep 86397"
    before = time.monotonic()
    shown = real.says("bash", command=command, timeout=1)
    assert shown == "[timed out after 1 seconds; every process it started was ended]"
    assert time.monotonic() - before < 10
    assert running(real, "8639") == 0
    assert real.says("bash", command="setsid -f sleep 86396; echo left") == "left\n"
    assert running(real, "8639") == 0


def test_a_fork_bomb(real: Hand) -> None:
    shown = real.says("bash", command="bomb() { bomb | bomb & }; bomb; sleep 86395", timeout=2)
    assert shown
    assert running(real, "bomb") == 0
    assert running(real, "8639") == 0
    assert real.says("bash", command="echo alive") == "alive\n"


def test_a_full_disk(namespace: Backend) -> None:
    hand = Hand(namespace, disk_bytes=8 * 1024**2)
    with hand.box:
        if "disk_bytes" not in namespace.capabilities().limits_enforced:
            pytest.skip(f"disk_bytes is not enforced: {namespace.capabilities().notes}")
        shown = hand.says("bash", command="head -c 67108864 /dev/zero > big; echo status $?")
        assert "status 1" in shown or "ended" in shown
        assert "disk quota is used up" in hand.error("write", path="more.bin", content="x" * 16 * 1024**2)
        assert hand.says("bash", command="rm -f big; echo alive") == "alive\n"
        assert hand.says("write", path="small.txt", content="x") == "Wrote small.txt."


def test_search_for_text(real: Hand) -> None:
    real.box.write("sub/größe.py", "    größe = 1\n".encode())
    real.box.write("bin.dat", b"return\0")
    assert real.says("search", pattern=r"return a \W b") == (
        "calc.py:2:     return a - b\ncalc.py:6:     return a - b"
    )
    assert real.says("search", pattern="größe") == "sub/größe.py:1:     größe = 1"
    assert (
        real.says("search", pattern="def", path="calc.py")
        == "calc.py:1: def add(a, b):\ncalc.py:5: def sub(a, b):"
    )
    assert real.says("search", pattern="nowhere at all") == "No matches."
    assert real.error("search", pattern="(") == (
        "the pattern is not a regular expression: missing ), unterminated subpattern at position 0."
    )
    assert real.error("search", pattern="x", path="nowhere") == "nowhere does not exist."


def test_search_is_bounded(real: Hand) -> None:
    real.box.write("many.txt", b"hit\n" * 5000)
    shown = real.says("search", pattern="hit")
    assert shown.count("\n") == 100
    assert shown.endswith("\n[more than 100 matches; narrow the pattern or the path]")
    real.box.write("wide.txt", b"wide" * 50 + b"\n" + b"wide" * 1000 + b"\n" * 3 + b"wide\n" * 90)
    real.box.write("wider.txt", ("wide" + "\u2603" * 196 + "\n").encode() * 60)
    shown = real.says("search", pattern="wide", path="wider.txt")
    assert len(shown.encode()) < real.task.limits.output_bytes + 100
    assert shown.endswith("\n[more than 13 matches; narrow the pattern or the path]")


def test_search_of_a_tree_deeper_than_the_stack(real: Hand) -> None:
    dig = "import os\nfor _ in range(3000): os.mkdir('d'); os.chdir('d')"
    real.says("bash", command=f'python3 -c "{dig}"; ln -s . circle')
    assert real.says("search", pattern="def add") == "calc.py:1: def add(a, b):"


def test_names_that_are_not_utf8(real: Hand) -> None:
    real.says("bash", command=r"printf 'def strange():\n    pass\n' > $(printf 'caf\xe9.py')")
    assert "caf\\udce9.py" in real.says("view", path=".").split("\n")
    assert real.says("search", pattern="strange") == "caf\\udce9.py:1: def strange():"
    assert real.says("search", pattern="strange", kind="symbol") == "No matches."


def test_a_pattern_that_backtracks_for_ever(namespace: Backend) -> None:
    hand = Hand(namespace, exec_seconds=2.0)
    with hand.box:
        hand.box.write("a.txt", b"a" * 64)
        assert hand.error("search", pattern="(a+)+$b") == (
            "the search took too long; narrow the path or simplify the pattern."
        )


def test_search_for_symbols(real: Hand) -> None:
    source = (
        "LIMIT = 3\n\n\nclass Box:\n    size: int = 1\n\n"
        "    def open(self):\n        inner = 2\n        return inner\n"
    )
    real.box.write("pkg/box.py", source.encode())
    real.box.write("pkg/broken.py", b"def broken_one(:\n    pass\n\n\ndef whole_one():\n    pass\n")
    assert real.says("search", pattern="Box.open", kind="symbol") == "pkg/box.py:7: def open(self):"
    assert real.says("search", pattern="Box*", kind="symbol") == (
        "pkg/box.py:4: class Box:\npkg/box.py:5: size: int = 1\npkg/box.py:7: def open(self):"
    )
    assert real.says("search", pattern="LIMIT", kind="symbol") == "pkg/box.py:1: LIMIT = 3"
    assert real.says("search", pattern="inner", kind="symbol") == "No matches."
    assert real.says("search", pattern="whole_one", kind="symbol") == "pkg/broken.py:5: def whole_one():"
    assert real.says("search", pattern="add", kind="symbol", path="calc.py") == "calc.py:1: def add(a, b):"


def test_the_visible_tests(real: Hand) -> None:
    assert real.says("test") == "2 passed, 0 failed"
    real.says(
        "edit", path="calc.py", old="def sub(a, b):\n    return a - b", new="def sub(a, b):\n    return b - a"
    )
    shown = real.says("test").split("\n")
    assert shown[0] == "1 passed, 1 failed"
    assert shown[1].startswith("FAILED tests/test_calc.py::test_sub: ")
    assert "-2 == 2" in shown[1]
    assert real.says("test", ids=["tests/test_calc.py::test_add_zero"]) == "1 passed, 0 failed"
    assert real.says("test", ids=["tests/test_calc.py"]).startswith("1 passed, 1 failed\n")
    assert real.error("test", ids=["tests/test_calc.py::test_ad_zero"]) == (
        "no visible test is called tests/test_calc.py::test_ad_zero; did you mean "
        "tests/test_calc.py::test_add_zero?"
    )


def test_visible_tests_of_a_module_that_does_not_parse(real: Hand) -> None:
    real.says("write", path="calc.py", content="def add(:\n")
    shown = real.says("test").split("\n")
    assert shown[0] == "0 passed, 2 failed"
    assert all(line.startswith("FAILED tests/test_calc.py::") for line in shown[1:])
