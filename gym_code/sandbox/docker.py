"""The Docker backend: boxes are hardened containers, local or at a remote daemon, also for members of the
docker group and over podman's Docker API.

    owner (this process)  --attached stream-->  keeper's container  --mounts-->  boxes
            \\___________________ attached stream: the supervisor, process 1 of a box ___________/

A box is launched ahead of need from its environment's image, with a read-only root and without a repository;
`open` has the keeper inject one overlay over the start layer, as the namespace backend does. No call ever
needs `docker exec`. The supervisor brings its own interpreter (a read-only volume at /gym-code), so that an
image needs none.
"""

from __future__ import annotations

import contextlib
import queue
import re
import sys
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gym_code.errors import SandboxError, SandboxUnavailable
from gym_code.sandbox import bwrap, runtime, seccomp
from gym_code.sandbox.attached import Attached, AttachedKeeper
from gym_code.sandbox.base import SPARE, BoxSpec
from gym_code.sandbox.dockerd import KIND, connect, labels, orphaned, translated
from gym_code.sandbox.images import EnvironmentImage, environment_image, guest_image
from gym_code.sandbox.layered import LayeredBackend, Parts
from gym_code.sandbox.layout import Home, open_home
from gym_code.sandbox.lease import reap
from gym_code.sandbox.link import GuestLink
from gym_code.sandbox.pool import Key, Pool
from gym_code.sandbox.store import FORMAT, Layer, Store
from gym_code.types import Environment, Limits, StartTree

if TYPE_CHECKING:
    from docker import APIClient

GUEST_VOLUME = "gym-code-guest-"
"""Volumes with a supervisor and its interpreter, one for each version: what follows names the image."""
LAYERS_VOLUME = "gym-code-layers"
KEEPER_CAPABILITIES = ("SYS_ADMIN", "SYS_CHROOT", "SYS_PTRACE", "SETUID", "SETGID", "CHOWN")
"""For mounts and namespaces, entering those of a box (which nobody may trace), becoming the boxes' uid."""
SLACK_BYTES = 64 << 20
"""What a box may need beside its own memory and files."""
MEMORY_SECONDS, END_SECONDS = 3600.0, 1.0
"""How far back a daemon is asked for the end of a box, and how long it may take to note that."""
WORKERS = 2
"""Containers launched at the same time: a daemon does not get faster with more."""
STOP_SIGNAL = "SIGKILL"
"""What a daemon that stops sends: process 1 ignores a milder one, and the daemon would wait ten seconds."""
CLOSE_SECONDS = 30.0
"""How long `close` waits for removals. One whose stream was closed ends without our doing."""


class DockerBackend(LayeredBackend):
    """Opens boxes that are containers; see `LayeredBackend` for the parameters.

    cpus: most processors a box may use at once; None for all.
    """

    name = "docker"

    def __init__(self, home: Path | None = None, *, spare: int = SPARE, cpus: float | None = 2.0) -> None:
        super().__init__(home, spare=spare)
        self._cpus = cpus
        self._about: Mapping[str, Any] | None = None
        self._left: deque[str] = deque()

    def fingerprint(self) -> str:
        """Backend, engine, and the kernel and machine of the daemon that boxes were last opened at.

        An episode whose daemon has gone away meanwhile can be recorded all the same.
        """
        if self._about is None:
            self._parts()
        assert self._about is not None
        about = self._about
        return f"docker/1 engine-{about['Version']} linux-{about['KernelVersion']} {about['Arch']}"

    def _start(self) -> DockerParts:
        home = open_home(self._root)
        reap(home)
        parts = DockerParts(home, self._spare, self._cpus, self._left)
        self._about = parts.about
        return parts


class Daemon:
    """Clients of one daemon, one for each thread: a client is not made to be shared."""

    def __init__(self) -> None:
        self._local = threading.local()
        self._made: weakref.WeakSet[APIClient] = weakref.WeakSet()

    @property
    def client(self) -> APIClient:
        """This thread's client."""
        if not hasattr(self._local, "client"):
            self._local.client = connect()
            self._made.add(self._local.client)
        return self._local.client

    def close(self) -> None:
        """Give the connections back that wait to be used again."""
        for client in list(self._made):
            client.close()


