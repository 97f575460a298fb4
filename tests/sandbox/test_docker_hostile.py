"""What an agent may do to containers and their keeper: its own loss, never ours, never another box's."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from gym_code.sandbox.base import BoxSpec
from gym_code.sandbox.checks import LIMITS, START, start_tree
from gym_code.sandbox.docker import DockerBackend
from gym_code.sandbox.layered import MOST_LAYERS

pytestmark = pytest.mark.docker
SPEC = BoxSpec(start=start_tree(START), limits=LIMITS)
MIB = 1 << 20


def test_law_3_a_large_file_of_many_names_is_read_once(docker: DockerBackend) -> None:
    with docker.open(SPEC) as box:
        box.exec("head -c 20M /dev/urandom > f")
        plain = box.digest()
        box.exec("for i in $(seq 2000); do ln f x$i; done")
        begin = time.monotonic()
        assert box.digest() != plain
        assert time.monotonic() - begin < 10
        box.exec("rm x*")
        assert box.digest() == plain


def test_law_3_flattened_layers_may_hold_more_than_one_could(docker: DockerBackend) -> None:
    """Each snapshot may add a disk's worth; and what shared an inode, or was sparse, does so afterwards."""
    with docker.open(replace(SPEC, limits=replace(LIMITS, disk_bytes=4 * MIB))) as box:
        box.exec("head -c 1M /dev/urandom > f; for i in $(seq 30); do ln f x$i; done; truncate -s 1G sparse")
        box.exec("for i in $(seq 0 99); do printf x | dd of=sparse bs=1 seek=${i}00000 conv=notrunc; done")
        for number in range(MOST_LAYERS + 1):
            if number < 8:
                box.exec(f"head -c 2M /dev/urandom > big{number}")
            if number == MOST_LAYERS:
                before = box.digest()
            box.snapshot()
        assert len(box._frozen) == 1
        assert box.digest() == before
        counted = box.exec("stat -c %h f; cat big* | wc -c; du -k sparse | cut -f1").stdout.split()
        assert counted == [b"31", b"%d" % (16 * MIB), b"400"]
        box.write("f", b"new")
        assert box.exec("stat -c %s x1").stdout == b"%d\n" % MIB


FORGE = """
import os
for name in ("opaque", "redirect", "metacopy", "whiteout"):
    for path in ("pkg", "README"):
        try:
            os.setxattr(path, f"user.overlay.{name}", b"y")
        except OSError:
            pass
for make in (lambda: os.mknod("pkg/mod.py.gone", 0o020000, 0), lambda: os.mknod("w", 0o060000, 7)):
    try:
        make()
        print("made a device")
    except OSError:
        pass
os.mkfifo("fifo")
"""


def test_law_5_the_marks_of_an_overlay_cannot_be_forged(docker: DockerBackend) -> None:
    with docker.open(SPEC) as box:
        clean = box.digest()
        assert box.exec(["python3", "-c", FORGE]).stdout == b""
        assert box.digest() == clean
        box.snapshot()
        (fork,) = box.fork(1)
        with fork:
            for each in (box, fork):
                assert each.exec("ls pkg").stdout == b"data.bin\nmod.py\n"
                assert each.read("README") == b"start\n"
                assert (each.digest(), each.diff()) == (clean, b"")
