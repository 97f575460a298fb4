"""Where the image of an instance can come from, in the order in which they are tried."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from gym_code.errors import EnvironmentBuildError
from gym_code.evaluate.images.fetch import ATTEMPTS, Failed, Watch, again, build, load, pull, with_tag
from gym_code.evaluate.images.shelves import image_id
from gym_code.sandbox.image import locked
from gym_code.sandbox.unpack import Archive, unpacked_archive
from gym_code.suite import DirectorySuite

if TYPE_CHECKING:
    from docker import APIClient

    from gym_code.sandbox.docker import Daemon
    from gym_code.sandbox.layout import Home
    from gym_code.task import Suite

DOCKERFILE = "Dockerfile"
How = Literal["none", "found", "loaded", "pulled", "built"]
Way = tuple[How, Callable[[], tuple[str, ...]]]
"""What will have happened, and what does it: gives the names that came along, or raises `Failed`."""


class Sources:
    """An archive laid ready, a registry, the task's own Dockerfile; without a daemon the first only."""

    def __init__(self, suite: Suite, archives: Path | None, daemon: Daemon | None, home: Home) -> None:
        self._suite, self._archives, self._daemon, self._home = suite, archives, daemon, home
        self._lock = threading.Lock()
        self._out_of_reach: set[str] = set()
        """Registries that gave nothing in any attempt: for their next images one attempt will do."""
        self._refused: dict[tuple[str, ...], str] = {}
        """Pulls and builds that fail however often they are tried, and why: a build may take an hour to."""

    def archive(self, task_id: str, name: str) -> Path | None:
        """The archive of an image: the one that the task names, or one of the directory of archives."""
        if name.endswith(".tar"):
            return Path(name)
        if self._archives is None:
            return None
        tagged = with_tag(name).replace("/", "_").replace(":", "_")
        places = [
            self._archives / f"{stem}.tar" for stem in (task_id, tagged, tagged.removesuffix("_latest"))
        ]
        return next((place for place in places if place.is_file()), None)

    def names(self, task_id: str, name: str) -> tuple[str, ...]:
        """The names that an image may come with, should its fetch be cut short: those new to the daemon."""
        own = () if name.endswith(".tar") else (with_tag(name),)
        if self._daemon is None or (archive := self.archive(task_id, name)) is None:
            return own
        try:
            with Archive(archive) as opened:
                others = [tag for tag in opened.tags if tag not in own]
        except EnvironmentBuildError:
            return own
        return (*own, *(tag for tag in others if image_id(self._daemon.client, tag) is None))

    def ways(self, task_id: str, name: str, watch: Watch) -> Iterator[Way]:
        """The ways to try. One that turns out not to be there says so when it is tried."""
        archive = self.archive(task_id, name)
        if self._daemon is None:
            yield "loaded", lambda: self._unpack(archive, name)
            return
        client = self._daemon.client
        if archive is not None:
            yield "loaded", lambda: self._load(client, archive, name)
        if not name.endswith(".tar"):
            yield "pulled", lambda: self._pull(name, watch)
            yield "built", lambda: self._build(task_id, name, watch)

    def _unpack(self, archive: Path | None, name: str) -> tuple[str, ...]:
        if archive is None:
            raise Failed("no Docker daemon answers, and there is no archive of it", passing=False)
        try:
            unpacked_archive(self._home, archive, name)
        except EnvironmentBuildError as error:
            raise Failed(str(error), passing=False) from error
        return ()

    def _load(self, client: APIClient, archive: Path, name: str) -> tuple[str, ...]:
        # Archives may bring the same names: two at a time would take each other's for somebody's.
        with locked(self._home.bases / "archives"):
            return load(client, name, archive)

    def _pull(self, name: str, watch: Watch) -> tuple[str, ...]:
        assert self._daemon is not None
        client = self._daemon.client
        first = name.partition("/")[0]
        registry = first if "/" in name and ("." in first or ":" in first or first == "localhost") else ""
        with self._lock:
            attempts = 1 if registry in self._out_of_reach else ATTEMPTS
        try:
            self._unless_refused(("pull", name), lambda: again(lambda: pull(client, name, watch), attempts))
        except Failed as failed:
            if failed.passing:
                with self._lock:
                    self._out_of_reach.add(registry)
            raise
        return (with_tag(name),)

    def _build(self, task_id: str, name: str, watch: Watch) -> tuple[str, ...]:
        assert self._daemon is not None
        client = self._daemon.client
        folder = self._suite.path / "tasks" / task_id if isinstance(self._suite, DirectorySuite) else None
        if folder is None or not (folder / DOCKERFILE).is_file():
            raise Failed("the task has no Dockerfile", passing=False)
        if not is_recipe(folder / DOCKERFILE, name):
            raise Failed("the task's Dockerfile says no more than the image's name", passing=False)
        recipe = (folder / DOCKERFILE).read_text(errors="replace")
        self._unless_refused(
            ("build", name, recipe), lambda: again(lambda: build(client, name, folder, watch))
        )
        return (with_tag(name),)

    def _unless_refused(self, way: tuple[str, ...], bring: Callable[[], None]) -> None:
        with self._lock:
            before = self._refused.get(way)
        if before is not None:
            raise Failed(before, passing=False)
        try:
            bring()
        except Failed as failed:
            if not failed.passing:
                with self._lock:
                    self._refused[way] = failed.problem
            raise


def is_recipe(dockerfile: Path, name: str) -> bool:
    """Whether a Dockerfile says more than `FROM` the image itself, as the import writes it."""
    rows = [line.split() for line in dockerfile.read_text(errors="replace").splitlines()]
    steps = [words for words in rows if words and not words[0].startswith("#")]
    return not (
        len(steps) == 1 and steps[0][0].upper() == "FROM" and with_tag(steps[0][-1]) == with_tag(name)
    )
