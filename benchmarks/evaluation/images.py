"""Images of the instances, built locally: the start tree as one commit at /testbed, over its packages."""

from __future__ import annotations

import hashlib
import io
import tarfile
from typing import TYPE_CHECKING

from docker.errors import ImageNotFound

from gym_code.gitrepo import IDENTITY, SECONDS
from gym_code.sandbox.build import build, pip_files
from gym_code.sandbox.lease import owner_tag
from gym_code.types import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from docker import APIClient

    from gym_code.types import File

BASE = "gym-code/base:3.11"
REPOSITORY, BUILT_BY = "gym-code-bench", "gym-code.bench"
"""The images' names, and the label that says which process built them."""
# SWE-bench's harness calls `patch` for what git refuses and `kill` when time is up: its images have both.
_PACKAGES = """\
ARG BASE
FROM ${BASE} AS packages
LABEL gym-code.kind=stage
COPY pip /pip
RUN python3 -m venv /opt/venv \\
    && PIP_CONFIG_FILE=/pip/pip.conf /opt/venv/bin/python -m pip install \\
      --quiet --no-cache-dir --no-input --disable-pip-version-check --requirement /pip/requirements.txt
FROM ${BASE}
RUN apt-get update -qq && apt-get install -y -qq --no-install-recommends patch procps \\
    && rm -rf /var/lib/apt/lists/*
COPY --from=packages /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
"""
_TREE = """\
ARG PACKAGES
FROM ${{PACKAGES}}
ADD tree.tar /testbed
WORKDIR /testbed
RUN echo /testbed/{import_from} > /opt/venv/lib/python3.11/site-packages/testbed.pth \\
    && git init --quiet -b main . && git add -Af \\
    && GIT_AUTHOR_DATE="{seconds} +0000" GIT_COMMITTER_DATE="{seconds} +0000" \\
      git -c user.name={name} -c user.email={email} commit --quiet -m Start
STOPSIGNAL {signal}
"""
_NAMED_AFTER = ("pip/requirements.txt", "tree.tar")
"""pip's settings are the machine's, and no part of a name."""
AT_ONCE, USUAL = "SIGKILL", "SIGTERM"
"""What `docker stop` sends first: SWE-bench's containers ignore the usual one and are waited for, 15 s."""


def instance_image(
    client: APIClient, tree: bytes, packages: tuple[str, ...], import_from: str, signal: str
) -> str:
    """The name of the image of a start tree (`packed`), built where the daemon lacks it."""
    parent = _there_or_built(client, "packages", {"BASE": BASE}, _PACKAGES, pip_files(packages))
    name, email = IDENTITY.rstrip(">").split(" <")
    recipe = _TREE.format(import_from=import_from, seconds=SECONDS, name=name, email=email, signal=signal)
    return _there_or_built(client, "instance", {"PACKAGES": parent}, recipe, {"tree.tar": tree})


def _there_or_built(
    client: APIClient, kind: str, arguments: dict[str, str], recipe: str, files: Mapping[str, bytes]
) -> str:
    told = {
        path: hashlib.sha256(content).hexdigest() for path, content in files.items() if path in _NAMED_AFTER
    }
    name = f"{REPOSITORY}/{kind}:{canonical_digest([recipe, arguments, told])[:20]}"
    try:
        client.inspect_image(name)
    except ImageNotFound:
        build(
            client,
            tag=name,
            dockerfile=recipe,
            files=files,
            arguments=arguments,
            labels={BUILT_BY: owner_tag()},
        )
    return name


def remove_images(client: APIClient) -> None:
    """Remove what this process built; what others built, and found again, stays."""
    mine = client.images(filters={"label": f"{BUILT_BY}={owner_tag()}"})
    names = [tag for image in mine for tag in image["RepoTags"] or () if tag.startswith(f"{REPOSITORY}/")]
    for name in sorted(names):  # instances come before the packages that they are built on
        client.remove_image(name, force=True)


def packed(files: Mapping[str, File]) -> bytes:
    """The tree as an archive; its bytes depend on nothing else. Everything belongs to root."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for path, file in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.mode, entry.mtime = 0o755 if file.executable else 0o644, SECONDS
            if file.link is not None:
                entry.type, entry.linkname = tarfile.SYMTYPE, file.link
                archive.addfile(entry)
            else:
                entry.size = len(file.content)
                archive.addfile(entry, io.BytesIO(file.content))
    return target.getvalue()
