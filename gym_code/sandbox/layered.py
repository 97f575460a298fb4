"""What all backends share whose boxes stand on overlays: one keeper mounts layers and injects them into
boxes, a pool launches boxes ahead of need, and each box is a stack of layers with a supervisor to talk to.

`namespace` and `docker` differ in how a box is launched and in where its keeper runs, and in nothing else:
the same code makes their digests and patches.
"""

from __future__ import annotations

import contextlib
import errno
import os
import posixpath
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from gym_code.errors import SandboxClosed, SandboxError
from gym_code.sandbox import bwrap, changes, export
from gym_code.sandbox.base import SPARE, BoxSpec, Capabilities, Sandbox
from gym_code.sandbox.gitobjects import Objects
from gym_code.sandbox.guest import Fields
from gym_code.sandbox.layout import Home
from gym_code.sandbox.link import LayerKeeper
from gym_code.sandbox.pool import Blank, Key, Pool
from gym_code.sandbox.store import Layer, Store
from gym_code.types import Cause, Environment, ExecResult, StartTree

MOST_LAYERS = 64
"""A box whose history is longer is flattened: the merge costs what changed, every path look-up costs
the depth."""
GRACE_SECONDS = 30.0
"""How long a supervisor may take beyond a command's own limit before we call it a fault of ours."""

ROOM_BYTES = 16 << 20
"""What a box may hold in frozen layers before its limit of memory is raised by that."""
EXPORT_SECONDS = 120
"""How long the keeper may take to tell what a box has changed."""


LONGEST_SECONDS = 1e8
"""No command may be given longer: sockets cannot wait for ever."""


class RevivedError(OSError):
    """The kernel ended the supervisor for the memory of its box; a new one stands over the same files."""

    def __init__(self) -> None:
        super().__init__(errno.ENOMEM, os.strerror(errno.ENOMEM))


@dataclass(slots=True)
class Frozen:
    """An upper directory in the keeper that boxes build on, and how many do."""

    name: str
    users: int = 1


Stack = list[Frozen]
"""Layers, the newest first."""


class Parts(ABC):
    """What a started backend holds."""

    home: Home
    store: Store
    keeper: LayerKeeper
    pool: Pool

    def __init__(self) -> None:
        self.lock = threading.Lock()

    @abstractmethod
    def key(self, spec: BoxSpec) -> Key:
        """What boxes of a spec are launched with. Raises `EnvironmentBuildError`, `InputError`."""

    @abstractmethod
    def variables(self, spec: BoxSpec) -> dict[str, str]:
        """The environment variables that every command of a box finds."""

    @abstractmethod
    def notes(self) -> Mapping[str, str]:
        """How each limit is held here."""

    def acquire(self, start: StartTree) -> Layer:
        """The start layer, held until `release`."""
        return self.store.acquire(start)

    def release(self, layer: Layer) -> None:
        """Give one use of a layer back."""
        self.store.release(layer.digest)

    def base(self, layer: Layer) -> str:
        """Where the keeper finds a layer's files."""
        return str(layer.root)

    def drop_start(self, digest: str) -> None:
        """Remove a start layer that no box uses."""
        self.store.drop(digest)

    @abstractmethod
    def drop_environment(self, environment: Environment) -> None:
        """Give back what is kept for boxes of an environment."""

    @abstractmethod
    def close(self) -> None:
        """Give everything back."""

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


