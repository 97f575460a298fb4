"""Start trees as immutable layers, one directory for each tree digest, shared by every box and every
process.

A layer holds `workspace` (the tree, with `.git`), `tmp` and `home`: the lower directory of an overlay. It
is written beside its place and renamed into it, so that it is whole or absent. Whoever uses one holds a
shared lock on its lock file; `prune` removes layers, oldest first, that nobody holds. The kernel gives the
locks of a dead process back.
"""

from __future__ import annotations

import json
import os
import shutil
import threading
from dataclasses import dataclass, field
from pathlib import Path

from gym_code.errors import InputError, SandboxError
from gym_code.gitrepo import SECONDS
from gym_code.sandbox.gitobjects import StartRepo, start_repo
from gym_code.sandbox.layout import Home
from gym_code.sandbox.lease import KEPT_LAYERS, hold, owner_tag, prune_layers, remove_unused
from gym_code.types import StartTree, tree_digest

FORMAT = "1"
"""Part of every layer's name: raise it when what is written changes."""
_STAMP = (SECONDS * 10**9, SECONDS * 10**9)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A start tree on disk."""

    digest: str
    path: Path
    base_commit: str

    @property
    def root(self) -> Path:
        """The lower directory of the overlay."""
        return self.path / "fs"

    @property
    def objects(self) -> Path:
        """The git objects of the start commit."""
        return self.root / "workspace" / ".git" / "objects"


@dataclass(slots=True)
class _Held:
    """A layer in use."""

    descriptor: int
    """Of its lock file."""
    users: int = 0
    making: threading.Lock = field(default_factory=threading.Lock)
    """Held by the thread that makes it."""


class Store:
    """The layers of one state directory, as one process uses them. Thread-safe."""

    def __init__(self, home: Home) -> None:
        self.home = home
        self._lock = threading.Lock()
        self._made = 0
        self._held: dict[str, _Held] = {}
        """By digest."""

    def acquire(self, start: StartTree) -> Layer:
        """The layer of a tree, made if need be and held until `release`. Raises `InputError`,
        `SandboxError`."""
        if len(start.digest) != 64 or not start.digest.isalnum():
            raise InputError("bad start tree digest", expected="64 hex digits", found=start.digest)
        path = self.home.layers / f"{FORMAT}-{start.digest}"
        with self._lock:
            held = self._held.get(start.digest)
            if held is None:
                try:
                    held = self._held[start.digest] = _Held(hold(path.with_name(path.name + ".use")))
                except OSError as error:
                    raise SandboxError(f"cannot write the start layer {path}: {error}") from error
            held.users += 1
        try:
            with held.making:
                if not (path / "fs").is_dir():
                    self._make(start, path)
            return Layer(digest=start.digest, path=path, base_commit=(path / "base_commit").read_text())
        except BaseException:
            self.release(start.digest)
            raise

    def release(self, digest: str) -> None:
        """Give one use of a layer back."""
        with self._lock:
            held = self._held[digest]
            held.users -= 1
            if not held.users:
                del self._held[digest]
                os.close(held.descriptor)

    def drop(self, digest: str) -> bool:
        """Remove a layer that nobody uses, in this process or another; whether it is gone."""
        path = self.home.layers / f"{FORMAT}-{digest}"
        with self._lock:
            if digest not in self._held:
                remove_unused(path.with_name(path.name + ".use"))
            return not path.is_dir()

    def _make(self, start: StartTree, path: Path) -> None:
        files = start.files()
        found = tree_digest(files)
        if found != start.digest:
            raise InputError("start tree differs from its digest", expected=start.digest, found=found)
        repo = start_repo(files)
        part = path.with_name(f".part-{owner_tag()}-{threading.get_ident()}-{start.digest}")
        try:
            _write(part, repo, start, self.home.uid if os.geteuid() == 0 else -1)
            part.rename(path)
        except OSError as error:
            shutil.rmtree(part, ignore_errors=True)
            if not (path / "fs").is_dir():  # else another process was faster with the same bytes
                raise SandboxError(f"cannot write the start layer {path}: {error}") from error
        self._made += 1
        if self._made % 256 == 0:
            prune_layers(self.home, keep=KEPT_LAYERS)


def _write(part: Path, repo: StartRepo, start: StartTree, owner: int) -> None:
    """Write a layer. With plain calls: small trees are made by the hundred."""
    root = os.fsencode(part / "fs")
    work = root + b"/workspace/"
    files: dict[bytes, tuple[bytes, int]] = {}
    links: dict[bytes, bytes] = {}
    for name, file in start.files().items():
        path = os.fsencode(name)
        if file.link is not None:
            links[path] = os.fsencode(file.link)
        else:
            files[path] = (file.content, 0o755 if file.executable else 0o644)
    for name, content in repo.files.items():
        files[b".git/" + name.encode()] = (content, 0o444 if name.startswith("objects/") else 0o644)
    folders = {b".git/refs/tags", b".git/objects/info", b".git/info"}
    folders.update(path.rpartition(b"/")[0] for path in (*files, *links))
    every: set[bytes] = set()
    for folder in folders:
        while folder:
            every.add(folder)
            folder = folder.rpartition(b"/")[0]
    made = [
        root,
        root + b"/tmp",
        root + b"/home",
        root + b"/workspace",
        *(work + name for name in sorted(every)),
    ]
    os.mkdir(part)
    for path in made:
        os.mkdir(path, 0o755)
        os.chmod(path, 0o755)
    os.chmod(root + b"/tmp", 0o1777)
    for path, (content, mode) in files.items():
        fd = os.open(work + path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
            os.fchmod(fd, mode)
            if owner >= 0:
                os.fchown(fd, owner, owner)
            os.utime(fd, ns=_STAMP)
        finally:
            os.close(fd)
    for path, target in links.items():
        os.symlink(target, work + path)
        if owner >= 0:
            os.lchown(work + path, owner, owner)
        os.utime(work + path, ns=_STAMP, follow_symlinks=False)
    for path in reversed(made):
        if owner >= 0:
            os.chown(path, owner, owner)
        os.utime(path, ns=_STAMP)
    manifest = {os.fsdecode(path): [mode.decode(), oid.hex()] for path, (mode, oid) in repo.entries.items()}
    (part / "manifest.json").write_text(json.dumps(manifest))
    (part / "base_commit").write_text(repo.base_commit)
