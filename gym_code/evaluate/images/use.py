"""The images of a run's instances: each fetched once, when it is needed, and gone when room is needed."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from gym_code.errors import ConfigError, EnvironmentBuildError, InputError, SandboxError, SandboxUnavailable
from gym_code.evaluate.images.disk import Disk, megabytes
from gym_code.evaluate.images.fetch import Failed
from gym_code.evaluate.images.ledger import Ledger
from gym_code.evaluate.images.shelves import OnDaemon, Unpacked
from gym_code.evaluate.images.sources import How, Sources
from gym_code.sandbox.docker import Daemon
from gym_code.sandbox.layered import LayeredBackend
from gym_code.sandbox.layout import open_home

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend
    from gym_code.task import Suite
    from gym_code.types import Environment

WATCH_SECONDS = 1.0
"""How often the disk is looked at, and a line is told, while an image comes."""


class HasInstance(Protocol):
    """What belongs to an instance."""

    @property
    def instance_id(self) -> str:
        """Its id."""


Item = TypeVar("Item", bound=HasInstance)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """The image of an instance, ready to be used."""

    name: str
    """As the task names it; empty where it names none."""
    id: str = ""
    how: How
    """`none`: the task has no image of its own; `found`: it was there already."""
    seconds: float = 0.0
    """How long it took to come."""


class Images:
    """Gives an instance its image. Thread-safe.

    archives: a directory with files of `docker save`, named after the instance (`ID.tar`) or after the image
    (its name with `_` for `/` and `:`, and `.tar`). cap_bytes: most bytes of disk for what was fetched, by
    this run or another; None for no cap but the disk's own. progress: is given a line at a time. Raises
    `ConfigError` where there is no such directory.
    """

    def __init__(
        self,
        suite: Suite,
        backend: Backend | None = None,
        *,
        archives: Path | None = None,
        cap_bytes: int | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        if archives is not None and not archives.is_dir():
            raise ConfigError("no archives", where=str(archives), expected="a directory", found="none")
        self._suite, self._backend, self._archives, self._cap = suite, backend, archives, cap_bytes
        self._tell = progress or (lambda _: None)
        self._daemon = Daemon()
        self._changed = threading.Condition()
        self._making_room = threading.Lock()
        self._opened: tuple[Disk, Sources] | None = None
        self._largest = 0
        """Bytes that the largest image fetched so far takes: what the next one is expected to."""
        self._coming: dict[str, int] = {}
        """Images that are being fetched, and the room that is kept for each."""
        self._working = 0
        """Threads that fetch or use an image: those that wait for room are none."""
        self._turns = 0
        """How often a thread has left: who waits for room tries again then."""
        self._tasks, self._images = Counter[str](), Counter[str]()
        """How often each task and image will be used again."""
        self._inside = Counter[str]()
        """Threads in `use`, by image."""
        self._too_large: dict[str, str] = {}
        """Images that the cap does not let in, and the words for it."""

    def ordered(self, items: Iterable[Item]) -> list[Item]:
        """The items with those of one image together, so that it is fetched once.

        `use` counts them off. What was not used of an earlier order is not waited for any more.
        """
        groups: dict[str, list[Item]] = {}
        for item in items:
            name = self._suite.task(item.instance_id).environment.image or ""
            groups.setdefault(name, []).append(item)
        with self._changed:
            self._tasks = Counter(item.instance_id for group in groups.values() for item in group)
            self._images = Counter({name: len(group) for name, group in groups.items()})
        return [item for group in groups.values() for item in group]

    @contextlib.contextmanager
    def use(self, task_id: str) -> Iterator[Image]:
        """The image of a task, which nobody removes meanwhile: use its start tree and its boxes in here.

        Waits where another thread fetches the same image, and where room will come free. Raises
        `EnvironmentBuildError` with all that was tried, `SandboxUnavailable` where the daemon goes away.
        """
        environment = self._suite.task(task_id).environment
        if environment.image is None:
            yield Image(name="", how="none")
            return
        name, (disk, sources) = environment.image, self._open()
        with self._changed:
            self._inside[name] += 1
            self._tasks[task_id] = max(0, self._tasks[task_id] - 1)
            self._images[name] = max(0, self._images[name] - 1)
        working = 0
        try:
            with disk.ledger.lease(name):
                image = self._have(disk, sources, task_id, name)
                working = 1
                try:
                    yield image
                finally:
                    self._give_back(task_id, environment)
        finally:
            self._next_turn(working)
            with self._changed:
                self._inside[name] -= 1

    def close(self) -> None:
        """Give the connections back. What was fetched stays for the next run, as far as the cap lets it."""
        self._daemon.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self) -> tuple[Disk, Sources]:
        """Where images lie here, and where they come from: looked at with the first one."""
        with self._changed:
            if self._opened is None:
                home, daemon = open_home(), self._daemon
                try:
                    shelf: OnDaemon | Unpacked = OnDaemon(daemon, home)
                except SandboxUnavailable:
                    shelf = Unpacked(home)
                sources = Sources(
                    self._suite, self._archives, daemon if isinstance(shelf, OnDaemon) else None, home
                )
                self._opened = Disk(shelf, Ledger(home, shelf.name), self._cap), sources
            return self._opened

    def _next_turn(self, stopped: int) -> None:
        """Let those who wait for room look again; stopped: how many threads do not work any more."""
        with self._changed:
            self._working -= stopped
            self._turns += 1
            self._changed.notify_all()

    def _wanted(self, name: str) -> bool:
        with self._changed:
            return self._images[name] > 0

    def _have(self, disk: Disk, sources: Sources, task_id: str, name: str) -> Image:
        """The image, fetched if need be. The caller holds its lease; its thread counts as working then."""
        begin = time.monotonic()
        with disk.ledger.alone(name):
            if (found := _find(disk, task_id, name)) is not None:
                entry = disk.ledger.entry(name)
                if entry is not None and not entry.image:  # a run that was killed had just fetched it
                    disk.ledger.note(name, tags=entry.tags, image=found)
                elif entry is not None and entry.image != found:  # another has taken its place since
                    disk.ledger.forget(name)
                with self._changed:
                    self._working += 1
                return Image(name=name, id=found, how="found")
            if problem := self._too_large.get(name):
                raise EnvironmentBuildError(problem)
            archive = sources.archive(task_id, name)
            known = archive.stat().st_size if archive is not None and archive.is_file() else 0
            self._reserve(disk, task_id, name, known)
            try:
                how, image = self._fetch(disk, sources, task_id, name)
            except BaseException:
                self._arrived(name, stopped=1)
                raise
            self._arrived(name, stopped=0)
        return Image(name=name, id=image, how=how, seconds=time.monotonic() - begin)

    def _arrived(self, name: str, stopped: int) -> None:
        with self._changed:
            del self._coming[name]
            self._next_turn(stopped)

    def _reserve(self, disk: Disk, task_id: str, name: str, need: int) -> None:
        """Wait for room for `need` bytes, and keep it. Raises `EnvironmentBuildError` if none will come."""
        while True:
            with self._making_room:
                with self._changed:
                    turn, coming = self._turns, dict(self._coming)
                    need = need or self._largest
                # Nothing tells yet how large an image is: the others wait for the first one.
                blind = self._cap is not None and need == 0 and bool(coming)
                problem = "" if blind else disk.room(need + sum(coming.values()), self._wanted)
                if not blind and not problem:
                    with self._changed:
                        self._coming[name] = need
                        self._working += 1
                    return
            with self._changed:
                while self._turns == turn:
                    if problem and self._working == 0:
                        raise EnvironmentBuildError(f"{task_id}: no room for the image {name}: {problem}")
                    self._changed.wait()

    def _fetch(self, disk: Disk, sources: Sources, task_id: str, name: str) -> tuple[How, str]:
        """Bring an image by the first way that works; what was done, and its id."""
        before = disk.shelf.ids()
        disk.ledger.note(name, tags=sources.names(task_id, name))
        tried = []
        for how, bring in sources.ways(task_id, name, self._watch(disk, name)):
            try:
                tags = bring()
            except Failed as failed:
                tried.append(f"not {how}: {failed.problem}")
                continue
            image = _find(disk, task_id, name)
            if image is None:
                tried.append(f"{how}, and not there")
                continue
            if image in before:  # somebody had it under another name
                disk.ledger.forget(name)
            else:
                disk.ledger.note(name, tags=tags, image=image)
                self._keep_to_cap(disk, task_id, name)
            self._tell(f"{name}: {how}")
            return how, image
        disk.ledger.forget(name)
        raise EnvironmentBuildError("\n".join([f"{task_id}: there is no image {name}", *tried]))

    def _watch(self, disk: Disk, name: str) -> Callable[[str, int], None]:
        """Tells of a fetch, and ends it before it fills the disk."""
        last = 0.0

        def watch(line: str, missing: int) -> None:
            nonlocal last
            if time.monotonic() - last < WATCH_SECONDS:
                return
            last = time.monotonic()
            self._tell(f"{name}: {line}")
            with self._making_room:
                if problem := disk.room(missing, self._wanted, capped=False):
                    raise EnvironmentBuildError(f"no room for the image {name}: {problem}")

        return watch

    def _keep_to_cap(self, disk: Disk, task_id: str, name: str) -> None:
        """Evict others for an image that has just come; it itself where it is larger than the cap."""
        entry = disk.ledger.entry(name)
        assert entry is not None
        size = disk.shelf.taken([entry])
        with self._changed:
            self._largest = max(self._largest, size)
        if self._cap is None or size <= self._cap:
            with self._making_room:
                disk.room(0, self._wanted)
            return
        disk.shelf.remove(entry)
        disk.ledger.forget(name)
        problem = f"it takes {megabytes(size)}, and all that is fetched may take {megabytes(self._cap)}"
        self._too_large[name] = f"{task_id}: no room for the image {name}: {problem}"
        raise EnvironmentBuildError(self._too_large[name])

    def _give_back(self, task_id: str, environment: Environment) -> None:
        """What is kept for boxes goes when it is not used again."""
        name = str(environment.image)
        with self._changed:
            task_done = self._tasks[task_id] == 0
            image_done = self._images[name] == 0 and self._inside[name] == 1
        backend: object = self._backend
        if not isinstance(backend, LayeredBackend):
            return
        if task_done:
            with contextlib.suppress(SandboxError, InputError):  # it could not be made, then
                backend.drop_start(self._suite.start(task_id).digest)
        if image_done:
            backend.drop_environment(environment)


def _find(disk: Disk, task_id: str, name: str) -> str | None:
    try:
        return disk.shelf.find(name)
    except EnvironmentBuildError as error:
        raise EnvironmentBuildError(f"{task_id}: {error}") from error