class LayeredBackend(ABC):
    """Opens boxes. Thread-safe. What it needs is started with the first box, and again when it was lost.

    home: the state directory (default: GYM_CODE_HOME, /var/lib/gym-code for root, the user's cache
    directory otherwise).
    spare: boxes kept launched ahead of need for each environment; 0 launches on demand.
    """

    name: str

    def __init__(self, home: Path | None = None, *, spare: int = SPARE) -> None:
        self._root, self._spare = home, spare
        self._lock = threading.RLock()
        self._boxes: set[LayeredSandbox] = set()
        self._started: Parts | None = None
        self._closed = False

    @abstractmethod
    def _start(self) -> Parts:
        """Start what boxes need. Raises `SandboxUnavailable` where this machine cannot."""

    def capabilities(self) -> Capabilities:
        """What works here: raises `SandboxUnavailable` when nothing does."""
        parts = self._parts()
        limits = "exec_seconds output_bytes memory_bytes cpu_seconds processes"
        limits += " disk_bytes" if parts.keeper.quota else ""
        return Capabilities(
            name=self.name,
            processes=True,
            network_isolated=True,
            limits_enforced=tuple(limits.split()),
            notes=parts.notes(),
        )

    def prepare(self, spec: BoxSpec) -> str:
        """Build the environment and the start layer, and launch spare boxes."""
        parts = self._parts()
        key = parts.key(spec)
        layer = parts.acquire(spec.start)
        parts.release(layer)
        parts.pool.warm(key)
        return layer.base_commit

    def open(self, spec: BoxSpec) -> LayeredSandbox:
        """A fresh box."""
        parts = self._parts()
        try:
            return self._open(parts, spec)
        except SandboxError:
            if not parts.keeper.lost:
                raise
        return self._open(self._parts(), spec)  # that it was lost was found out just now

    def _open(self, parts: Parts, spec: BoxSpec) -> LayeredSandbox:
        key = parts.key(spec)
        layer = parts.acquire(spec.start)
        try:
            box = LayeredSandbox(self, parts, spec, layer, parts.pool.take(key), [])
        except BaseException:
            parts.release(layer)
            raise
        self._adopt(box)
        return box

    def drop_start(self, digest: str) -> None:
        """Remove the layer of a start tree (SHA-256, hex), here and where boxes find it, unless one uses it.

        It is made again when it is needed again.
        """
        if (parts := self._started) is not None:
            parts.drop_start(digest)

    def drop_environment(self, environment: Environment) -> None:
        """End the spare boxes of an environment, and let go of its image or directory.

        Call it when no box of the environment is open or about to be opened.
        """
        if (parts := self._started) is not None:
            parts.drop_environment(environment)

    def close(self) -> None:
        """Close every box and the keeper."""
        with self._lock:
            self._closed = True
            boxes, parts, self._started = list(self._boxes), self._started, None
        for box in boxes:
            box.close()
        if parts is not None:
            parts.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _parts(self) -> Parts:
        with self._lock:
            if self._closed:
                raise SandboxClosed("the backend was closed")
            if self._started is not None and self._started.keeper.lost:
                # Boxes over the lost keeper are lost with it; new ones get a new one.
                lost, self._started = self._started, None
                lost.close()
            if self._started is None:
                self._started = self._start()
            return self._started

    def _forget(self, box: LayeredSandbox) -> None:
        with self._lock:
            self._boxes.discard(box)

    def _adopt(self, box: LayeredSandbox) -> None:
        with self._lock:
            closed = self._closed
            self._boxes.add(box)
        if closed:  # by another thread, while the box was opened
            box.close()
            raise SandboxClosed("the backend was closed")


