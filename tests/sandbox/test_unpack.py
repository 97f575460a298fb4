"""Archives of images are outside data: layers over each other as Docker lays them, and nothing climbs out."""

from __future__ import annotations

import io
import json
import os
import platform
import tarfile
from pathlib import Path
from typing import Any

import pytest

from gym_code.errors import EnvironmentBuildError
from gym_code.sandbox.image import environment_directory, environment_variables
from gym_code.sandbox.layout import Home
from gym_code.sandbox.unpack import Archive
from gym_code.types import Environment

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
Entry = tuple[str, bytes | str | None]
"""A name and its content: bytes for a file, None for a directory, `-> x` for a link, `= x` for a hard link,
`dev` for a device."""


def tar(entries: list[Entry]) -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.mode, info.mtime = 0o4755, 1000
            if content is None:
                info.type = tarfile.DIRTYPE
            elif isinstance(content, bytes):
                info.size = len(content)
            elif content.startswith("-> "):
                info.type, info.linkname = tarfile.SYMTYPE, content[3:]
            elif content.startswith("= "):
                info.type, info.linkname = tarfile.LNKTYPE, content[2:]
            else:
                info.type = tarfile.CHRTYPE
            archive.addfile(info, io.BytesIO(content) if isinstance(content, bytes) else None)
    return target.getvalue()


def save(path: Path, *layers: list[Entry], **about: Any) -> Path:
    """An archive with one image of some layers."""
    config = {"os": "linux", "architecture": MACHINE, "config": {"Env": ["A=b=c", "HOME=/x"]}, **about}
    names = [f"{at}/layer.tar" for at in range(len(layers))]
    manifest = [{"Config": "c0ffee.json", "RepoTags": None, "Layers": names}]
    files: list[Entry] = [("manifest.json", json.dumps(manifest).encode())]
    files += [("c0ffee.json", json.dumps(config).encode())]
    files += [(name, tar(layer)) for name, layer in zip(names, layers, strict=True)]
    path.write_bytes(tar(files))
    return path


def unpacked(folder: Path, *layers: list[Entry]) -> dict[str, str]:
    """What the layers come to: files and links by name, less the mount points."""
    with Archive(save(folder / "image.tar", *layers)) as archive:
        archive.unpack(folder / "root")
    found = {}
    for path in sorted((folder / "root").rglob("*")):
        name = path.relative_to(folder / "root").as_posix()
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file() and not name.startswith("etc/"):
            found[name] = path.read_text()
    return found


def test_later_layers_replace_and_whiteouts_remove(tmp_path: Path) -> None:
    first: list[Entry] = [("a/x", b"1"), ("a/y", b"1"), ("a/sub/z", b"1"), ("b/x", b"1"), ("c", b"1")]
    second: list[Entry] = [
        ("./a/x", b"2"),
        ("a/.wh.y", b""),
        ("b/new", b"2"),
        ("b/.wh..wh..opq", b""),
        (".wh.c", b""),
    ]
    found = unpacked(tmp_path, first, second)
    assert found == {"a/x": "2", "a/sub/z": "1", "b/new": "2"}


def test_a_whiteout_means_earlier_layers_alone(tmp_path: Path) -> None:
    first: list[Entry] = [("d/f", b"1"), ("d/old", b"1")]
    second: list[Entry] = [("d/f", b"2"), ("d/.wh.f", b""), ("d/sub/new", b"2"), ("d/.wh..wh..opq", b"")]
    assert unpacked(tmp_path, first, second) == {"d/f": "2", "d/sub/new": "2"}


def test_links_are_kept_and_modes_lose_what_is_special(tmp_path: Path) -> None:
    found = unpacked(
        tmp_path, [("bin", "-> usr/bin"), ("usr/bin/a", b"1"), ("usr/bin/b", "= usr/bin/a"), ("null", "dev")]
    )
    assert found == {"bin": "-> usr/bin", "usr/bin/a": "1", "usr/bin/b": "1"}
    a, b = ((tmp_path / "root/usr/bin" / name).stat() for name in "ab")
    assert (a.st_ino, oct(a.st_mode & 0o7777), a.st_mtime) == (b.st_ino, "0o755", 1000)