class DockerParts(Parts):
    """A keeper in its container, and the images in use."""

    keeper: AttachedKeeper

    def __init__(self, home: Home, spare: int, cpus: float | None, left: deque[str]) -> None:
        super().__init__()
        self.daemon, self.home, self.store = Daemon(), home, Store(home)
        client = self.daemon.client
        with translated("look at the Docker daemon"):
            self.about: Mapping[str, Any] = client.version()
            processors = int(client.info()["NCPU"])
        self.cpus = None if cpus is None else min(cpus, processors)
        remove_orphans(client)
        self.images: dict[str, EnvironmentImage] = {}
        self.environments: dict[str, Environment] = {}
        """By the id of their image."""
        self.guest_volume, self.keeper, self.keeper_container = start_keeper(client)
        self.shipped: set[str] = set()
        self.shipping = threading.Lock()
        self.removal = Removal(self.daemon, left)
        self.pool = Pool(self.launch, spare, workers=WORKERS)

    def notes(self) -> Mapping[str, str]:
        """How each limit is held here."""
        return {
            "memory_bytes": "a watchdog over the box's processes, every 20 ms; the container's limit behind",
            "processes": "the container's limit of processes and threads",
            "disk_bytes": "the size of the tmpfs that holds what the box writes between two snapshots"
            if self.keeper.quota
            else "not limited: the daemon's tmpfs cannot hold an overlay (needs Linux 6.6)",
            "seccomp": "Docker's default profile"
            + (" and the filter of the namespace backend" if seccomp.supported(self.machine) else ""),
            "addresses": "not fixed (Docker's profile forbids it): output that shows one differs at replay",
        }

    @property
    def machine(self) -> str:
        """The daemon's processor as `uname -m` names it."""
        return {"amd64": "x86_64", "arm64": "aarch64"}.get(self.about["Arch"], str(self.about["Arch"]))

    def close(self) -> None:
        """Remove the containers that are left."""
        self.pool.close()
        if self.keeper.lost:  # else it ends by itself, when it has tidied up
            self.removal.add(self.keeper_container)
        self.removal.close()
        self.keeper.close()
        self.daemon.close()

    def image(self, environment: Environment) -> EnvironmentImage:
        """The image of an environment, built where it is not known yet."""
        with self.lock:
            found = self.images.get(environment.digest)
        return found or self.remember(environment, environment_image(self.daemon.client, environment))

    def remember(self, environment: Environment, image: EnvironmentImage) -> EnvironmentImage:
        """Note the image of an environment."""
        with self.lock:
            self.images[environment.digest] = image
            self.environments[image.id] = environment
        return image

    def key(self, spec: BoxSpec) -> Key:
        """Image, place of the repository and limits of the container."""
        image, limits = self.image(spec.environment), spec.limits
        processes = str(limits.processes + 1)
        return (image.id, bwrap.check_workdir(spec.workdir), str(wall(limits)), processes)

    def variables(self, spec: BoxSpec) -> dict[str, str]:
        """The usual ones, those of an image that the task names, and the task's own."""
        own = self.image(spec.environment).env if spec.environment.image is not None else {}
        return {**bwrap.BASE_ENV, **own, **spec.environment.env}

    def acquire(self, start: StartTree) -> Layer:
        """The start layer, here (for patches) and at the daemon (for boxes)."""
        layer = self.store.acquire(start)
        try:
            with self.shipping:
                if layer.digest not in self.shipped:
                    name = layer.path.name
                    if not self.keeper.request("acquire", name=name)["have"]:
                        self.keeper.store(name, layer.path)
                    self.shipped.add(layer.digest)
        except BaseException:
            self.store.release(layer.digest)
            raise
        return layer

    def drop_start(self, digest: str) -> None:
        """Remove a start layer that no box uses, here and at the daemon."""
        with self.shipping:
            if self.store.drop(digest) and digest in self.shipped:
                self.shipped.remove(digest)
                self.keeper.request("forget", name=f"{FORMAT}-{digest}")

    def drop_environment(self, environment: Environment) -> None:
        """End its spare boxes, so that its image can be removed; the next box looks for the image again."""
        with self.lock:
            image = self.images.pop(environment.digest, None)
        if image is not None:
            self.pool.drop(lambda key: key[0] == image.id)

    def base(self, layer: Layer) -> str:
        """Where the keeper finds a layer's files."""
        return f"/layers/{layer.path.name}/fs"

    def launch(self, key: Key) -> DockerBlank:
        """Start a container, with its supervisor up; an image that was removed is built again."""
        from docker.errors import ImageNotFound

        client = self.daemon.client
        with translated("start a box"):
            try:
                container = self.create(client, key)
            except ImageNotFound:
                image, *rest = key
                container = self.create(client, (self.build_again(client, image), *rest))
            stream = None
            try:
                stream = Attached(client, container)
                client.start(container)
                guest = GuestLink(stream)
                guest.wait_ready()
                if seccomp.supported(self.machine):
                    guest.request([b"filter", seccomp.assemble(self.machine)])
                pid = client.inspect_container(container)["State"]["Pid"]
            except BaseException:
                if stream is not None:
                    stream.close()
                self.removal.add(container)
                raise
        return DockerBlank(self.removal, container, pid, guest)

    def build_again(self, client: APIClient, image: str) -> str:
        """The id of a new image in place of a removed one. Raises `EnvironmentBuildError`."""
        with self.lock:
            environment = self.environments[image]
        return self.remember(environment, environment_image(client, environment)).id

    def create(self, client: APIClient, key: Key) -> str:
        """Create the container of a box; its id."""
        image, workdir, memory, processes = key
        host = client.create_host_config(
            auto_remove=True,
            network_mode="none",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges:true"],
            read_only=True,
            ipc_mode="private",
            mem_limit=int(memory),
            memswap_limit=int(memory),
            pids_limit=int(processes),
            nano_cpus=None if self.cpus is None else int(self.cpus * 1e9),
            log_config={"Type": "none"},
            # Mount points: what is injected over them is the box's own. Queues would outlive a `restore`.
            tmpfs=dict.fromkeys((workdir, bwrap.TMP, bwrap.HOME, "/dev/mqueue"), "size=4k,mode=755,ro"),
            mounts=[volume(self.guest_volume, runtime.PLACE, read_only=True)],
        )
        made = client.create_container(
            image,
            command=["0", "1"],
            entrypoint=runtime.guest_command(),
            user=f"{bwrap.AGENT_UID}:{bwrap.AGENT_UID}",
            hostname=bwrap.HOSTNAME,
            # What an image sets for its own programs is not for our supervisor's loader.
            environment=dict.fromkeys(("LD_PRELOAD", "LD_AUDIT", "GLIBC_TUNABLES"), ""),
            working_dir="/",
            stdin_open=True,
            stop_signal=STOP_SIGNAL,
            labels=labels("box"),
            host_config=host,
        )
        return str(made["Id"])


