"""Images as `docker save` writes them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from gym_code.errors import EnvironmentBuildError
from gym_code.sandbox.dockerd import translated

if TYPE_CHECKING:
    from docker import APIClient


def variables(rows: Iterable[str]) -> dict[str, str]:
    """The environment variables of an image's configuration (`NAME=value` rows)."""
    return dict(row.split("=", 1) for row in rows if "=" in row)


def load_archive(client: APIClient, path: Path) -> str:
    """Load an archive into the daemon; the name or id of its image. Raises `EnvironmentBuildError`."""
    try:
        with path.open("rb") as file, translated(f"load {path}"):
            said = "".join(str(event.get("stream", "")) for event in client.load_image(file))
    except OSError as error:
        raise EnvironmentBuildError(f"cannot read the image archive {path}: {error.strerror}") from error
    name = said.partition("Loaded image")[2].partition(": ")[2].strip()
    if not name:
        raise EnvironmentBuildError(f"{path} holds no image: the daemon said {said.strip()!r}")
    return name
