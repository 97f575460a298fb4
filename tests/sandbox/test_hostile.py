"""What an agent may do to exhaust, block or blind the parts around it: its own loss, never ours."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gym_code.errors import SandboxClosed, SandboxError
from gym_code.sandbox.base import BoxSpec
from gym_code.sandbox.changes import collect, content_hash, within_budget
from gym_code.sandbox.checks import LIMITS, START, start_tree
from gym_code.sandbox.export import state_digest
from gym_code.sandbox.memory import MemoryBackend
from gym_code.sandbox.namespace import NamespaceBackend
from gym_code.sandbox.removal import remove
from gym_code.types import Cause
from tests.sandbox.processes import first_in

pytestmark = pytest.mark.sandbox
SPEC = BoxSpec(start=start_tree(START), limits=LIMITS)
MIB = 1 << 20


def test_law_3_sparse_files_cost_the_host_nothing(namespace: NamespaceBackend) -> None:
    with namespace.open(SPEC) as box:
        box.exec("for i in $(seq 400); do truncate -s 32M s$i; done; echo kept > kept")
        begin = time.monotonic()
        first = box.digest()
        patch = box.diff()
        assert time.monotonic() - begin < 8
        assert b"+kept" in patch
        assert len(patch) < 32 * MIB
        box.exec("printf x | dd of=s7 bs=1 seek=9000000 conv=notrunc")
        assert box.digest() != first
        box.exec("printf '\\0' | dd of=s7 bs=1 seek=9000000 conv=notrunc")
        assert box.digest() == first


def test_law_3_what_passes_the_budget_of_a_patch_is_left_out(namespace: NamespaceBackend) -> None:
    with namespace.open(replace(SPEC, limits=replace(LIMITS, disk_bytes=128 * MIB))) as box:
        box.exec(
            "head -c 40M /dev/urandom > a; head -c 1M /dev/urandom > b; echo kept > c;"
            " mkdir __pycache__; head -c 31M /dev/urandom > __pycache__/x"
        )
        patch = box.diff()
    assert b"diff --git a/b b/b" in patch
    assert b"+kept" in patch
    assert b"diff --git a/a b/a" not in patch


def test_smaller_files_come_first_within_the_budget() -> None:
    assert within_budget([(30 * MIB, b"a"), (3 * MIB, b"b"), (1, b"c")]) == {b"b", b"c"}
    assert within_budget([(32 * MIB - 129, b"a")]) == {b"a"}
    assert within_budget([(32 * MIB - 128, b"a")]) == set()


def test_equal_contents_have_equal_hashes_whatever_their_holes(
    namespace: NamespaceBackend, memory: MemoryBackend
) -> None:
    content = bytes(100_000) + b"x" * 70_000 + bytes(50_000)
    digests = set()
    for backend in (namespace, memory):
        with backend.open(SPEC) as box:
            box.write("f", content)
            digests.add(box.digest())
    with namespace.open(SPEC) as box:
        box.exec("truncate -s 100000 f; head -c 70000 /dev/zero | tr '\\0' x >> f; truncate -s 220000 f")
        assert box.read("f") == content
        digests.add(box.digest())
    assert len(digests) == 1
    assert content_hash(bytes(20_000)) != content_hash(bytes(20_001))


def test_law_3_many_files_changed_after_a_snapshot_cost_what_they_are(tmp_path: Path) -> None:
    layers = [tmp_path / name for name in ("base", "one", "two")]
    for layer in layers:
        layer.mkdir()
    for layer in layers[1:]:
        for number in range(10_000):
            (layer / f"f{number}").write_bytes(layer.name.encode())
    (layers[1] / "d").mkdir()
    (layers[1] / "d" / "inner").touch()
    (layers[2] / "d").touch()
    begin = time.monotonic()
    found = collect([str(layer) for layer in layers[1:]], str(layers[0]))
    assert time.monotonic() - begin < 5
    assert len(found) == 10_001
    assert found[b"f77"].source == str(layers[2] / "f77")
    assert (found[b"d"].kind, b"d/inner" in found) == ("f", False)


def nest(path: Path, depth: int) -> None:
    """Directories deeper than any path can name, each with a file and a sibling."""
    fd = os.open(path, os.O_RDONLY)
    for _ in range(depth):
        for name in ("d" * 20, "e"):
            os.mkdir(name, dir_fd=fd)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
        below = os.open("d" * 20, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)


def test_law_8_trees_of_any_depth_are_removed(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    (tree / "closed" / "inner").mkdir(parents=True)
    (tree / "closed").chmod(0)
    (tree / "gone-0").mkdir()
    (tree / "gone-0" / "x").symlink_to("/")
    nest(tree, 1500)
    remove(tree)
    assert list(tmp_path.iterdir()) == []
    remove(tree)


def test_law_3_a_pipe_in_the_workdir_blocks_neither_write_nor_read(namespace: NamespaceBackend) -> None:
    with namespace.open(SPEC) as box:
        box.exec("mkfifo .gym-code-part pipe")
        begin = time.monotonic()
        box.write("new", b"new\n")
        with pytest.raises(PermissionError):
            box.read("pipe")
        assert time.monotonic() - begin < 5
        assert box.read("new") == b"new\n"
        assert [name for name in box.list() if "gym-code" in name] == [".gym-code-part"]


@pytest.fixture
def lonely() -> Iterator[NamespaceBackend]:
    """A backend whose keeper may be ruined."""
    with NamespaceBackend(spare=0) as backend:
        yield backend


def test_law_3_a_late_reply_is_never_anothers(lonely: NamespaceBackend) -> None:
    one, two = lonely.open(SPEC), lonely.open(SPEC)
    one.write("one", b"one\n")
    assert lonely._started is not None
    link = lonely._started.keeper
    link._socket.settimeout(0.3)
    os.kill(first_in(link.process.pid), signal.SIGSTOP)
    with pytest.raises(SandboxError, match="does not answer"):
        one.diff()
    os.kill(first_in(link.process.pid), signal.SIGCONT)
    time.sleep(0.3)
    with pytest.raises(SandboxClosed):
        two.diff()


def test_law_3_a_supervisor_late_once_is_not_heard_again(lonely: NamespaceBackend) -> None:
    with lonely.open(SPEC) as box:
        with pytest.raises(SandboxError, match="in time"):
            box._guest.request([b"exec", b"9", b"99", b"0", b"/", b"2", b"/usr/bin/sleep", b"1", b""], 0.2)
        time.sleep(1)
        with pytest.raises(SandboxClosed):
            box.read("README")


def test_law_3_a_bad_request_ends_no_box(lonely: NamespaceBackend) -> None:
    with lonely.open(SPEC) as box:
        assert lonely._started is not None
        for fields in ({"box": 4711, "layers": []}, {"nonsense": 1}):
            with pytest.raises(SandboxError, match="KeyError"):
                lonely._started.keeper.request("destroy", **fields)
        assert box.exec("echo alive").stdout == b"alive\n"
        assert box.diff() == b""


HIDDEN = """
import ctypes, time
ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)
hog = bytearray(300 << 20)
hog[::4096] = b"x" * len(hog[::4096])
time.sleep(5)
"""


def test_law_3_a_process_that_hides_its_maps_is_counted(namespace: NamespaceBackend) -> None:
    with namespace.open(replace(SPEC, limits=replace(LIMITS, memory_bytes=200 * MIB))) as box:
        if box._blank.group is not None:
            box._blank.group.set_limit(1 << 40)  # the wall must not do the watchdog's work
        result = box.exec(["python3", "-c", HIDDEN], timeout=10)
    assert result.cause is Cause.OUT_OF_MEMORY
    assert result.seconds < 5


def test_what_holds_times_is_not_in_a_digest() -> None:
    empty = state_digest([])
    stamped = [
        b".git/index",
        b"a/.git/index",
        b".git/worktrees/w/index",
        b"a/x.pyc",
        b"__pycache__",
        b"index",
    ]
    digests = [state_digest([("f", 0o644, path, b"h")]) for path in stamped]
    assert [digest == empty for digest in digests] == [True] * 5 + [False]


def test_law_1_addresses_are_the_same_in_every_box(namespace: NamespaceBackend) -> None:
    shown = set()
    for _ in range(2):
        with namespace.open(SPEC) as box:
            if box.exec("grep -q 00040000 /proc/self/personality").exit_code:
                pytest.skip("this machine does not let us choose a personality")
            for _ in range(2):
                shown.add(box.exec(["python3", "-c", "print(object())"]).stdout)
    assert len(shown) == 1
