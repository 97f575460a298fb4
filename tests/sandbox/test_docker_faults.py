"""What a daemon, its containers, its disk and the way to it can do to an episode: typed errors, never a
reward of 0 (law 3), nothing left behind (law 8)."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest
from docker import APIClient

from agents.loop import play
from agents.policy import Decision
from agents.scripted import Scripted, submit
from gym_code.cli import main
from gym_code.data import tasks_directory
from gym_code.env import RepoEnv
from gym_code.episode import Episode
from gym_code.errors import EnvironmentBuildError, SandboxError, SandboxUnavailable
from gym_code.grading import grade
from gym_code.sandbox import attached, dockerd, layered
from gym_code.sandbox import docker as docker_backend
from gym_code.sandbox.base import BoxSpec
from gym_code.sandbox.checks import LIMITS, START, start_tree
from gym_code.sandbox.contract import check_backend
from gym_code.sandbox.docker import LAYERS_VOLUME, DockerBackend
from gym_code.sandbox.dockerd import KIND, OWNER, connect, translated
from gym_code.sandbox.images import environment_image, guest_image
from gym_code.sandbox.namespace import NamespaceBackend
from gym_code.suite import DirectorySuite
from gym_code.types import Environment, File, Reward, Stop, ToolCall
from tests.sandbox.engine import Engine, Line
from tests.sandbox.processes import eventually

SPEC = BoxSpec(start=start_tree(START), limits=LIMITS)
SUITE = DirectorySuite(tasks_directory() / "starter")
TASK = "inikit__merge-3"
"""A task whose environment has no packages: the second daemon could not install any."""
SLOW = b"""diff --git a/inikit/__init__.py b/inikit/__init__.py
--- a/inikit/__init__.py
+++ b/inikit/__init__.py
@@ -1,1 +1,2 @@
 \"\"\"Layered INI-like configuration with typed access and references.\"\"\"