def test_a_file_is_replaced_and_not_written_through_its_other_names(tmp_path: Path) -> None:
    found = unpacked(tmp_path, [("a", b"1"), ("b", "= a")], [("a", b"2")])
    assert found == {"a": "2", "b": "1"}


@pytest.mark.parametrize("target", ["/OUTSIDE", "../outside", "loop"])
def test_law_7_no_entry_is_followed_through_a_link(tmp_path: Path, target: str) -> None:
    (tmp_path / "outside").mkdir()
    target = target.replace("/OUTSIDE", str(tmp_path / "outside"))
    found = unpacked(tmp_path, [("loop", f"-> {target}")], [("loop/sub/f", b"1"), ("loop/.wh.g", b"")])
    assert found == {"loop/sub/f": "1"}
    assert os.listdir(tmp_path / "outside") == []


def test_law_7_a_whiteout_removes_nothing_behind_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "kept").touch()
    link = f"-> {tmp_path}/outside"
    assert unpacked(tmp_path, [("d", link)], [("d/.wh.kept", b""), ("d/.wh..wh..opq", b"")]) == {"d": link}
    assert os.listdir(tmp_path / "outside") == ["kept"]


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([("../x", b"1")], "climbs out"),
        ([("a/../../x", b"1")], "climbs out"),
        ([("x", "= ../../etc/passwd")], "climbs out"),
        ([("x", "= /etc/passwd")], "not there"),
        ([("d", "-> /etc"), ("x", "= d/passwd")], "not there"),
    ],
)
def test_law_7_what_climbs_out_is_refused(tmp_path: Path, entries: list[Entry], words: str) -> None:
    with pytest.raises(EnvironmentBuildError, match=words):
        unpacked(tmp_path, entries)


def test_what_a_box_mounts_over_is_there_even_in_an_empty_image(tmp_path: Path) -> None:
    unpacked(tmp_path, [("etc/resolv.conf", "-> /run/systemd/resolv.conf")])
    for name in ("hostname", "hosts", "resolv.conf"):
        path = tmp_path / "root" / "etc" / name
        assert path.is_file()
        assert not path.is_symlink()


def test_archives_that_are_none_are_named(tmp_path: Path) -> None:
    path = tmp_path / "image.tar"
    with pytest.raises(EnvironmentBuildError, match="No such file"), Archive(path):
        pass
    path.write_bytes(b"nothing of the kind")
    with (
        pytest.raises(EnvironmentBuildError, match=r"cannot read the image archive .*image\.tar"),
        Archive(path),
    ):
        pass
    path.write_bytes(tar([("manifest.json", b"[]")]))
    with pytest.raises(EnvironmentBuildError, match="expected one image, found 0"), Archive(path):
        pass
    path.write_bytes(tar([("manifest.json", b'[{"Config": "c"}]')]))
    with pytest.raises(EnvironmentBuildError, match="lacks 'Layers'"), Archive(path):
        pass
    save(path, [("a", b"1" * 5000)])
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(EnvironmentBuildError), Archive(path) as archive:
        archive.unpack(tmp_path / "root")


def test_another_machines_image_is_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(EnvironmentBuildError, match="an image for linux/s390x; this is linux/"),
        Archive(save(tmp_path / "image.tar", architecture="s390x")),
    ):
        pass


def test_an_environment_is_unpacked_once_and_tells_its_variables(tmp_path: Path) -> None:
    home = Home(tmp_path, os.getuid())
    home.envs.mkdir()
    environment = Environment(image=str(save(tmp_path / "image.tar", [("a", b"1")])))
    path = environment_directory(home, environment)
    (path / "rootfs" / "mark").touch()
    assert environment_directory(home, environment) == path
    assert (path / "rootfs" / "mark").exists()
    assert environment_variables(path) == {"A": "b=c"}


def test_packages_into_an_image_are_refused_in_words(tmp_path: Path) -> None:
    home = Home(tmp_path, os.getuid())
    with pytest.raises(EnvironmentBuildError, match=r"installs no packages into an image .* put toy==1 into"):
        environment_directory(home, Environment(image="x.tar", packages=("toy==1",)))
