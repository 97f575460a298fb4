"""The working tree that lies in an image, as the start tree of a task that came without its source.

Imported instances (docs/evaluation.md) name an image and no tree. What the image holds is read once, in
memory; after that its digest is known by the image's id (`starts/` in the state directory), and the store has
the layer.
"""

from __future__ import annotations

import functools
import tarfile
import tempfile
import threading
from pathlib import Path
from typing import IO, TYPE_CHECKING

from gym_code.errors import EnvironmentBuildError, SandboxUnavailable
from gym_code.sandbox.bwrap import ROOTFS
from gym_code.sandbox.dockerd import connect, labels, translated
from gym_code.sandbox.images import named_image
from gym_code.sandbox.layout import open_home
from gym_code.sandbox.unpack import image_directory
from gym_code.suite.tree import LEFTOVERS, read_tree
from gym_code.types import File, StartTree, canonical_digest, tree_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from docker import APIClient

    from gym_code.types import Environment

FORMAT = 1
"""Part of every key in `starts/`: raise it when the tree that is read from an image changes."""


def image_start(
    environment: Environment,
    workdir: str,
    prepare: Callable[[Mapping[str, File]], Mapping[str, File]],
    key: str,
) -> StartTree:
    """The start tree in an image: what lies at `workdir`, less what tools leave behind, after `prepare`.

    key: names what `prepare` does; for one image and key the tree is always the same. The image is pulled or
    loaded if need be; without a daemon an archive (`*.tar`) is unpacked. Raises `EnvironmentBuildError`,
    `SandboxError`.
    """
    identity, read = _opened(environment, workdir)
    made, making = functools.cache(lambda: prepare(read())), threading.Lock()

    def tree() -> Mapping[str, File]:
        with making:  # Asked for by the store and by every grading, of many threads.
            return made()

    known = open_home().root / "starts" / canonical_digest([FORMAT, identity, workdir, key])
    if known.is_file():
        return StartTree(digest=known.read_text(), files=tree)
    digest = tree_digest(tree())
    known.parent.mkdir(exist_ok=True)
    with tempfile.NamedTemporaryFile("w", dir=known.parent, delete=False) as file:
        file.write(digest)
    Path(file.name).replace(known)
    return StartTree(digest=digest, files=tree)


def _opened(environment: Environment, workdir: str) -> tuple[str, Callable[[], dict[str, File]]]:
    """The image's identity, and how its tree is read."""
    try:
        client = connect()
    except SandboxUnavailable:
        folder = image_directory(open_home(), environment)
        return folder.name, lambda: read_tree(folder / ROOTFS / workdir.lstrip("/"))
    image = str(named_image(client, str(environment.image))["Id"])
    return image, lambda: _from_container(client, image, workdir)


def _from_container(client: APIClient, image: str, workdir: str) -> dict[str, File]:
    """The tree of a container that is never started."""
    what = f"read {workdir} of the image {image}"
    with translated(what):
        made = client.create_container(image, command=["true"], labels=labels("checkout"))
    try:
        with translated(what):
            pieces, _ = client.get_archive(made["Id"], workdir)
            with tempfile.TemporaryFile() as file:
                file.writelines(pieces)
                file.seek(0)
                return _files(file, what)
    except tarfile.TarError as error:
        raise EnvironmentBuildError(f"cannot {what}: {error}") from error
    finally:
        with translated(f"remove the container that was made to {what}"):
            client.remove_container(made["Id"], v=True, force=True)


def _files(stream: IO[bytes], what: str) -> dict[str, File]:
    """The files of an archive whose entries lie in one directory, by their path in it."""
    files: dict[str, File] = {}
    with tarfile.open(fileobj=stream, mode="r:") as archive:
        for member in archive:
            path = member.name.partition("/")[2]
            parts = path.split("/")
            if member.isdir() or LEFTOVERS.intersection(parts) or path.endswith((".pyc", ".pyo")):
                continue
            if member.issym():
                files[path] = File(link=member.linkname)
            elif member.islnk() and (first := member.linkname.partition("/")[2]) in files:
                files[path] = files[first]
            elif member.isreg() and (content := archive.extractfile(member)) is not None:
                files[path] = File(content=content.read(), executable=bool(member.mode & 0o100))
            else:
                raise EnvironmentBuildError(f"cannot {what}: {path} is no file, directory or link")
    if not files:
        raise EnvironmentBuildError(f"cannot {what}: there is no file")
    return dict(sorted(files.items()))
