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
import posixpath
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from gym_code.errors import SandboxClosed, SandboxError
from gym_code.sandbox import bwrap, changes, export, seccomp
from gym_code.sandbox.base import BoxSpec, Capabilities, Sandbox
from gym_code.sandbox.cgroups import Group, find_groups
from gym_code.sandbox.gitobjects import Objects
from gym_code.sandbox.guest import Fields
from gym_code.sandbox.image import environment_directory
from gym_code.sandbox.layout import Home, open_home
from gym_code.sandbox.lease import Lease, hold, reap
from gym_code.sandbox.link import KeeperLink, pieces
from gym_code.sandbox.pool import Blank, Key, Pool
from gym_code.sandbox.store import Layer, Store
from gym_code.types import Cause, ExecResult

MOST_LAYERS = 64
"""A box whose history is longer is flattened: the merge costs what changed, every path look-up costs
the depth."""
GRACE_SECONDS = 30.0
"""How long a supervisor may take beyond a command's own limit before we call it a fault of ours."""

EXPORT_SECONDS = 120
"""How long the keeper may take to tell what a box has changed."""


@dataclass(slots=True)
class Frozen:
    """An upper directory in the keeper that boxes build on, and how many do."""

    name: str
    users: int = 1


Stack = list[Frozen]
"""Layers, the newest first."""


class NamespaceBackend:
    """Opens boxes of Linux namespaces. Thread-safe.

    home: the state directory (default: GYM_CODE_HOME, /var/lib/gym-code for root, the user's cache
    directory otherwise).
    spare: boxes kept launched ahead of need for each environment; 0 launches on demand.
    """

    name = "namespace"

    def __init__(self, home: Path | None = None, *, spare: int = 4) -> None:
        self._root, self._spare = home, spare
        self._lock = threading.RLock()
        self._boxes: set[NamespaceSandbox] = set()
        self._started: _Parts | None = None
        self._closed = False

    def capabilities(self) -> Capabilities:
        """What works here: raises `SandboxUnavailable` when nothing does."""
        limits = "exec_seconds output_bytes memory_bytes cpu_seconds processes"
        limits += " disk_bytes" if self._parts().keeper.quota else ""
        return Capabilities(
            name=self.name,
            processes=True,
            network_isolated=True,
            limits_enforced=tuple(limits.split()),
            notes=self._parts().notes,
        )

    def fingerprint(self) -> str:
        """Backend, kernel and machine."""
        return f"namespace/1 linux-{platform.release()} {platform.machine()}"

    def prepare(self, spec: BoxSpec) -> str:
        """Build the environment and the start layer, and launch spare boxes."""
        parts = self._parts()
        key = parts.key(spec)
        layer = parts.store.acquire(spec.start)
        parts.store.release(layer.digest)
        parts.pool.warm(key)
        return layer.base_commit

    def open(self, spec: BoxSpec) -> NamespaceSandbox:
        """A fresh box."""
        parts = self._parts()
        key = parts.key(spec)
        layer = parts.store.acquire(spec.start)
        try:
            box = NamespaceSandbox(self, parts, spec, layer, parts.pool.take(key), [])
        except BaseException:
            parts.store.release(layer.digest)
            raise
        with self._lock:
            self._boxes.add(box)
        return box

    def close(self) -> None:
        """Close every box and the keeper."""
        with self._lock:
            self._closed = True
            boxes, parts, self._started = list(self._boxes), self._started, None
        for box in boxes:
            box.close()
        if parts is not None:
            parts.close()

    def __enter__(self) -> NamespaceBackend:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _parts(self) -> _Parts:
        with self._lock:
            if self._closed:
                raise SandboxClosed("the backend was closed")
            if self._started is None:
                self._started = _Parts.start(self._root, self._spare)
            return self._started

    def _forget(self, box: NamespaceSandbox) -> None:
        with self._lock:
            self._boxes.discard(box)

    def _adopt(self, box: NamespaceSandbox) -> None:
        with self._lock:
            self._boxes.add(box)


