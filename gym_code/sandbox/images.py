"""Images on a Docker daemon: environments, and the guest runtime that every box mounts.

    base  ──►  prepared  ──►  env        python:X.Y-slim or gym-code/base:X.Y; what all share; pinned packages
      └────►  guest                      FROM scratch: an interpreter of its own, supervisor and keeper

Every image is named after the content hash of what it is made from, so it is found again without a build, and
carries a label `gym-code.kind`: `list_images` and `gc_images` see nothing else.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gym_code.errors import EnvironmentBuildError
from gym_code.sandbox import runtime
from gym_code.sandbox.build import Progress, build, pip_files, recipe
from gym_code.sandbox.bwrap import GIT_CONFIG
from gym_code.sandbox.dockerd import KIND, translated
from gym_code.sandbox.image import locked
from gym_code.sandbox.layout import open_home
from gym_code.sandbox.unpack import load_archive, variables
from gym_code.types import Environment, canonical_digest

if TYPE_CHECKING:
    from docker import APIClient

BASE, PREPARED, ENV, GUEST = "base", "prepared", "env", "guest"
"""Kinds: the value of the label, and the last part of `gym-code/<kind>:<tag>`."""
PARENT, MADE_FROM = "gym-code.parent", "gym-code.made-from"
"""Labels: the id of the image this one was built on; its definition in JSON."""
_OLDEST_GUEST = (3, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvironmentImage:
    """An image that boxes of an environment are made from."""

    id: str
    """`sha256:...`"""
    name: str
    env: Mapping[str, str] = field(default_factory=dict)
    """What the image itself sets for every command (nothing where it is built from a Python version)."""


def environment_image(
    client: APIClient, environment: Environment, progress: Progress | None = None
) -> EnvironmentImage:
    """The image of an environment, pulled or built if the daemon lacks it.

    Raises `EnvironmentBuildError` with what failed, `SandboxUnavailable` when the daemon is gone.
    """
    if environment.image is None:
        parent, own = base_image(client, environment.python, progress), dict[str, str]()
    else:
        parent = named_image(client, environment.image, progress)
        own = variables(parent["Config"]["Env"] or [])
        if not environment.packages:
            return EnvironmentImage(id=parent["Id"], name=environment.image, env=own)
        own["PATH"] = f"/opt/env/bin:{own['PATH']}" if "PATH" in own else "/opt/env/bin:/usr/bin:/bin"
    definition = {
        "python": environment.python,
        "packages": list(environment.packages),
        "image": environment.image,
    }
    prepared = _made(
        client,
        PREPARED,
        parent["Id"],
        recipe("prepared.Dockerfile"),
        {"etc/gitconfig": GIT_CONFIG.encode()},
        {"python": environment.python, "image": environment.image},
        progress,
    )
    image = prepared
    if environment.packages:
        text = recipe("environment.Dockerfile")
        image = _made(client, ENV, prepared["Id"], text, environment.packages, definition, progress)
    return EnvironmentImage(id=image["Id"], name=image["RepoTags"][0], env=own)


def guest_image(client: APIClient, progress: Progress | None = None) -> str:
    """The name of the image whose /gym-code holds the guest runtime of this version, built if need be.

    Raises `EnvironmentBuildError` with what failed.
    """
    base = _guest_base(client, progress)
    root = Path(runtime.__file__).resolve().parents[2]
    names = ("gym_code/sandbox/runtime.py", *runtime.sources(root))
    files = {name: (root / name).read_bytes() for name in names}
    image = _made(client, GUEST, base["Id"], recipe("guest.Dockerfile"), files, {}, progress)
    return str(image["RepoTags"][0])


def _made(
    client: APIClient,
    kind: str,
    parent: str,
    text: str,
    content: Mapping[str, bytes] | tuple[str, ...],
    definition: Mapping[str, object],
    progress: Progress | None,
) -> dict[str, Any]:
    """The image of a recipe over a parent and its content (files, or packages for pip), built if need be."""
    told = [text, parent, _digest(content) if isinstance(content, Mapping) else list(content)]
    name = f"gym-code/{kind}:{canonical_digest(told)[:24]}"
    if found := _find(client, name):
        _touch(client, name)
        return found
    home = open_home()
    with locked(home.bases / name.replace("/", "_").replace(":", "_")):
        if found := _find(client, name):  # another process was faster
            return found
        build(
            client,
            tag=name,
            dockerfile=text,
            files=content if isinstance(content, Mapping) else pip_files(content),
            arguments={"PREPARED" if kind == ENV else "BASE": parent},
            labels={KIND: kind, PARENT: parent, MADE_FROM: json.dumps(definition)},
            progress=progress,
        )
    found = _find(client, name)
    if found is None:
        raise EnvironmentBuildError(f"the daemon built {name} and does not have it: it was removed meanwhile")
    return found


def _digest(files: Mapping[str, bytes]) -> str:
    sha = hashlib.sha256()
    for name in sorted(files):
        sha.update(f"{name} {len(files[name])} ".encode() + files[name])
    return sha.hexdigest()


def _find(client: APIClient, name: str) -> dict[str, Any] | None:
    """What the daemon knows of an image, or None. The name asked for comes first among its names."""
    from docker.errors import ImageNotFound

    with translated(f"look for the image {name}"):
        try:
            found: dict[str, Any] = client.inspect_image(name)
        except ImageNotFound:
            return None
    others = [other for other in found.get("RepoTags") or [] if other != name]
    return {**found, "RepoTags": [name, *others]}


def _touch(client: APIClient, name: str) -> None:
    """Note that an image is used: naming it again sets its `LastTagTime`, for all who share the daemon."""
    from docker.errors import APIError

    repository, _, tag = name.rpartition(":")
    with translated(f"name the image {name}"), contextlib.suppress(APIError):
        client.tag(name, repository, tag)


def base_image(client: APIClient, python: str, progress: Progress | None = None) -> dict[str, Any]:
    """The image with a bare Python X.Y: ours, else the official one, pulled if need be."""
    ours, official = f"gym-code/{BASE}:{python}", f"python:{python}-slim"
    found = _find(client, ours) or _find(client, official)
    if found is None:
        if problem := _pull(client, official, progress):
            raise EnvironmentBuildError(
                f"no base image for Python {python}: {ours} is not on the daemon, and {official} cannot be"
                f" pulled ({problem}); run: make docker-base"
            )
        found = _find(client, official)
        if found is None:
            raise EnvironmentBuildError(f"{official} was pulled and is not there")
    elif found["RepoTags"][0] == ours:
        _touch(client, ours)
    return found


def _guest_base(client: APIClient, progress: Progress | None) -> dict[str, Any]:
    """A base to take the runtime's interpreter from: of our own version, else any that is new enough."""
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    try:
        return base_image(client, own, progress)
    except EnvironmentBuildError:
        for image in sorted(_bases(client), reverse=True):
            if image >= _OLDEST_GUEST:
                return base_image(client, f"{image[0]}.{image[1]}", progress)
        raise


