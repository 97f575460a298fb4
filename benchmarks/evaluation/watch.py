"""What a round takes of the disk while it runs, and which containers it leaves behind."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from gym_code.sandbox.dockerd import OWNER

if TYPE_CHECKING:
    from docker import APIClient

EVERY = 0.5
"""Seconds between two looks at the disk."""


@dataclass
class Watch:
    """Looks at the disk from another thread between entering and leaving. Sizes in bytes."""

    client: APIClient
    state: Path
    """A directory whose files belong to the round alone."""
    docker_peak: int = 0
    """The most that the file system of the daemon's data held above what it held in the beginning.
    Whatever else is written there meanwhile counts, too."""
    state_peak: int = 0
    """The most that the files below `state` took."""

    def __enter__(self) -> Self:
        self._root = str(self.client.info()["DockerRootDir"])
        self._before = _used(self._root)
        self._containers = set(_containers(self.client))
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.wait(EVERY):
            self.docker_peak = max(self.docker_peak, _used(self._root) - self._before)
            self.state_peak = max(self.state_peak, _size(self.state))

    def left(self, pid: int, images: set[str]) -> list[str]:
        """Containers that came since and are still there: of these images, or of this process of ours."""
        return [
            identity
            for identity, about in _containers(self.client).items()
            if identity not in self._containers
            and (about["Image"] in images or about["Labels"].get(OWNER, "").startswith(f"{pid}-"))
        ]


def _containers(client: APIClient) -> dict[str, dict[str, Any]]:
    return {each["Id"]: each for each in client.containers(all=True)}


def _used(path: str) -> int:
    found = os.statvfs(path)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder, onerror=None):
        for name in names:
            try:
                total += (Path(place) / name).lstat().st_blocks * 512
            except OSError:  # gone meanwhile
                continue
    return total