@dataclass(frozen=True, slots=True)
class DockerBlank:
    """A container that runs a supervisor."""

    removal: Removal
    container: str
    pid: int
    guest: GuestLink
    counts_processes = True

    @property
    def address(self) -> Mapping[str, str | int]:
        """How the keeper is told which box is meant: the id proves that the pid is still its own."""
        return {"container": self.container, "pid": self.pid}

    def limit(self, limits: Limits, held: int = 0) -> None:
        """Raise the container's limit of memory; it was created with the one for nothing held."""
        if held:
            size = wall(limits) + held
            with translated("raise the memory limit of a box"):
                self.removal.daemon.client.update_container(
                    self.container, mem_limit=size, memswap_limit=size
                )

    def kills(self) -> int:
        """How many of its processes the kernel has killed for memory: very many, if process 1 was one."""
        try:
            return int(self.guest.request([b"kills"])[0])
        except OSError:
            return 0
        except SandboxError:
            with contextlib.suppress(SandboxError):
                if ended_for_memory(self.removal.daemon.client, self.container):
                    return sys.maxsize
            return 0

    def end(self) -> None:
        """Hang up, which ends process 1 and with it all others; the daemon then removes the container."""
        self.guest.close()
        self.removal.add(self.container)


def wall(limits: Limits) -> int:
    """Most bytes of memory for a container: what a box writes to its tmpfs counts there."""
    return limits.memory_bytes + limits.disk_bytes + SLACK_BYTES


def ended_for_memory(client: APIClient, container: str) -> bool:
    """Whether a container that has just ended did so because it had reached its limit of memory.

    It has removed itself; what is left is what the daemon remembers. One that somebody killed says so.
    """
    with translated("ask how a box ended"):
        now = datetime.fromisoformat(client.info()["SystemTime"]).timestamp()
        events = client.events(
            since=now - MEMORY_SECONDS,
            until=now + END_SECONDS,
            filters={"container": [container], "event": ["oom", "kill", "die"]},
            decode=True,
        )
        seen = set()
        for event in events:
            seen.add(event["Action"])
            if event["Action"] == "die":
                break
        events.close()
    return "oom" in seen and "kill" not in seen


class Removal:
    """Makes sure, in the background, that containers are gone. Idempotent.

    left: containers that could not be removed yet, for their daemon was out of reach. Not all go by
    themselves: one may never have been started, or a daemon that was killed holds it for dead. They are tried
    again with the next one, and at the end.
    """

    def __init__(self, daemon: Daemon, left: deque[str]) -> None:
        self.daemon, self._left = daemon, left
        self._waiting: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._worker = threading.Thread(target=self._work, name="gym-code-removal", daemon=True)
        self._worker.start()

    def add(self, container: str) -> None:
        """Remove a container soon."""
        self._waiting.put(container)

    def close(self) -> None:
        """Return when all are removed, or the daemon takes too long."""
        self._waiting.put(None)
        self._worker.join(CLOSE_SECONDS)

    def _work(self) -> None:
        more = True
        while more:
            if more := (container := self._waiting.get()) is not None:
                self._left.append(container)
            self._remove_all()

    def _remove_all(self) -> None:
        while self._left:
            container = self._left.pop()
            try:
                remove_container(self.daemon.client, container)
            except SandboxError:
                self._left.appendleft(container)
                return