+__import__("time").sleep(2)
"""
DISK_BYTES = 1 << 30
MB = 1 << 20
ROOMY = "size=900m,nr_inodes=90k"
FULL = r"(?i)no space left"

SLEEPER = Decision(calls=(ToolCall(id="1", name="bash", arguments={"command": "sleep 600"}),))


class Plays(Scripted):
    """Makes the decisions it is given."""

    def __init__(self, *decisions: Decision) -> None:
        super().__init__()
        self.script = lambda *_: decisions  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def machine() -> Iterator[Engine]:
    """A second daemon, with the images of the first."""
    reason = (
        "only root can start a daemon" if os.geteuid() else "" if shutil.which("dockerd") else "no dockerd"
    )
    if reason and os.environ.get("CI") != "true":
        pytest.skip(reason)
    with Engine(DISK_BYTES) as engine:
        engine.load(image_names())
        yield engine


@functools.cache
def image_names() -> list[str]:
    """What boxes need, at the daemon of the other tests."""
    client = connect()
    return [environment_image(client, Environment()).name, guest_image(client), "gym-code/base:3.11"]


@pytest.fixture
def engine(machine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Engine]:
    """The second daemon, up; in the end it must hold nothing of ours."""
    monkeypatch.setenv("DOCKER_HOST", machine.address)
    if machine.process is None:  # a test that failed left it so
        machine.start()
    yield machine
    assert eventually(lambda: machine.containers() == []), machine.notes()
    assert machine.docker("volume", "ls", "-qf", "dangling=false") == []


@pytest.fixture
def backend(engine: Engine) -> Iterator[DockerBackend]:
    with DockerBackend(spare=1) as backend:
        yield backend


@contextmanager
def soon(call: Callable[[], object], seconds: float = 0.7) -> Iterator[None]:
    """Do something while the body runs."""
    timer = threading.Timer(seconds, call)
    timer.start()
    yield
    timer.join()


def containers(kind: str) -> list[str]:
    """Ids of our own containers of a kind."""
    rows = connect().containers(all=True, filters={"label": f"{KIND}={kind}"})
    ours = [row for row in rows if row["Labels"].get(OWNER, "").startswith(f"{os.getpid()}-")]
    return [row["Id"] for row in ours if row["State"] != "dead"]


def remove(*found: str) -> None:
    for container in found:
        with suppress(SandboxError), translated("remove a container"):
            connect().remove_container(container, force=True)


def remove_new(kind: str, times: int, until: threading.Event) -> None:
    """Remove containers of a kind while they are at work, one after the other as they appear."""
    seen: set[str] = set(containers(kind))
    while times and not until.wait(0.1):
        for container in set(containers(kind)) - seen:
            until.wait(0.5)
            remove(container)
            seen.add(container)
            times -= 1


def test_a_missing_daemon_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/docker.sock")
    with (
        DockerBackend() as backend,
        pytest.raises(SandboxUnavailable, match=r"unix:///nowhere/docker\.sock.*DOCKER_HOST"),
    ):
        backend.open(SPEC)


def test_the_command_line_says_so_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    with pytest.raises(SystemExit) as ended:
        main(["run", "--suite", "starter", "--task", TASK, "--sandbox", "docker"])
    shown = capsys.readouterr()
    assert (ended.value.code, shown.out, shown.err.count("\n")) == (2, "", 1)
    assert "tcp://127.0.0.1:1" in shown.err


@pytest.mark.docker
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_law_3_a_daemon_that_stops_under_a_command(
    number: signal.Signals, engine: Engine, backend: DockerBackend
) -> None:
    with Episode(SUITE, TASK, backend) as episode:
        with soon(lambda: engine.kill(number)):
            begin = time.monotonic()
            trajectory = play(Plays(SLEEPER, submit("2")), episode)
        engine.start()
    assert time.monotonic() - begin < 30
    assert trajectory.stop is Stop.FAULT
    assert trajectory.reward is not None
    assert trajectory.reward.value is None
    assert "SandboxClosed" in (trajectory.error or "")
    with backend.open(SPEC) as box:  # the same backend, without help
        assert box.exec("echo alive").stdout == b"alive\n"


@pytest.mark.docker
def test_law_3_the_env_says_that_such_a_reward_is_none(engine: Engine, backend: DockerBackend) -> None:
    env = RepoEnv(suite=SUITE, sandbox=backend)
    env.reset(options={"task": TASK})
    engine.kill()
    _, reward, terminated, truncated, info = env.step({"name": "bash", "arguments": '{"command": "true"}'})
    with pytest.raises(SandboxUnavailable):
        env.reset(options={"task": TASK})
    engine.start()
    assert (reward, terminated, truncated, info["reward_valid"]) == (0.0, False, True, False)
    assert info["stop"] is Stop.FAULT
    env.reset(options={"task": TASK})
    assert env.step({"name": "submit", "arguments": "{}"})[4]["reward_valid"] is True
    env.close()


@pytest.mark.docker
def test_law_3_a_daemon_that_stops_before_grading(engine: Engine, backend: DockerBackend) -> None:
    with Episode(SUITE, TASK, backend) as episode:
        episode.act(submit("1").calls)
        engine.kill()
        reward = episode.finish()
        engine.start()
    assert (episode.stop, reward.value, reward.verdict) == (Stop.SUBMITTED, None, None)
    assert episode.error


@pytest.mark.docker
def test_law_3_a_daemon_that_hangs(
    engine: Engine, backend: DockerBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layered, "GRACE_SECONDS", 1.0)
    with backend.open(SPEC) as box:
        engine.kill(signal.SIGSTOP)
        begin = time.monotonic()
        with pytest.raises(SandboxError, match="in time"):
            box.exec("true", timeout=1)
        assert time.monotonic() - begin < 10
        engine.kill(signal.SIGCONT)
    with backend.open(SPEC) as box:
        assert box.exec("echo alive").stdout == b"alive\n"


@pytest.mark.docker
def test_a_restarted_daemon_is_used_again_with_spare_boxes(engine: Engine, backend: DockerBackend) -> None:
    backend.prepare(SPEC)
    assert eventually(lambda: len(containers("box")) == 1)
    engine.kill()
    engine.start()
    with backend.open(SPEC) as box:
        assert box.exec("echo alive").stdout == b"alive\n"
        assert eventually(lambda: len(containers("box")) == 2)


@pytest.mark.docker
def test_a_spare_box_that_was_removed_is_not_handed_out(engine: Engine, backend: DockerBackend) -> None:
    backend.prepare(SPEC)
    assert eventually(lambda: len(containers("box")) == 1)
    time.sleep(1)
    remove(*containers("box"))
    with backend.open(SPEC) as box:
        assert box.exec("echo alive").stdout == b"alive\n"


@pytest.mark.docker
@pytest.mark.parametrize(("times", "wanted"), [(1, 1.0), (9, None)])
def test_law_3_boxes_removed_while_they_grade(
    times: int, wanted: float | None, engine: Engine, backend: DockerBackend
) -> None:
    """One: graded in another. All: no grade, and no 0."""
    task, answer, start = SUITE.task(TASK), SUITE.answer(TASK), SUITE.start(TASK)
    ended = threading.Event()
    with ThreadPoolExecutor(1) as executor, DockerBackend(spare=0) as bare:
        removed = executor.submit(remove_new, "box", times, ended)
        reward = grade(task, answer, answer.gold_patch + SLOW, bare, start)
        ended.set()
        removed.result()
    assert reward.value == wanted
    assert reward.verdict is not None
    assert reward.verdict.valid is (wanted is not None)


@pytest.mark.docker
def test_law_3_a_keeper_removed_in_mid_episode(engine: Engine, backend: DockerBackend) -> None:
    with Episode(SUITE, TASK, backend) as episode:
        remove(*containers("keeper"))
        calls = tuple(ToolCall(id="1", name="bash", arguments={"command": "echo x > y"}) for _ in range(2))
        trajectory = play(Plays(Decision(calls=calls), submit("2")), episode)
    assert trajectory.reward is not None
    assert (trajectory.reward.value, trajectory.turns[0].state_digest) == (None, "")
    assert "keeper" in (trajectory.error or "")
    with backend.open(SPEC) as box:
        assert box.exec("echo alive").stdout == b"alive\n"


@pytest.mark.docker
def test_a_removed_image_is_built_again_or_the_reason_is_told(engine: Engine) -> None:
    with DockerBackend(spare=0) as backend:
        for _ in range(2):
            with backend.open(SPEC) as box:
                assert box.exec("echo alive").stdout == b"alive\n"
            assert eventually(lambda: containers("box") == [])
            engine.docker("rmi", "-f", environment_image(connect(), SPEC.environment).name)
        names = engine.docker("images", "--format", "{{.Repository}}:{{.Tag}}")
        engine.docker("rmi", "-f", *(name for name in names if not name.startswith("gym-code/guest")))
        with pytest.raises(EnvironmentBuildError, match="make docker-base"):
            backend.open(SPEC)
    engine.load(image_names())


@pytest.mark.docker
def test_a_full_disk_at_the_daemon(engine: Engine, backend: DockerBackend) -> None:
    other = replace(SPEC, start=start_tree({**START, "big": File(content=os.urandom(3 * MB))}))
    with backend.open(SPEC) as box:
        with engine.full():
            with pytest.raises(SandboxError, match=FULL):
                backend.open(other)
            assert box.exec("echo alive").stdout == b"alive\n"
        assert engine.docker("volume", "ls", "-q", "-f", f"name={LAYERS_VOLUME}") == [LAYERS_VOLUME]
        layers = engine.disk / "volumes" / LAYERS_VOLUME / "_data"
        assert [path.name for path in layers.glob(f"*{other.start.digest}") if path.is_dir()] == []
        assert [path for own in layers.glob("own/*/") for path in own.iterdir()] == []
        with backend.open(other) as again:
            assert len(again.read("big")) == 3 * MB


@pytest.mark.docker
def test_a_daemon_with_a_full_disk_at_the_start(engine: Engine) -> None:
    engine.docker("volume", "prune", "-f")
    with DockerBackend(spare=1) as backend:
        with engine.full(), pytest.raises(SandboxError, match=FULL):
            backend.open(SPEC)
        with backend.open(SPEC) as box:
            assert box.exec("echo alive").stdout == b"alive\n"


@pytest.fixture
def home() -> Iterator[Path]:
    """A state directory on a file system of its own, which other users can reach."""
    with tempfile.TemporaryDirectory(prefix="gym-code-home-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        home = Path(name) / "home"
        home.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", ROOMY, "none", home], check=True)
        yield home
        subprocess.run(["umount", "-l", home], check=True)


def shrink(home: Path, what: str) -> None:
    """Leave next to no bytes, or not a file, free."""
    now = os.statvfs(home)
    most = {
        "size": (now.f_blocks - now.f_bfree) * now.f_frsize + (64 << 10),
        "nr_inodes": now.f_files - now.f_ffree,
    }
    subprocess.run(["mount", "-o", f"remount,{what}={most[what]}", home], check=True)


@pytest.mark.sandbox
@pytest.mark.docker
@pytest.mark.parametrize("what", ["size", "nr_inodes"])
@pytest.mark.parametrize("kind", [DockerBackend, NamespaceBackend])
def test_a_full_state_directory(
    kind: type[DockerBackend | NamespaceBackend], what: str, engine: Engine, home: Path
) -> None:
    big = replace(SPEC, start=start_tree({f"d{n}/big": File(content=os.urandom(MB // 8)) for n in range(20)}))
    with kind(home, spare=0) as backend, backend.open(SPEC) as before:
        shrink(home, what)
        with pytest.raises(SandboxError, match=FULL):
            backend.open(big)
        assert [path.name for path in (home / "layers").glob(f"*{big.start.digest}")] == []
        assert list((home / "layers").glob(".part-*")) == []
        assert before.exec("echo alive").stdout == b"alive\n"
        subprocess.run(["mount", "-o", f"remount,{ROOMY}", home], check=True)
        with backend.open(big) as box:
            assert len(box.read("d19/big")) == MB // 8


@pytest.mark.sandbox
@pytest.mark.docker
@pytest.mark.parametrize("kind", [DockerBackend, NamespaceBackend])
def test_a_state_directory_full_from_the_start(
    kind: type[DockerBackend | NamespaceBackend], engine: Engine, home: Path
) -> None:
    shrink(home, "nr_inodes")
    with kind(home, spare=0) as backend, pytest.raises(SandboxUnavailable, match="GYM_CODE_HOME"):
        backend.open(SPEC)


OWNER_PROGRAM = """
import sys
from gym_code.episode import Episode
from gym_code.sandbox.docker import DockerBackend
from gym_code.suite import DirectorySuite
from gym_code.types import ToolCall
episode = Episode(DirectorySuite(sys.argv[1]), sys.argv[2], DockerBackend(spare=2))
print("up", flush=True)
episode.act([ToolCall(id="1", name="bash", arguments={"command": "setsid sleep 4713.5 & sleep 4713.5"})])
"""


@pytest.mark.docker
def test_law_8_gc_after_kill_9_leaves_nothing(
    engine: Engine, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GYM_CODE_HOME", str(home))
    command = [sys.executable, "-c", OWNER_PROGRAM, str(tasks_directory() / "starter"), TASK]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "up\n"
        time.sleep(1)
        engine.kill(signal.SIGSTOP)  # so that the daemon sees no end of the streams before `gc` begins
        owner.kill()
    engine.kill(signal.SIGCONT)
    with pytest.raises(SystemExit) as ended:
        main(["gc", "--all", "--json"])
    assert ended.value.code in (0, None)
    assert eventually(lambda: engine.containers() == [])
    with pytest.raises(SystemExit):
        main(["gc", "--all", "--json"])  # volumes are in use until their containers are gone
    assert engine.docker("volume", "ls", "-q") == []
    left = [path for path in Path("/dev/shm").glob("gym-code-*") if f"{owner.pid}-" in path.name]
    assert left + list(home.glob(f"*/*{owner.pid}-*")) == []
    assert list((home / "layers").iterdir()) == []


@pytest.fixture
def line(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Line]:
    """A daemon that is reached over TCP."""
    line = Line(engine.address)
    monkeypatch.setenv("DOCKER_HOST", line.address)
    yield line
    line.close()


OVER_TCP = (
    "law_1_starts_are_identical",
    "write_takes_any_bytes",
    "diff_applies_to_the_start",
    "snapshots_can_be_restored_in_any_order",
    "law_1_forks_begin_from_the_same_state",
    "exec_feeds_stdin",
    "exec_bounds_output",
    "exec_keeps_streams_apart",
    "a_timeout_leaves_no_survivor",
    "law_3_a_memory_hog_is_blamed",
    "law_5_the_channel_is_bounded",
)


@pytest.mark.docker
def test_the_contract_holds_over_tcp(line: Line) -> None:
    with DockerBackend(spare=1) as backend:
        results = check_backend(backend, OVER_TCP)
    assert [(result.name, result.reason) for result in results if result.status != "passed"] == []


@pytest.mark.docker
def test_law_3_a_network_that_breaks(line: Line) -> None:
    with DockerBackend(spare=1) as backend, Episode(SUITE, TASK, backend) as episode:
        with soon(line.cut):
            trajectory = play(Plays(SLEEPER), episode)
        assert (trajectory.stop, trajectory.reward) == (Stop.FAULT, Reward(value=None))
        with pytest.raises(SandboxUnavailable):
            backend.open(SPEC)
        line.mend()
        with backend.open(SPEC) as box:
            assert box.exec("echo alive").stdout == b"alive\n"


@pytest.mark.docker
def test_law_8_a_box_created_and_never_started_is_removed_when_the_daemon_is_in_reach(
    line: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a one does not end with its stream, as others do."""
    with DockerBackend(spare=0) as backend:
        backend.prepare(SPEC)
        with monkeypatch.context() as patch:
            patch.setattr(APIClient, "start", lambda *_: line.cut())
            with pytest.raises(SandboxError):
                backend.open(SPEC)
        assert eventually(lambda: len(backend._left) == 1)
        line.mend()
        assert len(containers("box")) == 1
        with backend.open(SPEC):
            pass
        assert eventually(lambda: containers("box") == [])


@pytest.mark.docker
def test_law_3_a_network_that_goes_silent(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    for module, name in (
        (layered, "GRACE_SECONDS"),
        (attached, "REQUEST_SECONDS"),
        (dockerd, "CALL_SECONDS"),
        (dockerd, "CONNECT_SECONDS"),
        (docker_backend, "CLOSE_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 2.5)  # a busy machine takes more than a second to start a box
    begin = time.monotonic()
    with DockerBackend(spare=1) as backend:
        with Episode(SUITE, TASK, backend, replace(LIMITS, exec_seconds=2.0)) as episode:
            with soon(line.silence):
                trajectory = play(Plays(SLEEPER), episode)
            assert (trajectory.stop, trajectory.reward) == (Stop.FAULT, Reward(value=None))
        with pytest.raises(SandboxError):
            backend.open(SPEC)
        line.mend()
        with backend.open(SPEC) as box:
            assert box.exec("echo alive").stdout == b"alive\n"
    assert time.monotonic() - begin < 60
