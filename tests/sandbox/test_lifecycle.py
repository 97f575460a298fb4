"""Boxes over time: many at once, dead owners, dead supervisors, what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from gym_code.errors import InputError, SandboxClosed, SandboxError
from gym_code.patch import apply_patch, with_changes
from gym_code.sandbox.base import BoxSpec
from gym_code.sandbox.cgroups import find_groups, leased_groups
from gym_code.sandbox.checks import LIMITS, START, start_tree
from gym_code.sandbox.layout import Home, open_home
from gym_code.sandbox.lease import Lease, gc, start_time
from gym_code.sandbox.link import KeeperLink
from gym_code.sandbox.namespace import NamespaceBackend
from gym_code.types import Cause, File
from tests.sandbox.processes import eventually, first_in, marked, running

pytestmark = pytest.mark.sandbox
SPEC = BoxSpec(start=start_tree(START), limits=LIMITS)

OWNER = """
import sys, time
from gym_code.sandbox.namespace import NamespaceBackend
from gym_code.sandbox.base import BoxSpec
from gym_code.sandbox.checks import START, start_tree, LIMITS
backend = NamespaceBackend()
box = backend.open(BoxSpec(start=start_tree(START), limits=LIMITS))
print(backend._started.keeper.process.pid, flush=True)
box.exec("setsid nohup sleep 4711.5 & setsid sh -c 'sleep 4711.5 & wait' & sleep 4711.5", timeout=60)
"""


@pytest.fixture
def owner(home: Home) -> Iterator[subprocess.Popen[str]]:
    command, own = [sys.executable, "-c", OWNER], {**os.environ, "GYM_CODE_HOME": str(home.root)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=own) as process:
        yield process
        process.kill()


def test_law_8_kill_9_of_the_owner_leaves_no_process_and_gc_the_rest(
    owner: subprocess.Popen[str], home: Home
) -> None:
    assert owner.stdout is not None
    keeper = int(owner.stdout.readline())
    assert eventually(lambda: len(running("sleep 4711.5")) >= 3, 10.0)
    os.kill(owner.pid, signal.SIGKILL)
    owner.wait()
    assert eventually(lambda: running("sleep 4711.5") == [] and start_time(keeper) is None, 10.0)
    tag = f"{owner.pid}-"
    assert [name.startswith(tag) for name in gc(home, dry_run=True).leases] == [True]
    gc(home)
    assert list(home.leases.glob("*.json")) == []
    assert [path for name, path in leased_groups() if name.startswith(tag)] == []


def launch_on_and_on(link: KeeperLink, argv: list[str]) -> None:
    descriptors: list[int] = []
    try:
        while True:
            descriptors += link.call("launch", argv=argv, held=False)[1]
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


@pytest.mark.parametrize("victim", ["outside", "first"])
def test_law_8_a_keeper_killed_while_boxes_start_leaves_none(
    namespace: NamespaceBackend, monkeypatch: pytest.MonkeyPatch, victim: str
) -> None:
    namespace.open(SPEC).close()
    assert namespace._started is not None
    argv, home = list(next(iter(namespace._started.keys.values()))), open_home()
    mark = f"GYM_CODE_TEST_MARK={os.getpid()}-{victim}"
    monkeypatch.setenv(*mark.split("="))
    for trial in range(15):
        link = KeeperLink(home)
        pid = link.process.pid if victim == "outside" else first_in(link.process.pid)
        killer = threading.Timer(trial / 500, os.kill, (pid, signal.SIGKILL))
        killer.start()
        with pytest.raises(SandboxError):
            launch_on_and_on(link, argv)
        killer.join()
        link.close()
        assert eventually(lambda: marked(mark) == [], 10.0), trial


def test_law_8_a_keeper_that_outlived_its_owner_is_ended(home: Home) -> None:
    with subprocess.Popen(["sleep", "60"]) as stray:
        lease = home.leases / f"999999-1-{stray.pid}.json"
        lease.write_text(f'{{"keeper": "{stray.pid}-{start_time(stray.pid)}"}}')
        assert gc(home, dry_run=True).keepers == (stray.pid,)
        assert stray.poll() is None
        gc(home)
        assert stray.wait(5) == -signal.SIGKILL
    assert not lease.exists()


@pytest.mark.skipif(find_groups()[0] is None, reason="no control groups here")
def test_law_8_groups_made_in_another_group_are_found(home: Home) -> None:
    groups = find_groups()[0]
    assert groups is not None
    elsewhere = groups.parent / "elsewhere"
    left = elsewhere / "gym-code-999999-1-7"
    left.mkdir(parents=True)
    Lease.write(home, os.getpid(), elsewhere).release()
    try:
        assert str(left) in gc(home).control_groups
        assert list(elsewhere.glob("gym-code-*")) == []
    finally:
        elsewhere.rmdir()


def test_law_8_a_torn_lease_is_removed(home: Home) -> None:
    lease = home.leases / "999999-1-5.json"
    lease.write_text('{"keep')
    assert gc(home).leases == (lease.stem,)
    assert not lease.exists()


def test_closing_a_backend_leaves_nothing() -> None:
    backend = NamespaceBackend(spare=2)
    boxes = [backend.open(SPEC) for _ in range(3)]
    assert backend._started is not None
    keeper = backend._started.keeper.process.pid
    lease = backend._started.lease.path
    assert lease.exists()
    groups = [box._blank.group.path for box in boxes if box._blank.group is not None]
    backend.close()
    backend.close()
    assert (start_time(keeper), lease.exists()) == (None, False)
    assert [path for path in groups if path.exists()] == []
    with pytest.raises(SandboxClosed):
        boxes[0].exec("true")
    with pytest.raises(SandboxClosed):
        backend.open(SPEC)


def test_two_backends_of_one_process_do_not_meet(namespace: NamespaceBackend) -> None:
    with NamespaceBackend(spare=0) as other, NamespaceBackend(spare=0) as third:
        boxes = [backend.open(SPEC) for backend in (namespace, other, third) for _ in range(3)]
        groups = [box._blank.group.path for box in boxes if box._blank.group is not None]
        assert len(set(groups)) == len(groups)
        assert [box.exec("echo alive").stdout for box in boxes] == [b"alive\n"] * 9
        for box in boxes:
            box.close()


def test_eight_threads_open_boxes_at_once(namespace: NamespaceBackend) -> None:
    def work(number: int) -> tuple[bytes, bytes]:
        with namespace.open(SPEC) as box:
            box.write("mine", b"%d" % number)
            (fork,) = box.fork(1)
            with fork:
                return box.exec(["cat", "mine"]).stdout, fork.read("mine")

    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(work, range(32))) == [(b"%d" % n, b"%d" % n) for n in range(32)]


def test_a_box_can_be_closed_from_another_thread(namespace: NamespaceBackend) -> None:
    box = namespace.open(SPEC)
    with ThreadPoolExecutor(1) as executor:
        waiting = executor.submit(box.exec, "sleep 30", timeout=30)
        time.sleep(0.2)
        begin = time.monotonic()
        box.close()
        with pytest.raises(SandboxClosed):
            waiting.result()
    assert time.monotonic() - begin < 5


def test_a_thousand_files_change_and_export(namespace: NamespaceBackend) -> None:
    files = {f"d{n % 17}/é{n}.txt": File(content=b"%d\n" % n) for n in range(1000)}
    with namespace.open(BoxSpec(start=start_tree(files))) as box:
        assert box.diff() == b""
        box.exec("for f in d3/*; do echo more >> $f; done; rm -r d4; mkdir -p new; seq 1000 > new/n")
        after = with_changes(files, apply_patch(files, box.diff()))
        wanted = {name: file for name, file in files.items() if not name.startswith("d4/")}
        for name in [name for name in wanted if name.startswith("d3/")]:
            wanted[name] = File(content=wanted[name].content + b"more\n")
        wanted["new/n"] = File(content=b"".join(b"%d\n" % n for n in range(1, 1001)))
        assert after == dict(sorted(wanted.items()))


@pytest.mark.skipif(find_groups()[0] is None, reason="no control groups here")
def test_law_3_a_supervisor_killed_for_memory_is_the_agents_doing(
    namespace: NamespaceBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    with namespace.open(SPEC) as box:
        box.write("kept", b"kept")
        group = box._blank.group
        assert group is not None
        pids = (group.path / "cgroup.procs").read_text().split()
        assert len(pids) == 2  # bubblewrap, and process 1 of the box
        monkeypatch.setattr(type(group), "kills", lambda self: 1)  # as if the kernel had chosen process 1
        os.kill(int(pids[1]), signal.SIGKILL)
        result = box.exec("sleep 5")
        assert (result.cause, result.exit_code) == (Cause.OUT_OF_MEMORY, 137)
        assert (box.read("kept"), box.exec("echo alive").stdout) == (b"kept", b"alive\n")


@pytest.mark.skipif(find_groups()[0] is None, reason="no control groups here")
def test_law_3_a_supervisor_that_dies_otherwise_is_our_fault(namespace: NamespaceBackend) -> None:
    with namespace.open(SPEC) as box:
        assert box._blank.group is not None
        os.kill(int((box._blank.group.path / "cgroup.procs").read_text().split()[1]), signal.SIGKILL)
        with pytest.raises(SandboxError):
            box.exec("true")


@pytest.mark.skipif(find_groups()[0] is None, reason="no control groups here")
def test_law_3_the_wall_behind_the_watchdog_blames_the_agent(namespace: NamespaceBackend) -> None:
    with namespace.open(replace(SPEC, limits=replace(LIMITS, memory_bytes=1 << 40))) as box:
        assert box._blank.group is not None
        box._blank.group.set_limit(64 << 20)  # so that the kernel is faster than the watchdog
        hog = "x = bytearray(300 << 20); x[::4096] = b'x' * len(x[::4096])"
        assert box.exec(["python3", "-c", hog]).cause is Cause.OUT_OF_MEMORY


@pytest.mark.parametrize("workdir", ["/", "/tmp", "/home/agent/x", "/usr/x", "relative", "/etc", "/proc/x"])
def test_workdirs_that_cannot_be_are_refused(namespace: NamespaceBackend, workdir: str) -> None:
    with pytest.raises(InputError, match="workdir"):
        namespace.open(replace(SPEC, workdir=workdir))


def test_another_workdir(namespace: NamespaceBackend) -> None:
    with namespace.open(replace(SPEC, workdir="/work/space/repo")) as box:
        assert box.exec(["pwd"]).stdout == b"/work/space/repo\n"
        assert box.read("/work/space/repo/README") == b"start\n"


def test_layers_are_given_back(namespace: NamespaceBackend) -> None:
    """Snapshots, forks and restores leave no mount in the keeper once their boxes are closed."""
    assert namespace._started is not None or namespace.capabilities()
    assert namespace._started is not None
    mounts = Path(f"/proc/{first_in(namespace._started.keeper.process.pid)}/mounts")
    before = mounts.read_text().count("tmpfs")
    box = namespace.open(SPEC)
    names = [box.snapshot() for _ in range(5)]
    forks = box.fork(2)
    box.restore(names[2])
    forks[0].snapshot()
    for each in (box, *forks):
        each.close()
    assert mounts.read_text().count("tmpfs") == before


def test_law_3_directories_nested_beyond_all_names_are_the_agents_own_loss(
    namespace: NamespaceBackend,
) -> None:
    nest = "import os\nfor _ in range(3000):\n    os.mkdir('d')\n    os.chdir('d')\n"
    with namespace.open(SPEC) as box:
        before = box.digest()
        assert box.exec(["python3", "-c", nest], timeout=20).ok
        box.write("kept", b"kept\n")
        assert box.digest() != before
        assert b"+kept" in box.diff()
        box.restore(box.snapshot())
        assert box.read("kept") == b"kept\n"


def test_a_lost_keeper_is_replaced() -> None:
    with NamespaceBackend(spare=1) as backend:
        box = backend.open(SPEC)
        assert backend.capabilities()
        os.kill(backend._parts().keeper.process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
        with pytest.raises(SandboxError):
            box.snapshot()
        with backend.open(SPEC) as again:
            assert again.exec("echo alive").stdout == b"alive\n"
        with pytest.raises(SandboxClosed):
            box.exec("true")
