"""Images as `docker save` writes them, and how one becomes a directory for the namespace backend.

    envs/1-image-<id>/rootfs            its layers over each other; owners and devices are dropped
    envs/1-image-<id>/gym-code.json     names, id and variables of the image

An image is outside data. No entry is followed through a link: what stands in the way of a directory is
replaced by one, and names that climb out are refused.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from gym_code.errors import EnvironmentBuildError, SandboxUnavailable
from gym_code.sandbox.bwrap import ROOTFS
from gym_code.sandbox.dockerd import connect, translated
from gym_code.sandbox.image import RECEIPT, RECIPE, building, locked
from gym_code.sandbox.layout import Home
from gym_code.sandbox.lease import owner_tag
from gym_code.types import Environment

if TYPE_CHECKING:
    from docker import APIClient

MOST_BYTES, MOST_ENTRIES = 64 << 30, 4_000_000
"""No image that is larger, or has more entries, is unpacked."""
MOUNT_POINTS = ("etc/hostname", "etc/hosts", "etc/resolv.conf")
"""Files that a box has its own of."""
_OURS = {"HOME", "HOSTNAME", "LOGNAME", "SHELL", "TMPDIR", "USER"}
_CONDA, _TESTBED = "/opt/miniconda3/bin", "/opt/miniconda3/envs/testbed/bin"
"""SWE-bench's images activate the second in the scripts that run tests."""
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"

Parts = tuple[str, ...]
"""A path below the root, by its components."""


def variables(rows: Iterable[str]) -> dict[str, str]:
    """The variables of an image's configuration (`NAME=value` rows), less those that are a box's own.

    An image with Conda has only its base on PATH; the environment of a SWE-bench instance goes before it.
    """
    pairs = (row.partition("=") for row in rows)
    found = {name: value for name, mark, value in pairs if mark and name not in _OURS}
    path = found.get("PATH", "").split(":")
    if _CONDA in path and _TESTBED not in path:
        found["PATH"] = ":".join([_TESTBED, *path])
    return found


def load_archive(client: APIClient, path: Path) -> str:
    """The id of an archive's image, loaded into the daemon if need be. Raises `EnvironmentBuildError`."""
    from docker.errors import ImageNotFound

    with Archive(path) as archive:
        wanted = archive.id
    with translated(f"load {path}"):
        try:
            client.inspect_image(wanted)
        except ImageNotFound:
            said = problem = ""
            with path.open("rb") as file:
                for event in client.load_image(file):
                    said += str(event.get("stream", ""))
                    problem = str(event.get("error", problem))
            if problem:
                raise EnvironmentBuildError(f"cannot load {path}: {problem}") from None
            name = said.partition("Loaded image")[2].partition(": ")[2].strip()
            # Where the daemon computes other ids, the name that it tells stands for the image.
            return name or wanted
    return wanted


def image_directory(home: Home, environment: Environment) -> Path:
    """The directory of an environment that is an image, unpacked from an archive (`*.tar`) or the daemon.

    Raises `EnvironmentBuildError`.
    """
    name = str(environment.image)
    if environment.packages:
        raise EnvironmentBuildError(
            f"the namespace backend installs no packages into an image ({name}): use the docker backend,"
            f" or put {', '.join(environment.packages)} into the image"
        )
    if name.endswith(".tar"):
        return unpacked_archive(home, Path(name), name)
    try:
        client = connect()
    except SandboxUnavailable as error:
        if found := unpacked(home, name):
            return found
        raise EnvironmentBuildError(
            f"the image {name} was never unpacked here, and {error}; or write it to a file"
            f" (docker save {name} -o image.tar) and name that"
        ) from error
    from gym_code.sandbox.images import named_image

    wanted = str(named_image(client, name)["Id"])
    final = image_place(home, wanted)
    if final.is_dir():
        os.utime(final)
        return final
    saved = final.with_name(f".part-{owner_tag()}-{final.name}.tar")  # reaped, should we be killed
    with locked(final.with_name(f"{final.name}.tar")):
        try:
            with translated(f"save the image {name}"), saved.open("wb") as file:
                for piece in client.get_image(wanted):
                    file.write(piece)
            with Archive(saved) as archive:
                return _place(home, archive, name, final)
        finally:
            saved.unlink(missing_ok=True)


def image_place(home: Home, image: str) -> Path:
    """Where the image of an id is unpacked."""
    return home.envs / f"{RECIPE}-image-{image.rpartition(':')[2][:32]}"


