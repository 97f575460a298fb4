"""What only containers have: how they are locked up, what happens when they vanish, what is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from gym_code.errors import InputError, SandboxClosed, SandboxError
from gym_code.sandbox.attached import AttachedKeeper
from gym_code.sandbox.base import BoxSpec
from gym_code.sandbox.checks import LIMITS, START, start_tree
from gym_code.sandbox.docker import DockerBackend, DockerBlank, DockerParts, gc_docker
from gym_code.sandbox.dockerd import HOST, KIND, OWNER, connect, host_id, labels
from gym_code.sandbox.layered import LayeredSandbox
from gym_code.sandbox.namespace import NamespaceBackend
from tests.sandbox.processes import eventually

pytestmark = pytest.mark.docker
SPEC = BoxSpec(start=start_tree(START), limits=LIMITS)

OWNER_PROGRAM = """
import sys
from gym_code.sandbox.docker import DockerBackend
from gym_code.sandbox.base import BoxSpec
from gym_code.sandbox.checks import START, start_tree, LIMITS
backend = DockerBackend(spare=1)
box = backend.open(BoxSpec(start=start_tree(START), limits=LIMITS))
print("up", flush=True)
box.exec("setsid nohup sleep 4712.5 & sleep 4712.5", timeout=60)
"""


def parts_of(backend: DockerBackend) -> DockerParts:
    parts = backend._parts()
    assert isinstance(parts, DockerParts)
    return parts


def container_of(box: LayeredSandbox) -> str:
    assert isinstance(box._blank, DockerBlank)
    return box._blank.container


def owned_by(pid: int) -> list[str]:
    rows = connect().containers(all=True, filters={"label": KIND})
    return [row["Id"] for row in rows if row["Labels"].get(OWNER, "").startswith(f"{pid}-")]


@pytest.fixture
def lonely() -> Iterator[DockerBackend]:
    """A backend that a test may break."""
    with DockerBackend(spare=0) as backend:
        yield backend


def test_the_container_is_locked_up(docker: DockerBackend) -> None:
    with docker.open(SPEC) as box:
        found = connect().inspect_container(container_of(box))
    host, config = found["HostConfig"], found["Config"]
    assert (host["CapDrop"], host["CapAdd"], host["Privileged"]) == (["ALL"], None, False)
    assert host["SecurityOpt"] == ["no-new-privileges:true"]  # and so Docker's default seccomp profile
    assert (host["NetworkMode"], host["PidMode"], host["IpcMode"]) == ("none", "", "private")
    assert host["ReadonlyRootfs"] is True
    assert host["PidsLimit"] == LIMITS.processes + 1
    assert host["Memory"] == host["MemorySwap"] == LIMITS.memory_bytes + LIMITS.disk_bytes + (64 << 20)
    assert 0 < host["NanoCpus"] <= 2_000_000_000
    assert (host["Binds"], host["LogConfig"]["Type"], host["AutoRemove"]) == (None, "none", True)
    assert [(mount["Destination"], mount["RW"]) for mount in found["Mounts"]] == [("/gym-code", False)]
    assert config["User"] == "1000:1000"
    assert config["Labels"].items() >= labels("box").items()


def test_both_filters_of_system_calls_are_active(docker: DockerBackend) -> None:
    with docker.open(SPEC) as box:
        status = box.exec("grep -E '^Seccomp' /proc/self/status").stdout.decode().split()
    assert status == ["Seccomp:", "2", "Seccomp_filters:", "2"]


def test_law_7_the_keeper_enters_only_the_container_it_is_told(docker: DockerBackend) -> None:
    """A pid that is used again by another process, here our own, is not entered."""
    with docker.open(SPEC) as box:
        keeper = parts_of(docker).keeper
        order = {"layers": [], "base": parts_of(docker).base(box._layer), "bytes": 1 << 20, "detach": False}
        for container, words in ((container_of(box), "has ended"), ("", "no such container")):
            with pytest.raises(SandboxError, match=words):
                keeper.request(
                    "activate", **order, targets=["/a", "/b", "/c"], pid=os.getpid(), container=container
                )
        assert box.exec("echo alive").stdout == b"alive\n"


def test_law_1_both_backends_show_the_same_states(docker: DockerBackend, namespace: NamespaceBackend) -> None:
    script = [
        "ls -lAR --time-style=+%s . | sha256sum",
        "echo more >> README; rm run.sh; mkdir -p new/deep; printf '\\0\\377' > new/deep/b; ln -s /etc x",
        "git add -A; git commit -qm change; git rev-parse HEAD",
        "chmod 600 pkg/mod.py; mv pkg new; ls -A; id; pwd; env | sort; umask",
    ]
    seen = []
    for backend in (docker, namespace):
        with backend.open(SPEC) as box:
            rows = [(box.exec(line).stdout, box.digest()) for line in script]
            box.restore(box.snapshot())
            seen.append((rows, box.diff(), box.digest(), box.base_commit))
    assert seen[0] == seen[1]


def test_eight_threads_open_boxes_at_once(docker: DockerBackend) -> None:
    def work(number: int) -> tuple[bytes, bytes]:
        with docker.open(SPEC) as box:
            box.write("mine", b"%d" % number)
            (fork,) = box.fork(1)
            with fork:
                return box.exec(["cat", "mine"]).stdout, fork.read("mine")

    with ThreadPoolExecutor(8) as executor:
        assert list(executor.map(work, range(16))) == [(b"%d" % n, b"%d" % n) for n in range(16)]


def test_law_3_a_container_removed_from_outside_is_our_fault_alone(docker: DockerBackend) -> None:
    with docker.open(SPEC) as box, docker.open(SPEC) as other:
        connect().remove_container(container_of(box), force=True)
        with pytest.raises(SandboxClosed):
            box.exec("true")
        assert other.exec("echo alive").stdout == b"alive\n"


def test_a_lost_keeper_is_replaced(lonely: DockerBackend) -> None:
    box = lonely.open(SPEC)
    (keeper,) = connect().containers(filters={"label": [f"{KIND}=keeper", f"{OWNER}={labels('')[OWNER]}"]})[
        :1
    ]
    mine = [row for row in owned_by(os.getpid()) if row == keeper["Id"]]
    assert mine
    connect().remove_container(keeper["Id"], force=True)
    with pytest.raises(SandboxError):
        box.snapshot()
    with lonely.open(SPEC) as again:
        assert again.exec("echo alive").stdout == b"alive\n"


def test_law_8_kill_9_of_the_owner_leaves_no_container() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER_PROGRAM], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        assert len(owned_by(owner.pid)) >= 2
        os.kill(owner.pid, signal.SIGKILL)
    assert eventually(lambda: owned_by(owner.pid) == [])


def test_law_8_gc_removes_what_a_dead_owner_created_and_never_started(docker: DockerBackend) -> None:
    image = parts_of(docker).image(SPEC.environment).id
    client = connect()
    dead = {KIND: "box", OWNER: "999999-1", HOST: host_id()}
    elsewhere = {**dead, HOST: "another"}
    others = client.create_container(image, command="true", labels=elsewhere)["Id"]
    try:
        mine = client.create_container(image, command="true", labels=dead)["Id"]
        assert mine in gc_docker(dry_run=True).containers
        found = gc_docker().containers
        assert mine in found
        assert others not in found
        assert [row for row in owned_by(999999) if row == mine] == []
    finally:
        client.remove_container(others, force=True)


def test_closing_a_backend_leaves_no_container() -> None:
    before = set(owned_by(os.getpid()))
    backend = DockerBackend(spare=2)
    boxes = [backend.open(SPEC) for _ in range(2)]
    assert set(owned_by(os.getpid())) - before
    backend.close()
    backend.close()
    assert eventually(lambda: set(owned_by(os.getpid())) <= before)
    with pytest.raises(SandboxClosed):
        boxes[0].exec("true")
    with pytest.raises(SandboxClosed):
        backend.open(SPEC)


def test_layers_at_the_daemon_are_written_once(
    lonely: DockerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    lonely.prepare(SPEC)
    monkeypatch.setattr(AttachedKeeper, "store", lambda *_: pytest.fail("shipped again"))
    with lonely.open(SPEC) as box:
        assert box.read("README") == b"start\n"


@pytest.mark.parametrize("workdir", ["/", "/tmp", "relative", "/etc"])
def test_workdirs_that_cannot_be_are_refused(docker: DockerBackend, workdir: str) -> None:
    with pytest.raises(InputError, match="workdir"):
        docker.open(replace(SPEC, workdir=workdir))


def test_another_workdir(docker: DockerBackend) -> None:
    with docker.open(replace(SPEC, workdir="/work/space/repo")) as box:
        assert box.exec(["pwd"]).stdout == b"/work/space/repo\n"
