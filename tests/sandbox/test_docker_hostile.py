"""What an agent may do to containers and their keeper: its own loss, never ours, never another box's."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from gym_code.errors import SandboxClosed, SandboxError
from gym_code.sandbox.base import BoxSpec
from gym_code.sandbox.build import build
from gym_code.sandbox.checks import LIMITS, START, start_tree
from gym_code.sandbox.docker import GUEST_VOLUME, LAYERS_VOLUME, DockerBackend, DockerBlank, gc_docker
from gym_code.sandbox.dockerd import HOST, KIND, OWNER, connect, host_id, orphaned
from gym_code.sandbox.layered import MOST_LAYERS, LayeredSandbox
from gym_code.sandbox.namespace import NamespaceBackend
from gym_code.types import Cause

pytestmark = [pytest.mark.docker, pytest.mark.sandbox]
SPEC = BoxSpec(start=start_tree(START), limits=LIMITS)
MIB = 1 << 20


def container_of(box: LayeredSandbox) -> str:
    assert isinstance(box._blank, DockerBlank)
    return box._blank.container


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


HOARD = """
import os, socket, time
open("/proc/self/oom_score_adj", "w").write("0")  # no better a victim than process 1, and smaller
for _ in range(3):
    os.fork()
hoard = []
try:
    while True:
        pair = socket.socketpair()
        pair[0].setblocking(False)
        hoard.append(pair)
        try:
            while True:
                pair[0].send(bytes(60000))
        except BlockingIOError:
            pass
except OSError:
    time.sleep(30)
"""


def test_law_3_who_makes_the_kernel_kill_the_supervisor_is_blamed(docker: DockerBackend) -> None:
    """Memory of the kernel's own, which no watchdog over processes sees."""
    with docker.open(SPEC) as box:
        box.write("kept", b"kept")
        first = container_of(box)
        for _ in range(5):
            result = box.exec(["python3", "-c", HOARD], timeout=15)
            assert (result.exit_code, result.cause) == (137, Cause.OUT_OF_MEMORY)
            assert box.read("kept") == b"kept"
            if container_of(box) != first:
                break
        assert container_of(box) != first  # else the supervisor was never hit
        assert box.exec("echo alive").stdout == b"alive\n"


def test_law_3_a_removed_container_is_our_fault_also_after_a_shortage(docker: DockerBackend) -> None:
    with docker.open(SPEC) as box:
        for _ in range(3):
            if box.exec(["python3", "-c", HOARD], timeout=15).cause is Cause.OUT_OF_MEMORY:
                break
        connect().remove_container(container_of(box), force=True)
        with pytest.raises(SandboxClosed):
            box.exec("true")


def test_law_3_what_snapshots_hold_is_not_the_agents_memory(docker: DockerBackend) -> None:
    limits = replace(LIMITS, memory_bytes=48 * MIB)
    with docker.open(replace(SPEC, limits=limits)) as box:
        for _ in range(12):
            box.write("big", bytes(16 * MIB))
            box.snapshot()
            assert box.exec("head -c 16M /dev/urandom > big").exit_code == 0
            box.snapshot()
        assert box.exec(["python3", "-c", "x = b'x' * (99 << 20)"]).cause is Cause.OUT_OF_MEMORY
        assert box.exec("stat -c %s big").stdout == b"%d\n" % (16 * MIB)


def test_law_3_a_file_larger_than_the_box_is_an_error_of_the_agents(docker: DockerBackend) -> None:
    with docker.open(replace(SPEC, limits=replace(LIMITS, memory_bytes=48 * MIB))) as box:
        box.exec("truncate -s 255M large")
        with pytest.raises(OSError, match="Cannot allocate memory: 'large'"):
            box.read("large")
        assert len(box.read("large", max_bytes=1000)) == 1000


def test_law_3_paths_too_long_to_follow_end_no_supervisor(
    docker: DockerBackend, namespace: NamespaceBackend
) -> None:
    for backend in (docker, namespace):
        with backend.open(SPEC) as box:
            box.exec("ln -s target l0; for i in $(seq 1200); do ln -s l$((i-1)) l$i; done")
            clean = box.digest()
            for path in ("l1200", "a/" * 1500 + "f"):
                with pytest.raises(OSError, match="too many levels"):
                    box.write(path, b"x")
            assert box.digest() == clean
            box.write("l7", b"followed")
            box.write("b/" * 100 + "f", b"made")
            assert box.exec("cat target $(find b -name f)").stdout == b"followedmade"


def test_law_10_no_queue_outlives_a_restore(docker: DockerBackend) -> None:
    with docker.open(SPEC) as box:
        assert box.exec("touch /dev/mqueue/x").exit_code == 1
        assert box.exec("touch /dev/shm/x").exit_code == 0
        mounts = box.exec(
            "for m in $(cut -d' ' -f2 /proc/mounts | sort -u); do [ -d $m -a -w $m ] && echo $m; done"
        )
        assert mounts.stdout.split() == [b"/dev/shm", b"/home/agent", b"/testbed", b"/tmp"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout": float("inf")},
        {"timeout": float("nan")},
        {"timeout": 1e12},
        {"env": {"A": "\0"}},
        {"env": {"A=B": "c"}},
        {"env": {"": "c"}},
        {"cwd": "\0"},
    ],
)
def test_arguments_that_cannot_be_are_refused_and_end_no_box(
    docker: DockerBackend, wrong: dict[str, object]
) -> None:
    with docker.open(SPEC) as box:
        with pytest.raises(ValueError, match=r"NUL|variable|timeout"):
            box.exec("true", **wrong)  # type: ignore[arg-type]
        assert box.exec("echo alive").stdout == b"alive\n"