class LayeredSandbox:
    """One box. Use it from one thread at a time; `close` may come from any."""

    def __init__(
        self,
        backend: LayeredBackend,
        parts: Parts,
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
        self._kills = self._inherited = self._room = 0
        self._env = parts.variables(spec)
        self._workdir = bwrap.check_workdir(spec.workdir)
        try:
            self._move_in(blank, frozen)
        except BaseException:
            blank.end()
            raise

    def _move_in(self, blank: Blank, frozen: Stack) -> None:
        """Make a blank box ours."""
        self._blank, self._guest = blank, blank.guest
        self._kills = 0
        limits = self.spec.limits
        blank.limit(limits)
        self._activate(frozen, detach=False)
        processes = 0 if blank.counts_processes else limits.processes
        numbers = (limits.memory_bytes, processes, limits.cpu_seconds or 0)
        try:
            self._guest.request([b"limits", *(b"%d" % number for number in numbers)], GRACE_SECONDS)
        except OSError as error:
            raise SandboxError(f"supervisor: {error}") from error

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
        if not argv or any("\0" in word for word in [*argv, cwd or ""]):
            raise ValueError("a command needs at least one word, and no NUL in any")
        for key, value in (env or {}).items():
            if not key or "=" in key or "\0" in key + value:
                raise ValueError(f"not an environment variable: {key!r}")
        limits = self.spec.limits
        seconds = limits.exec_seconds if timeout is None else timeout
        if not seconds <= LONGEST_SECONDS:
            raise ValueError(f"timeout: expected at most {LONGEST_SECONDS:g} seconds, found {seconds}")
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
            reply = self._send([*request, stdin], seconds + GRACE_SECONDS)
        except RevivedError:
            return ExecResult(exit_code=137, cause=Cause.OUT_OF_MEMORY, seconds=time.monotonic() - begin)
        except OSError as error:
            raise SandboxError(f"supervisor: {error}") from error
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
        kills, before = self._blank.kills(), self._kills
        self._kills = kills
        return kills > before

    def _revive(self) -> None:
        """A new process 1 over the files as they stand."""
        self._blank.end()
        top, self._top = Frozen(self._top, users=1), ""
        self._parts.keep(self._frozen)
        layers = [top, *self._frozen]
        self._move_in(self._parts.pool.take(self._parts.key(self.spec)), layers)
        self._parts.drop(layers)
        if self._closed:  # meanwhile, by another thread
            self._blank.end()

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
                layer = self._parts.acquire(self.spec.start)
                try:
                    blank = self._parts.pool.take(key)
                    box = LayeredSandbox(self._backend, self._parts, self.spec, layer, blank, self._frozen)
                except BaseException:
                    self._parts.release(layer)
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
        with self._parts.lock:
            if self._closed:
                return
            self._closed = True
        self._blank.end()
        held = [frozen for frozens in (self._frozen, *self._snapshots.values()) for frozen in frozens]
        layers = self._parts.drop(held) + ([self._top] if self._top else [])
        with contextlib.suppress(SandboxError):  # a keeper that is gone took the box with it
            self._parts.keeper.request("drop", layers=layers)
        self._parts.release(self._layer)
        self._backend._forget(self)

    def __enter__(self) -> LayeredSandbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxClosed("the sandbox was closed")

    def _send(self, fields: Fields, seconds: float) -> Fields:
        """A request for the agent. Raises OSError for what it got wrong, `RevivedError` if too full."""
        self._check_open()
        try:
            return self._guest.request(fields, seconds)
        except SandboxClosed as error:
            if self._closed or not self._killed_for_memory():
                raise
            self._revive()  # the kernel chose our supervisor, but the agent's memory was the reason
            raise RevivedError from error

    def _file(self, path: str, fields: Fields) -> Fields:
        if "\0" in path:
            raise OSError(errno.EINVAL, "NUL in a path", path)
        try:
            return self._send(fields, GRACE_SECONDS * 2)
        except OSError as error:
            raise OSError(error.errno, error.strerror, path) from None

    def _path(self, path: str) -> bytes:
        return os.fsencode(posixpath.join(self._workdir, path))

    def _activate(self, frozen: Stack, *, detach: bool) -> None:
        """Stand on these layers with a fresh upper directory."""
        reply = self._parts.keeper.request(
            "activate",
            **self._blank.address,
            layers=[item.name for item in frozen],
            base=self._parts.base(self._layer),
            bytes=self.spec.limits.disk_bytes,
            targets=[self._workdir, bwrap.TMP, bwrap.HOME],
            detach=detach,
        )
        self._parts.keep(frozen)
        dead = self._parts.drop(self._frozen) + ([self._top] if self._top else [])
        self._frozen, self._top = list(frozen), reply["layer"]
        if dead:
            self._parts.keeper.request("drop", layers=dead)
        if detach:
            self._make_room(reply["held"] - self._inherited)
        else:
            self._inherited, self._room = reply["held"], ROOM_BYTES

    def _make_room(self, held: int) -> None:
        """The pages of frozen layers go on counting as memory of the box that wrote them."""
        if held > self._room:
            self._room = 2 * held  # ahead of need: a change of the limit can be slow
            self._blank.limit(self.spec.limits, self._room)

    def _freeze(self) -> None:
        """Turn the upper directory into the first of the layers below a new one."""
        self._check_open()
        top = Frozen(self._top, users=1)
        layers = [top, *self._frozen]
        self._parts.keep(self._frozen)
        if len(layers) > MOST_LAYERS:
            names = [item.name for item in layers]
            reply = self._parts.keeper.request("merge", layers=names)
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
        pieces = self._parts.keeper.export(
            layers=layers,
            base=self._parts.base(self._layer),
            part="workspace",
            content=content,
            seconds=EXPORT_SECONDS,
        )
        try:
            yield from changes.records(pieces)
        except ValueError as error:
            raise SandboxError(f"cannot read the box's changes: {error}") from error


Boxes = list[Sandbox]
