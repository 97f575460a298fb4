"""Which of our images a daemon holds, and how they are kept under a cap."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from gym_code.sandbox.dockerd import KIND, translated
from gym_code.sandbox.images import BASE, ENV, GUEST, MADE_FROM, PARENT, PREPARED

if TYPE_CHECKING:
    from docker import APIClient

CAP_BYTES = 20 << 30
"""What our images may take on a daemon where nobody says otherwise."""
SPARED_SECONDS = 3600.0
"""An image that was used so lately may be about to be used again: only `gc --all` removes it."""
_ORDER = (ENV, PREPARED, GUEST, BASE)
"""What is built on others goes before what it is built on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """One of our images on a daemon."""

    name: str
    id: str
    kind: str
    bytes: int
    """What it takes beyond the image that it was built on."""
    last_used: float
    """Seconds since the epoch: when it was last asked for."""
    in_use: bool
    """Whether a container was made from it, running or not."""
    parent: str
    """The id of the image it is built on; empty where it stands alone."""
    made_from: str
    """For people: Python version and packages, or the image that a task names."""


def list_images(client: APIClient) -> tuple[ImageInfo, ...]:
    """Our images, by kind, the one used last first. Raises `SandboxError`."""
    from docker.errors import ImageNotFound

    with translated("list images"):
        rows = client.images(filters={"label": KIND})
        used = {row["ImageID"] for row in client.containers(all=True)}
        sizes = {row["Id"]: row["Size"] for row in rows}
        found = []
        for row in rows:
            if row["Labels"].get(KIND) not in _ORDER:
                continue
            parent = row["Labels"].get(PARENT, "")
            try:
                about = client.inspect_image(row["Id"])
                if parent and parent not in sizes:
                    sizes[parent] = client.inspect_image(parent)["Size"]
            except ImageNotFound:  # removed since it was listed
                about = {}
            found += [
                _info(row, name, about, sizes, in_use=row["Id"] in used)
                for name in row["RepoTags"] or ()
                if name.startswith("gym-code/")
            ]
    return tuple(sorted(found, key=lambda info: (-_ORDER.index(info.kind), -info.last_used, info.name)))


def _info(
    row: dict[str, Any], name: str, about: dict[str, Any], sizes: dict[str, int], *, in_use: bool
) -> ImageInfo:
    kind, parent = row["Labels"][KIND], row["Labels"].get(PARENT, "")
    if kind == GUEST:
        parent = ""  # its layers are its own
    tagged = _seconds(about.get("Metadata", {}).get("LastTagTime", ""))
    return ImageInfo(
        name=name,
        id=row["Id"],
        kind=kind,
        bytes=max(0, row["Size"] - sizes.get(parent, 0)),
        last_used=max(tagged, float(row["Created"])),
        in_use=in_use,
        parent=parent,
        made_from=_told(json.loads(row["Labels"].get(MADE_FROM, "{}"))),
    )


def _seconds(text: str) -> float:
    """A time as the daemon writes it; 0 for none (the year 1), and where it keeps none (podman)."""
    if not text or text.startswith("0001-"):
        return 0.0
    # Nanoseconds, which datetime does not read.
    head, _, rest = text.replace("Z", "+00:00").partition(".")
    zone = rest.lstrip("0123456789") if rest else ""
    return datetime.fromisoformat(head + zone).timestamp()


def _told(definition: dict[str, Any]) -> str:
    """A definition in words; nothing for a base and for the guest runtime."""
    if not definition:
        return ""
    base = definition.get("image") or f"python {definition.get('python', '?')}"
    return ", ".join([base, *definition.get("packages", ())])


def total_bytes(images: Iterable[ImageInfo]) -> int:
    """What images take together: a layer that several share counts once."""
    return sum({info.id: info.bytes for info in images}.values())


def gc_images(
    client: APIClient,
    *,
    cap_bytes: int = CAP_BYTES,
    older_than: float = SPARED_SECONDS,
    bases: bool = False,
    dry_run: bool = False,
) -> tuple[ImageInfo, ...]:
    """Remove guest runtimes of other versions, and what was used longest ago until the rest is under the cap.

    Kept in any case: what a container uses or another image that is kept is built on, what was used within
    `older_than` seconds, and the bases unless `bases`. Returns what was removed, or would be. Raises
    `SandboxError`.
    """
    kept = list(list_images(client))
    removed: list[ImageInfo] = []
    while info := next_to_go(kept, cap_bytes=cap_bytes, before=time.time() - older_than, bases=bases):
        kept.remove(info)
        if dry_run or _remove(client, info):
            removed.append(info)
        else:
            kept.append(replace(info, in_use=True))
    return tuple(removed)


def next_to_go(
    images: Sequence[ImageInfo], *, cap_bytes: int, before: float, bases: bool
) -> ImageInfo | None:
    """The image to remove first, or None when nothing need go or may go.

    before: seconds since the epoch; what was used later stays.
    """
    # Every keeper that starts asks for its guest runtime: the one asked for last is this version's.
    guests = sorted((info for info in images if info.kind == GUEST), key=lambda info: info.last_used)
    old_guests = {info.name for info in guests[:-1]}
    over = total_bytes(images) > cap_bytes
    below = {info.parent for info in images}
    free = [
        info
        for info in images
        if (over or info.name in old_guests)
        and info.last_used <= before
        and (bases or info.kind != BASE)
        and not info.in_use
        and info.id not in below
    ]
    return min(free, key=lambda info: (info.name not in old_guests, info.last_used, info.name), default=None)


def _remove(client: APIClient, info: ImageInfo) -> bool:
    """Remove an image; False where a container has come to use it meanwhile."""
    from docker.errors import APIError

    with translated(f"remove the image {info.name}"):
        try:
            client.remove_image(info.name)
        except APIError as error:
            if error.status_code == 409:
                return False
            if error.status_code != 404:
                raise
    return True