def close_at(gate: threading.Barrier, box: LayeredSandbox) -> None:
    gate.wait(20)
    box.close()


def test_law_8_closed_by_many_while_in_use(docker: DockerBackend) -> None:
    """A start layer is given back once, or boxes beside this one would lose theirs."""
    with docker.open(SPEC) as other, ThreadPoolExecutor(5) as executor:
        for number in range(6):
            box = docker.open(SPEC)
            running = executor.submit(box.exec, "setsid sleep 60 & sleep 60")
            time.sleep(0.02 * number)
            gate = threading.Barrier(4)
            closers = [executor.submit(close_at, gate, box) for _ in range(4)]
            for closer in closers:
                closer.result(20)
            with pytest.raises(SandboxClosed):
                running.result(20)
        users = other._parts.store._held[other._layer.digest].users
        assert users == 1
        assert other.exec("echo alive").stdout == b"alive\n"


CYCLES = """
import gc, os, threading
from gym_code.sandbox.base import BoxSpec
from gym_code.sandbox.build import build
from gym_code.sandbox.checks import LIMITS, START, start_tree
from gym_code.sandbox.docker import DockerBackend

gc.disable()  # nothing may wait for the collector
spec = BoxSpec(start=start_tree(START), limits=LIMITS)
for _ in range(3):
    with DockerBackend(spare=1) as backend, backend.open(spec) as box:
        box.exec("true")
        (fork,) = box.fork(1)
    print(len(os.listdir("/proc/self/fd")), threading.active_count())
"""


def test_law_8_a_closed_backend_holds_no_descriptor_and_no_thread() -> None:
    answer = subprocess.run(
        [sys.executable, "-c", CYCLES], capture_output=True, text=True, timeout=100, check=True
    )
    first, *others = answer.stdout.splitlines()
    assert first.endswith(" 1")
    assert others == [first, first]


def test_law_3_an_interrupted_request_leaves_its_reply_to_nobody(docker: DockerBackend) -> None:
    """Ctrl-C in a notebook, whose user then goes on."""
    lost = DockerBackend(spare=0)
    with lost, lost.open(SPEC) as box, lost.open(SPEC) as other:
        signal.setitimer(signal.ITIMER_REAL, 0.5)
        old = signal.signal(signal.SIGALRM, signal.default_int_handler)
        try:
            with pytest.raises(KeyboardInterrupt):
                box.exec("sleep 2; echo late")
            time.sleep(2)
            with pytest.raises(SandboxClosed):
                box.exec("echo second")
            keeper = other._parts.keeper
            other.exec("for i in $(seq 3000); do echo $i > f$i; done")
            signal.setitimer(signal.ITIMER_REAL, 0.005)
            with pytest.raises(KeyboardInterrupt):
                _ = [other.digest() for _ in range(1000)]
            assert keeper.lost
            with pytest.raises(SandboxError):
                other.diff()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, old)


def test_gc_removes_our_volumes_and_no_others(docker: DockerBackend) -> None:
    docker.prepare(SPEC)
    old = GUEST_VOLUME + secrets.token_hex(12)
    others = [f"{LAYERS_VOLUME}-backup", f"{GUEST_VOLUME}mine"]
    client = connect()
    for name in (old, *others):
        client.create_volume(name)
    try:
        assert set(gc_docker(everything=True, dry_run=True).volumes) & {old, *others, LAYERS_VOLUME} == {old}
        gc_docker()
        left = {row["Name"] for row in client.volumes()["Volumes"]}
        assert left >= {*others, LAYERS_VOLUME}
        assert old not in left
    finally:
        for name in others:
            client.remove_volume(name)


def test_law_8_an_owner_whom_proc_hides_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    """`hidepid` on a shared machine: the containers of others are theirs."""
    labels = {HOST: host_id(), OWNER: f"{os.getpid() + 1_000_000_000}-17"}
    assert orphaned(labels)
    answers = {PermissionError: False, ProcessLookupError: True}
    for error, dead in answers.items():

        def refuse(pid: int, number: int, error: type[OSError] = error) -> None:
            raise error

        monkeypatch.setattr(os, "kill", refuse)
        assert orphaned(labels) is dead


STAGED = """
ARG BASE
FROM ${BASE} AS first
LABEL gym-code.kind=stage
COPY number /number
RUN cat /number
RUN echo made > /made
FROM scratch
COPY --from=first /made /made
"""


def test_builds_at_the_same_time_leave_each_others_stages_alone(docker: DockerBackend) -> None:
    docker.prepare(SPEC)
    base = connect().images(name="gym-code/base")[0]["Id"]

    def work(number: int) -> str:
        client, tag = connect(), f"gym-code/hostile:{secrets.token_hex(6)}"
        time.sleep(0.3 * number)
        build(
            client,
            tag=tag,
            dockerfile=STAGED,
            files={"number": secrets.token_bytes(8)},
            arguments={"BASE": base},
            labels={KIND: "test"},
        )
        return tag

    with ThreadPoolExecutor(6) as executor:
        tags = list(executor.map(work, range(6)))
    for tag in tags:  # not while others build: the daemon itself stumbles over that
        connect().remove_image(tag)
    assert len(set(tags)) == 6
