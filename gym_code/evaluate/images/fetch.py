"""The ways an image comes to a daemon: out of an archive, from a registry, from its Dockerfile."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gym_code.errors import EnvironmentBuildError, SandboxError, SandboxUnavailable
from gym_code.evaluate.images.shelves import image_id, remove_image
from gym_code.sandbox.build import BUILD_SECONDS, ERROR_LINES, proxies
from gym_code.sandbox.dockerd import KIND, translated
from gym_code.sandbox.unpack import Archive, load_archive

if TYPE_CHECKING:
    from pathlib import Path

    from docker import APIClient

Watch = Callable[[str, int], None]
"""Is told what happens, and how many bytes are known to be still on their way; may raise to end it."""
INSTANCE = "instance"
"""`gym-code.kind` of an image that was built from a task's Dockerfile."""
ATTEMPTS, PAUSE_SECONDS = 3, 2.0
"""What may be a fault of the moment is tried so often; the pause doubles."""
PULL_SECONDS = 3600.0
"""A pull that takes longer is given up."""


@dataclass(slots=True)
class Failed(Exception):
    """An image did not come, and why."""

    problem: str
    passing: bool
    """Whether it may be a fault of the moment."""


def again(what: Callable[[], None], attempts: int = ATTEMPTS) -> None:
    """Do something up to so many times while it fails in a way that may pass. Raises `Failed`."""
    for attempt in range(1, attempts):
        try:
            what()
        except Failed as failed:
            if not failed.passing:
                raise
            time.sleep(PAUSE_SECONDS * 2 ** (attempt - 1))
        else:
            return
    what()


def with_tag(name: str) -> str:
    """A name with its tag: without one the daemon would pull all."""
    last = name.rpartition("/")[2]
    return name if ":" in last or "@" in last else f"{name}:latest"


def pull(client: APIClient, name: str, watch: Watch) -> None:
    """Pull an image. Raises `Failed`, and `SandboxUnavailable` where the daemon is gone."""
    deadline = time.monotonic() + PULL_SECONDS
    layers: dict[str, tuple[int, int]] = {}

    def follow(event: dict[str, Any]) -> None:
        detail = event.get("progressDetail") or {}
        if event.get("status") == "Downloading" and "total" in detail:
            layers[event["id"]] = (int(detail["current"]), int(detail["total"]))
        elif event.get("status") in ("Download complete", "Pull complete") and event.get("id") in layers:
            layers[event["id"]] = (layers[event["id"]][1],) * 2
        have, total = (sum(pair[index] for pair in layers.values()) for index in (0, 1))
        watch(f"pulling {have / 1e6:,.0f} of {total / 1e6:,.0f} MB", total - have)
        if time.monotonic() > deadline:
            raise Failed(f"took longer than {PULL_SECONDS:.0f} s", passing=False)

    _events(f"pull {name}", lambda: client.pull(with_tag(name), stream=True, decode=True), follow)


def build(client: APIClient, name: str, folder: Path, watch: Watch) -> None:
    """Build an image from the Dockerfile of a task's directory. Raises like `pull`.

    RUN steps have the host's network, as in all our builds. What a build that fails has made is removed.
    """
    before = _all_ids(client)
    lines: list[str] = []

    def follow(event: dict[str, Any]) -> None:
        for line in str(event.get("stream", "")).splitlines():
            if line.strip():
                lines.append(line.rstrip())
        watch(lines[-1] if lines else "building", 0)

    try:
        _events(
            f"build {name}",
            lambda: client.build(
                path=str(folder),
                tag=with_tag(name),
                buildargs=proxies(),
                network_mode="host",
                labels={KIND: INSTANCE},
                rm=True,
                forcerm=True,
                timeout=BUILD_SECONDS,
                decode=True,
            ),
            follow,
        )
    except BaseException as error:
        with contextlib.suppress(SandboxError):
            _remove_steps(client, lines, before)
        if isinstance(error, Failed):
            said = [line for line in lines if not line.startswith(" --->")][-ERROR_LINES:]
            raise Failed("\n".join([error.problem, *said]), passing=error.passing) from error
        raise


def load(client: APIClient, name: str, path: Path) -> tuple[str, ...]:
    """Load an archive as the image of a name, unless that is the archive's; the names that it has then.

    An archive brings names of its own: one that the daemon has already keeps its image. Raises `Failed`.
    """
    try:
        with Archive(path) as archive:
            before = {tag: image_id(client, tag) for tag in archive.tags}
        image = image_id(client, load_archive(client, path))
    except EnvironmentBuildError as error:
        raise Failed(str(error), passing=False) from error
    wanted = None if name.endswith(".tar") else with_tag(name)
    with translated(f"name the image of {path}"):
        if wanted is not None:
            client.tag(image, *_parted(wanted))
        for tag, old in before.items():
            if old is not None:
                client.tag(old, *_parted(tag))
            elif wanted not in (None, tag):
                client.remove_image(tag)
    return (wanted,) if wanted else tuple(tag for tag, old in before.items() if old is None)


def _parted(name: str) -> tuple[str, str]:
    """Repository and tag."""
    repository, _, tag = name.rpartition(":")
    return repository, tag


def _events(
    what: str,
    begin: Callable[[], Generator[dict[str, Any], None, None]],
    follow: Callable[[dict[str, Any]], None],
) -> None:
    """Follow what a daemon tells of its work. Raises `Failed` for an error of any kind.

    What a registry or a build cannot do is told by a status of the 400s, or by a command's exit code: such an
    error will not pass.
    """
    from docker.errors import APIError

    try:
        with translated(what):
            try:
                # A stream that is closed before its end ends the daemon's work.
                with contextlib.closing(begin()) as stream:
                    for event in stream:
                        if "error" in event:
                            code = (event.get("errorDetail") or {}).get("code")
                            raise Failed(" ".join(str(event["error"]).split()), passing=code is None)
                        follow(event)
            except APIError as error:
                status = error.status_code or 500
                problem = " ".join(str(error.explanation or error).split())
                raise Failed(problem, passing=status >= 500 or status == 429) from error
    except (SandboxUnavailable, EnvironmentBuildError):
        raise
    except SandboxError as error:
        raise Failed(str(error), passing=True) from error


def _all_ids(client: APIClient) -> set[str]:
    with translated("list images"):
        return {row["Id"] for row in client.images(all=True)}


def _remove_steps(client: APIClient, lines: list[str], before: set[str]) -> None:
    """Remove the images that the steps of a failed build have made: those it told of and that are new."""
    told = [
        line.removeprefix(" ---> ")
        for line, above in zip(lines, ["", *lines], strict=False)
        if line.startswith(" ---> ") and "Using cache" not in above
    ]
    new = _all_ids(client) - before
    for short in reversed(told):
        for image in sorted(new):
            if image.removeprefix("sha256:").startswith(short):
                remove_image(client, image)