def unpacked(home: Home, name: str) -> Path | None:
    """What was unpacked last from an image of this name."""
    receipts = home.envs.glob(f"{RECIPE}-image-*/{RECEIPT}")
    for receipt in sorted(receipts, key=lambda path: path.stat().st_mtime, reverse=True):
        if name in _names(receipt):
            return receipt.parent
    return None


def _names(receipt: Path) -> list[str]:
    """The names under which an image was unpacked."""
    found = json.loads(receipt.read_text())
    names: list[str] = found.get("names") or [found["image"]]
    return names


def unpacked_archive(home: Home, path: Path, name: str) -> Path:
    """The directory of an archive's image, which is known by this name from now on.

    Raises `EnvironmentBuildError`.
    """
    with Archive(path) as archive:
        return _place(home, archive, name)


def _place(home: Home, archive: Archive, name: str, final: Path | None = None) -> Path:
    """Unpack an archive where it belongs, if it is not there yet."""
    final = final or image_place(home, archive.id)
    with locked(final):
        if not final.is_dir():
            with building(final) as part:
                archive.unpack(part / ROOTFS)
                _write_receipt(part, archive, [name])
        elif name not in (names := _names(final / RECEIPT)):
            _write_receipt(final, archive, [*names, name])
        os.utime(final / RECEIPT)
        os.utime(final)
    return final


def _write_receipt(folder: Path, archive: Archive, names: list[str]) -> None:
    receipt = {"image": names[0], "names": names, "id": archive.id, "env": archive.env}
    new = folder / f".{RECEIPT}"
    new.write_text(json.dumps(receipt, indent=1) + "\n")
    new.replace(folder / RECEIPT)


class Archive:
    """A file as `docker save` writes it, with one image in it. Raises `EnvironmentBuildError`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._tar = tarfile.open(path)  # noqa: SIM115 -- closed by __exit__
        except (OSError, tarfile.TarError) as error:
            raise EnvironmentBuildError(f"cannot read the image archive {path}: {error}") from error
        try:
            self._read()
        except BaseException:
            self._tar.close()
            raise

    def _read(self) -> None:
        images = self._json("manifest.json")
        if not isinstance(images, list) or len(images) != 1:
            count = len(images) if isinstance(images, list) else "no list of"
            raise self._bad(f"expected one image, found {count}")
        try:
            config = str(images[0]["Config"])
            self.layers = [str(name) for name in images[0]["Layers"]]
            self.tags = [str(name) for name in images[0].get("RepoTags") or ()]
            about = self._json(config)
            self.id = "sha256:" + Path(config).name.removesuffix(".json")
            self.env = variables((about.get("config") or {}).get("Env") or [])
            system, machine = about.get("os", "linux"), about.get("architecture", "")
        except (AttributeError, KeyError, TypeError) as error:
            raise self._bad(f"its manifest lacks {error}") from error
        here = _MACHINES.get(platform.machine(), platform.machine())
        if system != "linux" or machine not in ("", here):
            raise EnvironmentBuildError(
                f"{self.path} holds an image for {system}/{machine}; this is linux/{here}"
            )

    def __enter__(self) -> Archive:
        return self

    def __exit__(self, *exc: object) -> None:
        self._tar.close()

    def _bad(self, problem: str) -> EnvironmentBuildError:
        return EnvironmentBuildError(f"{self.path} is no archive of docker save: {problem}")

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self._open(name).read())
        except (ValueError, tarfile.TarError) as error:
            raise self._bad(f"{name}: {error}") from error

    def _open(self, name: str) -> IO[bytes]:
        """A member; a layer that several images share is a link to where it was written first."""
        try:
            member = self._tar.getmember(name)
            if member.issym():
                member = self._tar.getmember(
                    os.path.normpath(os.path.join(os.path.dirname(name), member.linkname))
                )
            file = self._tar.extractfile(member) if member.isreg() else None
        except (KeyError, tarfile.TarError) as error:
            raise self._bad(f"{name}: {error}") from error
        if file is None:
            raise self._bad(f"{name} is no file")
        return file

    def unpack(self, target: Path) -> None:
        """Write the image's files below `target`, which is made."""
        tree = Tree(target)
        try:
            for name in self.layers:
                with self._open(name) as file, tarfile.open(fileobj=file, mode="r|*") as layer:
                    tree.apply(layer)
            tree.settle()
        except (OSError, ValueError, tarfile.TarError) as error:
            raise EnvironmentBuildError(f"cannot unpack {self.path}: {error}") from error


