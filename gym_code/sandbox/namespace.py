"""The embedded backend: boxes of Linux namespaces, for root and for ordinary users, without a daemon.

    owner (this process)  --SEQPACKET-->  keeper  --exec-->  bubblewrap  -->  supervisor (process 1)
            \\___________________________ stream socket ___________________________/

Boxes are launched ahead of need without a repository; `open` asks the keeper to inject one overlay over the
start layer. Layers, environments and the store are files; all that an agent writes lies in the keeper's
tmpfs mounts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import platform
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from gym_code.errors import SandboxError
from gym_code.sandbox import bwrap, seccomp
from gym_code.sandbox.base import BoxSpec
from gym_code.sandbox.cgroups import Group, find_groups
from gym_code.sandbox.image import environment_directory, environment_variables
from gym_code.sandbox.layered import LayeredBackend, Parts
from gym_code.sandbox.layout import Home, open_home
from gym_code.sandbox.lease import Lease, hold, reap
from gym_code.sandbox.link import GuestLink, KeeperLink
from gym_code.sandbox.pool import Key, Pool
from gym_code.sandbox.store import Store
from gym_code.types import Environment, Limits


class NamespaceBackend(LayeredBackend):
    """Opens boxes of Linux namespaces; see `LayeredBackend` for the parameters."""

    name = "namespace"

    def fingerprint(self) -> str:
        """Backend, kernel and machine."""
        return f"namespace/1 linux-{platform.release()} {platform.machine()}"

    def _start(self) -> NamespaceParts:
        program = bwrap.find_bwrap()
        home = open_home(self._root)
        reap(home)
        return NamespaceParts(program, home, self._spare)


class NamespaceParts(Parts):
    """A keeper process, its lease, and the environments in use."""

    keeper: KeeperLink

    def __init__(self, program: str, home: Home, spare: int) -> None:
        super().__init__()
        self.program, self.home, self.store = program, home, Store(home)
        self.keeper = KeeperLink(home)
        self.groups, self.where = find_groups()
        parent = self.groups.parent if self.groups else None
        self.lease = Lease.write(home, self.keeper.process.pid, parent)
        self.pool = Pool(self.launch, spare)
        self.keys: dict[tuple[str, str], Key] = {}
        self.own: dict[str, Mapping[str, str]] = {}
        """What the image of an environment sets, by the environment's digest."""
        self.held: dict[tuple[str, str], int] = {}
        """Locks on the environments in use."""

    def notes(self) -> Mapping[str, str]:
        """How each limit is held here."""
        wall = ", with a hard wall behind it" if self.groups else "; no control groups"
        return {
            "memory_bytes": f"a watchdog over the box's processes, every 20 ms{wall} ({self.where})",
            "processes": "RLIMIT_NPROC, counted in the box's own user namespace",
            "disk_bytes": "the size of the tmpfs that holds what the box writes between two snapshots"
            if self.keeper.quota
            else "not limited: this kernel's tmpfs cannot hold an overlay (needs Linux 6.6)",
            "seccomp": "filter active" if seccomp.supported() else f"no table for {platform.machine()}",
            "uid": f"boxes belong to uid {self.home.uid}",
        }

    def close(self) -> None:
        """End the keeper, and with it whatever is left."""
        self.pool.close()
        self.keeper.close()
        self.lease.release()
        for descriptor in self.held.values():
            os.close(descriptor)

    def key(self, spec: BoxSpec) -> Key:
        """The whole bubblewrap command."""
        wanted = spec.environment.digest, spec.workdir
        with self.lock:
            key = self.keys.get(wanted)
        if key is None:
            workdir = bwrap.check_workdir(spec.workdir)
            path = environment_directory(self.home, spec.environment)
            key = tuple(bwrap.command(self.program, path, bwrap.skeleton(self.home, path), workdir))
            with self.lock:
                if wanted not in self.keys:
                    self.own[spec.environment.digest] = environment_variables(path)
                    self.held[wanted] = hold(path.with_name(path.name + ".use"))
                    self.keys[wanted] = key
        return key

    def drop_environment(self, environment: Environment) -> None:
        """End its spare boxes, and give the lock on its directory back: others may remove it."""
        with self.lock:
            mine = [wanted for wanted in self.keys if wanted[0] == environment.digest]
            keys = {self.keys.pop(wanted) for wanted in mine}
            descriptors = [self.held.pop(wanted) for wanted in mine]
        self.pool.drop(keys.__contains__)
        for descriptor in descriptors:
            os.close(descriptor)

    def variables(self, spec: BoxSpec) -> dict[str, str]:
        """The usual ones, those of an image that the task names, and the task's own."""
        own = self.own.get(spec.environment.digest, {})
        return {**bwrap.BASE_ENV, **own, **spec.environment.env}

    def launch(self, key: Key) -> NamespaceBlank:
        """Start a box, inside its control group from the first instruction on."""
        reply, fds = self.keeper.call("launch", argv=list(key), held=self.groups is not None)
        control, go, process = fds
        blank = NamespaceBlank(self.keeper, reply["box"], GuestLink(socket.socket(fileno=control)), None)
        try:
            if self.groups is not None:
                blank = replace(blank, group=self.groups.make())
                assert blank.group is not None
                blank.group.add(pid_of(process))
                os.write(go, b"g")
        except OSError as error:
            blank.end()
            raise SandboxError(f"cannot put a box into its control group: {error}") from error
        finally:
            os.close(go)
            os.close(process)
        return blank


@dataclass(frozen=True, slots=True)
class NamespaceBlank:
    """A bubblewrap box, known to the keeper by a number."""

    keeper: KeeperLink
    number: int
    guest: GuestLink
    group: Group | None
    counts_processes = False
    """rlimits count in the box's own user namespace."""

    @property
    def address(self) -> Mapping[str, int]:
        """How the keeper is told which box is meant."""
        return {"box": self.number}

    def limit(self, limits: Limits, held: int = 0) -> None:
        """Raise the hard wall for memory."""
        if self.group is not None:
            try:
                self.group.limit(limits.memory_bytes, limits.disk_bytes + held)
            except OSError as error:
                raise SandboxError(f"cannot limit the memory of a box: {error}") from error

    def kills(self) -> int:
        """How many of its processes the kernel has killed for memory."""
        return self.group.kills() if self.group is not None else 0

    def end(self) -> None:
        """End every process of it."""
        self.guest.close()
        with contextlib.suppress(SandboxError):  # a keeper that is gone took the box with it
            self.keeper.request("destroy", box=self.number)
        if self.group is not None:
            self.group.remove()


def pid_of(process: int) -> int:
    """The number by which we know the process of a pid descriptor. Raises OSError where it has none."""
    for line in Path(f"/proc/self/fdinfo/{process}").read_text().splitlines():
        name, _, number = line.partition(":")
        if name == "Pid" and int(number) > 0:
            return int(number)
    raise ProcessLookupError(errno.ESRCH, os.strerror(errno.ESRCH))
