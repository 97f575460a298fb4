"""Start layers: identical everywhere, whole or absent, kept while someone holds them."""

from __future__ import annotations

import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from gym_code.errors import InputError, SandboxUnavailable
from gym_code.gitrepo import base_commit
from gym_code.sandbox.layout import Home, open_home
from gym_code.sandbox.lease import gc, prune_layers
from gym_code.sandbox.store import Store
from gym_code.types import File, StartTree, tree_digest


def tree(files: dict[str, File]) -> StartTree:
    return StartTree(digest=tree_digest(files), files=lambda: files)


FILES = {
    "a/b.txt": File(content=b"b\n"),
    "run": File(content=b"#!/bin/sh\n", executable=True),
    "to": File(link="a/b.txt"),
    "ü \u4e2d": File(content=b"\xff\0"),
}


def bytes_of(root: Path) -> str:
    """One hash over every path, mode, time, link and content."""
    sha = hashlib.sha256()
    for path in sorted(root.rglob("*")):
        info = path.lstat()
        body = (
            os.fsencode(path.readlink())
            if path.is_symlink()
            else path.read_bytes()
            if path.is_file()
            else b""
        )
        sha.update(repr((str(path.relative_to(root)), info.st_mode, info.st_mtime_ns, body)).encode())
    return sha.hexdigest()


def test_law_1_a_layer_is_the_same_bytes_wherever_it_is_made(home: Home) -> None:
    layer = Store(home).acquire(tree(FILES))
    first = bytes_of(layer.root)
    layer.path.rename(layer.path.with_name("moved"))
    again = Store(home).acquire(tree(dict(reversed(FILES.items()))))
    assert bytes_of(again.root) == first
    assert again.base_commit == base_commit(FILES)
    assert (again.root / "workspace" / "run").stat().st_mode & 0o777 == 0o755
    assert (again.root / "workspace" / "to").readlink() == Path("a/b.txt")
    assert (again.root / "tmp").stat().st_mode & 0o7777 == 0o1777


def test_files_are_asked_for_once(home: Home) -> None:
    calls = []
    start = StartTree(digest=tree_digest(FILES), files=lambda: calls.append(1) or FILES)  # type: ignore[func-returns-value]
    store = Store(home)
    store.acquire(start)
    made = len(calls)
    store.acquire(start)
    Store(home).acquire(start)
    assert len(calls) == made


def test_a_wrong_digest_is_refused_and_leaves_nothing(home: Home) -> None:
    wrong = StartTree(digest="0" * 64, files=lambda: FILES)
    with pytest.raises(InputError, match="differs from its digest"):
        Store(home).acquire(wrong)
    assert [path for path in home.layers.iterdir() if path.is_dir()] == []


def test_law_8_a_layer_in_use_is_never_pruned(home: Home) -> None:
    store, other = Store(home), Store(home)
    used, free = store.acquire(tree(FILES)), other.acquire(tree({"x": File()}))
    other.release(free.digest)
    assert prune_layers(home, keep=0, dry_run=True) == [free.path.name]
    assert free.path.is_dir()
    assert prune_layers(home, keep=0) == [free.path.name]
    assert (used.path.is_dir(), free.path.exists()) == (True, False)
    store.release(used.digest)
    assert gc(home, layer_seconds=3600).layers == ()
    assert gc(home, layer_seconds=0).layers == (used.path.name,)


def test_many_threads_make_one_layer(home: Home) -> None:
    store, asked = Store(home), []

    def files() -> dict[str, File]:
        asked.append(1)
        time.sleep(0.02)
        return FILES

    start = StartTree(digest=tree_digest(FILES), files=files)
    with ThreadPoolExecutor(8) as executor:
        layers = set(executor.map(store.acquire, [start] * 32))
    made = len(asked)
    layer = layers.pop()
    assert not layers
    for _ in range(32):
        store.release(layer.digest)
    layer.path.rename(layer.path.with_name("moved"))
    store.acquire(start)
    assert len(asked) == 2 * made  # no thread asked that did not make it
    assert [path.name for path in home.layers.iterdir() if path.name.startswith(".part")] == []


def test_a_thousand_files(home: Home) -> None:
    files = {f"d{n % 17}/é{n}.txt": File(content=b"%d\n" % n) for n in range(1000)}
    layer = Store(home).acquire(tree(files))
    assert sum(path.is_file() for path in (layer.root / "workspace").glob("d*/*")) == 1000
    assert layer.base_commit == base_commit(files)


def test_half_made_directories_of_the_dead_are_removed(home: Home) -> None:
    (home.layers / ".part-999999-1-1-abc").mkdir()
    mine = home.layers / f".part-{os.getpid()}-{_start()}-1-abc"
    mine.mkdir()
    report = gc(home, dry_run=True)
    assert [Path(name).name for name in report.directories] == [".part-999999-1-1-abc"]
    assert (home.layers / ".part-999999-1-1-abc").is_dir()
    gc(home)
    assert not (home.layers / ".part-999999-1-1-abc").exists()
    assert mine.is_dir()


def _start() -> str:
    return Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's boxes run as another user")
def test_a_state_directory_that_boxes_cannot_reach_is_refused(home: Home) -> None:
    (home.root / "shut").mkdir(mode=0o700)
    with pytest.raises(SandboxUnavailable, match=r"chmod o\+x"):
        open_home(home.root / "shut" / "state")