class Tree:
    """A directory that layers are unpacked into, one after the other."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.modes: dict[Parts, tuple[int, float]] = {}
        """Modes and times of directories: set at the end, when nothing is written any more."""
        self.fresh: set[Parts] = set()
        """What the layer at hand has brought: its whiteouts do not mean that."""
        self.bytes = self.entries = 0
        root.mkdir()

    def apply(self, layer: tarfile.TarFile) -> None:
        """Put one layer over what is there."""
        self.fresh = set()
        for member in layer:
            self.entries, self.bytes = self.entries + 1, self.bytes + member.size
            if self.entries > MOST_ENTRIES or self.bytes > MOST_BYTES:
                raise EnvironmentBuildError(
                    f"the image is larger than {MOST_BYTES} bytes or {MOST_ENTRIES} entries"
                )
            parts = _parts(member.name)
            if not parts:
                continue
            if parts[-1] == _OPAQUE:
                self._hide(parts[:-1])
            elif parts[-1].startswith(_WHITEOUT):
                hidden = (*parts[:-1], parts[-1].removeprefix(_WHITEOUT))
                if hidden not in self.fresh and self._inside(hidden[:-1]):
                    self._remove(hidden)
            else:
                self._add(layer, member, parts)

    def _path(self, parts: Parts) -> Path:
        return self.root.joinpath(*parts)

    def _inside(self, parts: Parts) -> bool:
        """Whether this is a directory of ours, reached through no link."""
        return all(
            self._path(parts[:end]).is_dir() and not self._path(parts[:end]).is_symlink()
            for end in range(1, len(parts) + 1)
        )

    def _folder(self, parts: Parts) -> None:
        """Make a directory and those above it; what stands in the way goes."""
        for end in range(1, len(parts) + 1):
            above = parts[:end]
            path = self._path(above)
            if path.is_symlink() or not path.is_dir():
                self._remove(above)
                path.mkdir()
                self.modes[above] = (0o755, 0.0)
            self.fresh.add(above)

    def _remove(self, parts: Parts) -> None:
        path = self._path(parts)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def _hide(self, parts: Parts) -> None:
        """Forget what earlier layers have in a directory."""
        if self._inside(parts):
            for path in sorted(self._path(parts).iterdir()):
                child = (*parts, path.name)
                if child not in self.fresh:
                    self._remove(child)
                else:
                    self._hide(child)

    def _add(self, layer: tarfile.TarFile, member: tarfile.TarInfo, parts: Parts) -> None:
        self._folder(parts[:-1])
        path = self._path(parts)
        if member.isdir():
            self._folder(parts)
            self.modes[parts] = (member.mode & 0o1777 | 0o700, member.mtime)
            return
        if not (member.isreg() or member.issym() or member.islnk()):
            return  # devices and pipes: a box has its own /dev
        source = _parts(member.linkname) if member.islnk() else ()
        if source == parts:
            return
        self._remove(parts)
        self.fresh.add(parts)
        if member.issym():
            path.symlink_to(member.linkname)
        elif member.islnk():
            if not self._inside(source[:-1]) or not os.path.lexists(self._path(source)):
                raise EnvironmentBuildError(
                    f"{member.name} is a link to {member.linkname}, which is not there"
                )
            os.link(self._path(source), path, follow_symlinks=False)
        else:
            with path.open("xb") as file:
                content = layer.extractfile(member)
                assert content is not None
                shutil.copyfileobj(content, file, 1 << 20)
                os.fchmod(file.fileno(), member.mode & 0o777 | 0o400)
            os.utime(path, (member.mtime, member.mtime))

    def settle(self) -> None:
        """Add what boxes mount their own over, and set the modes of directories."""
        for name in MOUNT_POINTS:
            parts = _parts(name)
            self._folder(parts[:-1])
            self._remove(parts)
            self._path(parts).touch()
        for parts, (mode, time) in sorted(self.modes.items(), reverse=True):
            if self._inside(parts):
                self._path(parts).chmod(mode)
                os.utime(self._path(parts), (time, time))


def _parts(name: str) -> Parts:
    """The components of an entry's name. Raises `EnvironmentBuildError` for one that climbs out."""
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise EnvironmentBuildError(f"the image has an entry that climbs out of it: {name!r}")
    return parts