@dataclass(slots=True)
class _Parts:
    """What a started backend holds."""

    home: Home
    store: Store
    keeper: KeeperLink
    pool: Pool
    program: str
    lease: Lease
    notes: Mapping[str, str]
    keys: dict[tuple[str, str], Key] = field(default_factory=dict)
    held: list[int] = field(default_factory=list)
    """Locks on the environments in use."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def start(cls, root: Path | None, spare: int) -> _Parts:
        program = bwrap.find_bwrap()
        home = open_home(root)
        reap(home)
        keeper = KeeperLink(home)
        groups, where = find_groups()
        lease = Lease.write(home, keeper.process.pid, groups.parent if groups else None)
        wall = f", with a hard wall behind it ({where})" if groups else f"; no control groups ({where})"
        notes = {
            "memory_bytes": "a watchdog over the box's processes, every 20 ms" + wall,
            "processes": "RLIMIT_NPROC, counted in the box's own user namespace",
            "disk_bytes": "the size of the tmpfs that holds what the box writes between two snapshots"
            if keeper.quota
            else "not limited: this kernel's tmpfs cannot hold an overlay (needs Linux 6.6)",
            "seccomp": "filter active" if seccomp.supported() else f"no table for {platform.machine()}",
            "uid": f"boxes belong to uid {home.uid}",
        }
        return cls(home, Store(home), keeper, Pool(keeper, groups, spare), program, lease, notes)

    def close(self) -> None:
        """End the keeper, and with it whatever is left."""
        self.pool.close()
        self.keeper.close()
        self.lease.release()
        for descriptor in self.held:
            os.close(descriptor)

    def key(self, spec: BoxSpec) -> Key:
        """The pool key of a spec: the whole bubblewrap command."""
        wanted = spec.environment.digest, spec.workdir
        with self.lock:
            key = self.keys.get(wanted)
        if key is None:
            workdir = bwrap.check_workdir(spec.workdir)
            path = environment_directory(self.home, spec.environment)
            key = tuple(bwrap.command(self.program, path, bwrap.skeleton(self.home, path), workdir))
            with self.lock:
                self.keys[wanted] = key
                self.held.append(hold(path.with_name(path.name + ".use")))
        return key

    def drop(self, frozen: Stack) -> list[str]:
        """Give back one use of each; the names of those nobody uses any more."""
        with self.lock:
            for item in frozen:
                item.users -= 1
            # One layer may stand in several stacks of one box: name it once.
            return list(dict.fromkeys(item.name for item in frozen if item.users == 0))

    def keep(self, frozen: Stack) -> None:
        """Add one use of each."""
        with self.lock:
            for item in frozen:
                item.users += 1


class NamespaceSandbox:
    """One box. Use it from one thread at a time; `close` may come from any."""

    def __init__(
        self,
        backend: NamespaceBackend,
        parts: _Parts,
        spec: BoxSpec,
        layer: Layer,
        blank: Blank,
        frozen: Stack,
    ) -> None:
        self.spec = spec
        self._backend, self._parts, self._layer = backend, parts, layer
        self._frozen: Stack = []
        self._snapshots: dict[str, Stack] = {}
        self._closed = False
        self._top = ""
        self._group: Group | None = None
        self._kills = 0
        self._env = {**bwrap.BASE_ENV, **spec.environment.env}
        self._workdir = bwrap.check_workdir(spec.workdir)
        try:
            self._move_in(blank, frozen)
        except BaseException:
            parts.pool.discard(blank)
            raise

    def _move_in(self, blank: Blank, frozen: Stack) -> None:
        """Make a blank box ours."""
        self._number, self._guest = blank.number, blank.guest
        self._group, self._kills = blank.group, 0
        limits = self.spec.limits
        if self._group is not None:
            try:
                self._group.limit(limits.memory_bytes, limits.disk_bytes)
            except OSError as error:
                raise SandboxError(f"cannot limit the memory of a box: {error}") from error
        self._activate(frozen, detach=False)
        numbers = (limits.memory_bytes, limits.processes, limits.cpu_seconds or 0)
        self._ask([b"limits", *(b"%d" % number for number in numbers)])

    def _remove_group(self) -> None:
        if self._group is not None:
            self._group.remove()
            self._group = None

    @property
    def base_commit(self) -> str:
        """The commit id of the start tree."""
        return self._layer.base_commit

    def exec(
        self,
        command: Sequence[str] | str,
        *,
        timeout: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        output_bytes: int | None = None,
        channel: bool = False,
    ) -> ExecResult:
        """Run a command; see `Sandbox.exec`."""
        argv = ["bash", "-c", command] if isinstance(command, str) else list(command)
        if not argv or any("\0" in word for word in argv):
            raise ValueError("a command needs at least one word, and no NUL in any")
        limits = self.spec.limits
        seconds = limits.exec_seconds if timeout is None else timeout
        most = limits.output_bytes if output_bytes is None else output_bytes
        variables = {**self._env, **(env or {})}
        request = [
            b"exec",
            b"%.6f" % seconds,
            b"%d" % most,
            b"1" if channel else b"0",
            self._path(cwd or "."),
        ]
        request += [b"%d" % len(argv), *(os.fsencode(word) for word in argv)]
        for key, value in variables.items():
            request += [os.fsencode(key), os.fsencode(value)]
        begin = time.monotonic()
        try:
            reply = self._ask([*request, stdin], seconds + GRACE_SECONDS)
        except SandboxClosed:
            if self._closed or not self._killed_for_memory():
                raise
            self._revive()  # the kernel chose our supervisor, but the agent's memory was the reason
            return ExecResult(exit_code=137, cause=Cause.OUT_OF_MEMORY, seconds=time.monotonic() - begin)
        code, took, cause, missing, out, err, private = reply
        result = ExecResult(
            exit_code=int(code),
            stdout=out,
            stderr=err,
            seconds=float(took),
            cause=Cause(cause.decode()),
            truncated_bytes=int(missing),
            channel=private,
        )
        if result.exit_code and result.cause is not Cause.OUT_OF_MEMORY and self._killed_for_memory():
            return replace(result, cause=Cause.OUT_OF_MEMORY)
        return result

    def _killed_for_memory(self) -> bool:
        """Whether the kernel has killed something of this box for memory since we last asked."""
        if self._group is None:
            return False
        kills, before = self._group.kills(), self._kills
        self._kills = kills
        return kills > before

    def _revive(self) -> None:
        """A new process 1 over the files as they stand."""
        self._guest.close()
        self._parts.keeper.request("destroy", box=self._number, layers=[])
        self._remove_group()
        top, self._top = Frozen(self._top, users=1), ""
        self._parts.keep(self._frozen)
        layers = [top, *self._frozen]
        self._move_in(self._parts.pool.take(self._parts.key(self.spec)), layers)
        self._parts.drop(layers)

    def read(self, path: str, *, max_bytes: int | None = None) -> bytes:
        """The content of a file."""
        return self._file(
            path, [b"read", self._path(path), b"%d" % (-1 if max_bytes is None else max_bytes)]
        )[0]

    def write(self, path: str, content: bytes, *, executable: bool | None = None) -> None:
        """Create or replace a file."""
        mode = b"-" if executable is None else b"1" if executable else b"0"
        self._file(path, [b"write", self._path(path), mode, content])

    def list(self, path: str = ".") -> tuple[str, ...]:
        """Sorted names in a directory."""
        return tuple(os.fsdecode(name) for name in self._file(path, [b"list", self._path(path)]))

    def snapshot(self) -> str:
        """Freeze the file state: the upper directory becomes a layer."""
        self._freeze()
        name = f"s{len(self._snapshots) + 1}"
        self._parts.keep(self._frozen)
        self._snapshots[name] = list(self._frozen)
        return name

    def fork(self, n: int) -> Boxes:
        """`n` boxes that begin from here."""
        self._freeze()
        made: Boxes = []
        key = self._parts.key(self.spec)
        try:
            for _ in range(n):
                layer = self._parts.store.acquire(self.spec.start)
                try:
                    blank = self._parts.pool.take(key)
                    box = NamespaceSandbox(self._backend, self._parts, self.spec, layer, blank, self._frozen)
                except BaseException:
                    self._parts.store.release(layer.digest)
                    raise
                self._backend._adopt(box)
                made.append(box)
        except BaseException:
            for other in made:
                other.close()
            raise
        return made

    def restore(self, snapshot: str) -> None:
        """Go back to a snapshot."""
        self._check_open()
        self._activate(self._snapshots[snapshot], detach=True)

    def digest(self) -> str:
        """SHA-256 (hex) of what differs from the start tree below the workdir."""
        return export.state_digest(self._changes(content=False))

    def diff(self) -> bytes:
        """The changes as a git patch."""
        records = list(self._changes(content=True))
        base = export.read_manifest(self._layer.path / "manifest.json")
        objects, rules = Objects(), changes.base_rules(str(self._layer.root / "workspace"))
        after = export.apply_records(base, records, objects, rules)
        return export.make_patch(base, after, objects, self._layer.objects)

    def close(self) -> None:
        """End every process and give back all state."""
        if self._closed:
            return
        self._closed = True
        self._guest.close()
        held = [frozen for frozens in (self._frozen, *self._snapshots.values()) for frozen in frozens]
        layers = self._parts.drop(held) + ([self._top] if self._top else [])
        with contextlib.suppress(SandboxError):  # a keeper that is gone took the box with it
            self._parts.keeper.request("destroy", box=self._number, layers=layers)
        self._remove_group()
        self._parts.store.release(self._layer.digest)
        self._backend._forget(self)

    def __enter__(self) -> NamespaceSandbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxClosed("the sandbox was closed")

    def _ask(self, fields: Fields, seconds: float = GRACE_SECONDS) -> Fields:
        self._check_open()
        try:
            return self._guest.request(fields, seconds)
        except OSError as error:
            raise SandboxError(f"supervisor: {error}") from error

    def _file(self, path: str, fields: Fields) -> Fields:
        self._check_open()
        if "\0" in path:
            raise OSError(errno.EINVAL, "NUL in a path", path)
        try:
            return self._guest.request(fields, GRACE_SECONDS * 2)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None

    def _path(self, path: str) -> bytes:
        return os.fsencode(posixpath.join(self._workdir, path))

    def _activate(self, frozen: Stack, *, detach: bool) -> None:
        """Stand on these layers with a fresh upper directory."""
        reply, _ = self._parts.keeper.request(
            "activate",
            box=self._number,
            layers=[item.name for item in frozen],
            base=str(self._layer.root),
            bytes=self.spec.limits.disk_bytes,
            targets=[self._workdir, bwrap.TMP, bwrap.HOME],
            detach=detach,
        )
        self._parts.keep(frozen)
        dead = self._parts.drop(self._frozen) + ([self._top] if self._top else [])
        self._frozen, self._top = list(frozen), reply["layer"]
        if dead:
            self._parts.keeper.request("drop", layers=dead)

    def _freeze(self) -> None:
        """Turn the upper directory into the first of the layers below a new one."""
        self._check_open()
        top = Frozen(self._top, users=1)
        layers = [top, *self._frozen]
        self._parts.keep(self._frozen)
        if len(layers) > MOST_LAYERS:
            names = [item.name for item in layers]
            reply, _ = self._parts.keeper.request("merge", layers=names, bytes=self.spec.limits.disk_bytes)
            dead = self._parts.drop(layers)
            layers = [Frozen(reply["layer"], users=1)]
            self._top = ""
            self._activate(layers, detach=True)
            dead += self._parts.drop(layers)
            self._parts.keeper.request("drop", layers=dead)
            return
        self._top = ""
        self._activate(layers, detach=True)
        self._parts.drop(layers)

    def _changes(self, *, content: bool) -> Iterator[export.Record]:
        """What the layers of this box say about the repository."""
        self._check_open()
        layers = [self._top, *(item.name for item in self._frozen)]
        _, (pipe,) = self._parts.keeper.request(
            "export",
            layers=layers,
            base=str(self._layer.root),
            part="workspace",
            content=content,
            seconds=EXPORT_SECONDS,
        )
        try:
            yield from changes.records(pieces(pipe, EXPORT_SECONDS))
        except ValueError as error:
            raise SandboxError(f"cannot read the box's changes: {error}") from error
        finally:
            os.close(pipe)


Boxes = list[Sandbox]