def _bases(client: APIClient) -> Iterator[tuple[int, int]]:
    """The Python versions of the bases that are there."""
    with translated("list the base images"):
        rows = client.images(name=f"gym-code/{BASE}")
    for tag in (tag for row in rows for tag in row.get("RepoTags") or []):
        major, _, minor = tag.rpartition(":")[2].partition(".")
        if major.isdigit() and minor.isdigit():
            yield int(major), int(minor)


def named_image(client: APIClient, name: str, progress: Progress | None = None) -> dict[str, Any]:
    """An image that a task names: on the daemon, in an archive of `docker save`, or in a registry."""
    if name.endswith(".tar"):
        name = load_archive(client, Path(name))
    found = _find(client, name)
    if found is None:
        if problem := _pull(client, name, progress):
            raise EnvironmentBuildError(
                f"the image {name} is not on the daemon and cannot be pulled: {problem}"
            )
        found = _find(client, name)
    if found is None:
        raise EnvironmentBuildError(f"the image {name} was pulled and is not there")
    return found


def _pull(client: APIClient, name: str, progress: Progress | None) -> str:
    """Pull an image; the problem in words where that fails, else nothing."""
    from docker.errors import APIError

    problem, last = "", ""
    # Without a tag the daemon would pull all of them.
    last_part = name.rpartition("/")[2]
    wanted = name if ":" in last_part or "@" in last_part else f"{name}:latest"
    with translated(f"pull {wanted}"):
        try:
            for event in client.pull(wanted, stream=True, decode=True):
                problem = str(event.get("error", problem))
                status = str(event.get("status", ""))
                if progress and status and status != last:
                    progress(f"{wanted}: {status}")
                last = status
        except APIError as error:
            return " ".join(str(error.explanation or error).split())
    return " ".join(problem.split())
