"""Where images of instances lie: on a Docker daemon, or unpacked in the state directory."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from gym_code.sandbox.bwrap import ROOTFS
from gym_code.sandbox.dockerd import translated
from gym_code.sandbox.image import RECEIPT
from gym_code.sandbox.images import PARENT
from gym_code.sandbox.lease import hold, remove_unused
from gym_code.sandbox.unpack import Archive, image_place, unpacked
from gym_code.types import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from docker import APIClient

    from gym_code.evaluate.images.ledger import Entry
    from gym_code.sandbox.docker import Daemon
    from gym_code.sandbox.layout import Home

_LOCAL = "http+docker://localhost"
"""How docker-py names a daemon behind a socket of this machine."""


class Shelf(Protocol):
    """Where images lie."""

    name: str

    def find(self, name: str) -> str | None:
        """The id of an image that tasks name so, or None."""

    def ids(self) -> set[str]:
        """The ids of all images."""

    def remove(self, entry: Entry) -> bool:
        """Remove an image and the names that came with it; False where something uses it."""

    def taken(self, entries: Iterable[Entry]) -> int:
        """Bytes that go when all of these go: layers that other images share do not count."""

    def free(self) -> tuple[int, int, str] | None:
        """Bytes free and bytes in all where images are put, and that place; None where nobody can know."""


class Unpacked:
    """Images unpacked into the state directory, for the namespace backend where no daemon answers."""

    name = "unpacked"

    def __init__(self, home: Home) -> None:
        self._home = home

    def find(self, name: str) -> str | None:
        """The id of an image that is unpacked. Raises `EnvironmentBuildError` for a bad archive."""
        if name.endswith(".tar"):
            with Archive(Path(name)) as archive:
                return archive.id if image_place(self._home, archive.id).is_dir() else None
        place = unpacked(self._home, name)
        return None if place is None else str(json.loads((place / RECEIPT).read_text())["id"])

    def ids(self) -> set[str]:
        """The ids of all that is unpacked."""
        receipts = self._home.envs.glob(f"{image_place(self._home, '').name}*/{RECEIPT}")
        return {str(json.loads(receipt.read_text())["id"]) for receipt in receipts}

    def remove(self, entry: Entry) -> bool:
        """Remove the directory."""
        return remove_unpacked(self._home, entry.image)

    def taken(self, entries: Iterable[Entry]) -> int:
        """The sizes of the directories."""
        return sum(unpacked_bytes(self._home, image) for image in {entry.image for entry in entries})

    def free(self) -> tuple[int, int, str] | None:
        """Of the state directory."""
        return _free([str(self._home.root)])


class OnDaemon:
    """Images of a Docker daemon, and what the namespace backend has unpacked from them."""

    def __init__(self, daemon: Daemon, home: Home) -> None:
        self._daemon, self._home = daemon, home
        client = daemon.client
        with translated("look at the Docker daemon"):
            about = client.info()
        self.name = str(about.get("ID") or client.base_url)
        root = str(about.get("DockerRootDir", ""))
        local = client.base_url == _LOCAL and Path(root).is_dir()
        self._places = [str(home.root), *([root] if local else [])]
        self._layers: dict[str, dict[str, int]] = {}

    def find(self, name: str) -> str | None:
        """The id of an image on the daemon. Raises `EnvironmentBuildError` for a bad archive."""
        if name.endswith(".tar"):
            with Archive(Path(name)) as archive:
                name = archive.id
        return image_id(self._daemon.client, name)

    def ids(self) -> set[str]:
        """The ids of all images, intermediate ones too."""
        with translated("list images"):
            return {row["Id"] for row in self._daemon.client.images(all=True)}

    def remove(self, entry: Entry) -> bool:
        """Remove what we have built on it, the names that came with it, and it if it has no other names."""
        client = self._daemon.client
        there = {tag: found for tag in entry.tags if (found := image_id(client, tag)) is not None}
        image = entry.image or next(iter(there.values()), "")
        names = [tag for tag, found in there.items() if found == image]
        if not image or not remove_unpacked(self._home, image):
            return not image
        family = [each for each in self._family(self._rows(), {image}) if each != image]
        if not all(remove_image(client, each) for each in [*reversed(family), *names]):
            return False
        left = [row for row in self._rows() if row["Id"] == image and not _names(row)]
        return all(remove_image(client, row["Id"]) for row in left)

    def taken(self, entries: Iterable[Entry]) -> int:
        """The layers that only these images have, and their unpacked copies."""
        ours, rows = {entry.image for entry in entries if entry.image}, self._rows()
        family = set(self._family(rows, ours))
        layers: dict[str, int] = {}
        for row in rows:
            if row["Id"] in family:
                layers |= self._layers_of(row["Id"])
        for row in rows:
            if row["Id"] not in family:
                for key in self._layers_of(row["Id"]):
                    layers.pop(key, None)
        return sum(layers.values()) + sum(unpacked_bytes(self._home, image) for image in ours)

    def free(self) -> tuple[int, int, str] | None:
        """Of the daemon's disk, if it is one of this machine, or the state directory's, if that has less."""
        return _free(self._places)

    def _rows(self) -> list[dict[str, Any]]:
        with translated("list images"):
            rows: list[dict[str, Any]] = self._daemon.client.images()
        return rows

    def _family(self, rows: Sequence[dict[str, Any]], images: set[str]) -> list[str]:
        """Images and what we have built on them, parents first."""
        found, level = list[str](), set(images)
        while level:
            found += sorted(level)
            level = {row["Id"] for row in rows if (row["Labels"] or {}).get(PARENT) in level} - set(found)
        return found

    def _layers_of(self, image: str) -> dict[str, int]:
        """Bytes of each layer, by a key that is the same in all images that share it.

        The daemon tells sizes only with the steps of an image's history: a layer is the same where its
        content is and all steps up to it are.
        """
        from docker.errors import ImageNotFound

        if image not in self._layers:
            client, found, key = self._daemon.client, dict[str, int](), ""
            with translated(f"look at the image {image}"):
                try:
                    contents = list(client.inspect_image(image)["RootFS"].get("Layers") or ())
                    steps = client.history(image)
                except ImageNotFound:  # removed since it was listed
                    return {}
            for step in reversed(steps):
                content = contents.pop(0) if step["Size"] and contents else ""
                key = canonical_digest([key, step["Created"], step["CreatedBy"], content])
                found[key] = step["Size"]
            self._layers[image] = found
        return self._layers[image]


def _names(row: dict[str, Any]) -> list[str]:
    names = [*(row["RepoTags"] or ()), *(row["RepoDigests"] or ())]
    return [name for name in names if not name.startswith("<none>")]


def image_id(client: APIClient, name: str) -> str | None:
    """The id of an image on a daemon, or None."""
    from docker.errors import ImageNotFound

    with translated(f"look for the image {name}"):
        try:
            return str(client.inspect_image(name)["Id"])
        except ImageNotFound:
            return None


def remove_image(client: APIClient, name: str) -> bool:
    """Remove an image or one of its names; False where a container uses it or an image is built on it."""
    from docker.errors import APIError

    with translated(f"remove the image {name}"):
        try:
            client.remove_image(name)
        except APIError as error:
            if error.status_code == 409:
                return False
            if error.status_code != 404:
                raise
    return True


def remove_unpacked(home: Home, image: str) -> bool:
    """Remove the directory of an image, if there is one; False where a box of any process uses it."""
    place = image_place(home, image)
    if not image or not place.is_dir():
        return True
    lock = place.with_name(f"{place.name}.use")
    os.close(hold(lock))  # there is none where no box was ever opened
    return remove_unused(lock)


def unpacked_bytes(home: Home, image: str) -> int:
    """What the directory of an image takes on disk."""
    root = image_place(home, image) / ROOTFS
    if not image or not root.is_dir():
        return 0
    paths = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
    return sum(path.stat(follow_symlinks=False).st_blocks * 512 for path in paths)


def _free(places: Sequence[str]) -> tuple[int, int, str]:
    usage = {place: shutil.disk_usage(place) for place in places}
    least = min(usage, key=lambda place: usage[place].free)
    return usage[least].free, usage[least].total, least
