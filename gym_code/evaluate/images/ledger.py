"""What evaluations have brought onto a machine, over all runs and processes.

    fetched/<key>.json      an image that was not there before: written before its fetch begins
    fetched/<key>.use       a lock: whoever works with the image holds it
    fetched/<key>.fetch     another one: whoever fetches it

They lie in the state directory, not in that of a run, so that the next run and `gym-code gc` find what a
killed one has left. Only what is noted here is ever removed, and only where nobody holds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from gym_code.files import replace_file
from gym_code.sandbox.lease import hold, last_use, owner_tag, unused
from gym_code.types import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gym_code.sandbox.layout import Home


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An image that was fetched, or that is being fetched."""

    name: str
    """As tasks name it."""
    shelf: str
    """Where it is: the id of a daemon, or `unpacked`."""
    image: str = ""
    """Its id; empty until it is there."""
    tags: tuple[str, ...] = ()
    """The names that come with it, and go with it."""
    owner: str
    """`pid-start` of the process that fetched it."""


class Ledger:
    """The entries of one shelf. Thread-safe."""

    def __init__(self, home: Home, shelf: str) -> None:
        self._folder, self._shelf = home.root / "fetched", shelf
        self._folder.mkdir(exist_ok=True)

    def entry(self, name: str) -> Entry | None:
        """What is noted of an image; None where it was not fetched."""
        return _read(self._path(name))

    def entries(self) -> list[Entry]:
        """All that was fetched, the one used longest ago first."""
        found = [entry for path in self._folder.glob("*.json") if (entry := _read(path)) is not None]
        mine = [entry for entry in found if entry.shelf == self._shelf]
        return sorted(mine, key=lambda entry: (self.last_use(entry.name), entry.name))

    def note(self, name: str, *, tags: tuple[str, ...], image: str = "") -> None:
        """Note a fetch that is about to begin, or what came of it. On disk when this returns."""
        entry = Entry(name=name, shelf=self._shelf, image=image, tags=tags, owner=owner_tag())
        replace_file(self._path(name), json.dumps(asdict(entry)).encode())

    def forget(self, name: str) -> None:
        """There is nothing of ours to remove any more."""
        self._path(name).unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove the locks that stand for nothing: of images that were found, or are gone."""
        for lock in [*self._folder.glob("*.use"), *self._folder.glob("*.fetch")]:
            if not lock.with_suffix(".json").exists():
                with unused(lock) as free:
                    if free:
                        lock.unlink()

    def last_use(self, name: str) -> float:
        """Seconds since the epoch; 0 where nobody has used it."""
        return last_use(self._lock(name))

    @contextlib.contextmanager
    def lease(self, name: str) -> Iterator[None]:
        """Meanwhile nobody removes the image."""
        descriptor = hold(self._lock(name))
        try:
            yield
        finally:
            os.utime(descriptor)
            os.close(descriptor)

    @contextlib.contextmanager
    def alone(self, name: str) -> Iterator[None]:
        """One at a time for one image, over all threads and processes."""
        path = self._path(name).with_suffix(".fetch")
        while True:
            with path.open("w") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                # `sweep` may have removed it between opening and locking: then again.
                if _is_at(path, file.fileno()):
                    yield
                    return

    @contextlib.contextmanager
    def idle(self, name: str) -> Iterator[bool]:
        """Whether nobody works with the image; while it is True nobody can begin to."""
        lock = self._lock(name)
        if not lock.exists():
            os.close(hold(lock))
        with unused(lock) as free:
            yield free

    def _path(self, name: str) -> Path:
        return self._folder / f"{canonical_digest([self._shelf, name])[:32]}.json"

    def _lock(self, name: str) -> Path:
        return self._path(name).with_suffix(".use")


def _is_at(path: Path, descriptor: int) -> bool:
    """Whether an open file is the one that a path names."""
    try:
        return path.stat().st_ino == os.fstat(descriptor).st_ino
    except FileNotFoundError:
        return False


def _read(path: Path) -> Entry | None:
    try:
        row = json.loads(path.read_text())
        return Entry(**{**row, "tags": tuple(row["tags"])})
    except (OSError, ValueError, TypeError, KeyError):
        return None  # removed meanwhile, or of another version