def remove_container(client: APIClient, container: str) -> None:
    """Remove a container, running or not; nothing happens where it is gone or going."""
    from docker.errors import APIError, NotFound

    with translated("remove a container"):
        try:
            client.remove_container(container, force=True, v=True)
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409:  # its removal is in progress
                raise


def remove_volume(client: APIClient, name: str) -> None:
    """Remove a volume; nothing happens where it is gone, or in use again."""
    from docker.errors import APIError

    with translated("remove a volume"):
        try:
            client.remove_volume(name)
        except APIError as error:
            if error.status_code not in (404, 409):
                raise


def volume(name: str, place: str, *, read_only: bool = False, populate: bool = False) -> Any:
    """A named volume as a mount; `populate`: an empty one takes what the image has there."""
    from docker.types import Mount

    return Mount(place, name, type="volume", read_only=read_only, no_copy=not populate)


def start_keeper(client: APIClient) -> tuple[str, AttachedKeeper, str]:
    """The name of the volume with the supervisor, a keeper that has come up, and its container."""
    image = guest_image(client)
    name = GUEST_VOLUME + image.rpartition(":")[2][:24]
    with translated("start the keeper"):
        host = client.create_host_config(
            auto_remove=True,
            network_mode="none",
            cap_drop=["ALL"],
            cap_add=list(KEEPER_CAPABILITIES),
            security_opt=["seccomp=unconfined", "apparmor=unconfined", "label=disable"],
            pid_mode="host",
            userns_mode="host",
            log_config={"Type": "none"},
            tmpfs={"/scratch": "size=1m,mode=755"},  # podman's root directory takes no new ones
            mounts=[volume(name, runtime.PLACE, populate=True), volume(LAYERS_VOLUME, "/layers")],
        )
        made = client.create_container(
            image,
            command=["-c", KEEPER, str(bwrap.AGENT_UID)],
            entrypoint=runtime.command(runtime.PLACE),
            user="0:0",
            stdin_open=True,
            stop_signal=STOP_SIGNAL,
            labels=labels("keeper"),
            host_config=host,
        )
        try:
            keeper = AttachedKeeper(Attached(client, made["Id"]))
            client.start(made["Id"])
            problem = keeper.wait_ready()
        except BaseException:
            remove_container(client, made["Id"])
            raise
    if problem:
        keeper.close()
        raise SandboxUnavailable(
            f"the Docker daemon's kernel mounts no overlay in a user namespace: {problem}; "
            "it needs Linux 5.11"
        )
    return name, keeper, str(made["Id"])


KEEPER = (
    f"import sys; sys.path.insert(0, {runtime.PLACE + '/lib'!r}); "
    "from gym_code.sandbox import container_keeper; container_keeper.main()"
)


def remove_orphans(client: APIClient, *, dry_run: bool = False) -> tuple[str, ...]:
    """Remove the containers of dead owners of this machine; their ids."""
    with translated("list containers"):
        rows = client.containers(all=True, filters={"label": KIND})
    found = [row["Id"] for row in rows if orphaned(row["Labels"])]
    if not dry_run:
        for container in found:
            remove_container(client, container)
    return tuple(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class DockerGcReport:
    """What was removed from a daemon, or would be."""

    containers: tuple[str, ...] = ()
    """Of dead owners."""
    volumes: tuple[str, ...] = ()
    """Supervisors of other versions; with `everything` also the start layers."""


def gc_docker(*, everything: bool = False, dry_run: bool = False) -> DockerGcReport:
    """Remove what dead owners left at the daemon, and volumes that no container uses.

    Start layers are pruned by each keeper that starts; `everything` removes them all. Raises
    `SandboxUnavailable` where no daemon answers.
    """
    client = connect()
    containers = remove_orphans(client, dry_run=dry_run)
    with translated("list volumes"):
        names = [row["Name"] for row in client.volumes(filters={"dangling": True})["Volumes"] or ()]
    ours = re.compile(f"{GUEST_VOLUME}[0-9a-f]{{24}}" + (f"|{LAYERS_VOLUME}" if everything else ""))
    volumes = tuple(sorted(name for name in names if ours.fullmatch(name)))
    if not dry_run:
        for name in volumes:
            remove_volume(client, name)
    return DockerGcReport(containers=containers, volumes=volumes)
