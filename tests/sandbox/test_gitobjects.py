"""The packs and indexes written here are what git itself reads."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from gym_code.gitrepo import base_commit
from gym_code.sandbox.gitobjects import Objects, start_repo
from gym_code.types import File

TREE = {
    "b/c.txt": File(content=b"c\n"),
    "b-x": File(content=b""),
    "b.py": File(content=b"x\n", executable=True),
    "link": File(link="b/c.txt"),
    'odd "é\n': File(content=b"\0\xff" * 5000),
    ".gitattributes": File(content=b"* text=auto eol=crlf\n"),
}


def git(tree: Path, *words: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    result = subprocess.run(
        ["git", *words], cwd=tree, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def write(tree: Path) -> None:
    for name, content in start_repo(TREE).files.items():
        path = tree / ".git" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_git_accepts_the_repository(tmp_path: Path) -> None:
    write(tmp_path)
    assert git(tmp_path, "fsck", "--strict", "--full") == ""
    assert git(tmp_path, "rev-parse", "main") == base_commit(TREE) == start_repo(TREE).base_commit
    assert git(tmp_path, "diff", "--cached", "HEAD") == ""  # the index agrees with the commit
    assert git(tmp_path, "cat-file", "-s", 'main:odd "é\n') == "10000"


def test_a_checkout_gives_the_files_back(tmp_path: Path) -> None:
    write(tmp_path)
    git(tmp_path, "-c", "core.attributesFile=/dev/null", "checkout-index", "-a")
    assert (tmp_path / "b.py").stat().st_mode & 0o111
    assert (tmp_path / "link").readlink() == Path("b/c.txt")
    assert (tmp_path / 'odd "é\n').read_bytes() == b"\0\xff" * 5000


def test_pack_headers_of_every_size(tmp_path: Path) -> None:
    objects = Objects()
    ids = [objects.blob(b"x" * size) for size in (0, 15, 16, 2047, 2048, 300_000)]
    git(tmp_path, "init", "-q")
    pack, index = objects.pack()
    place = tmp_path / ".git" / "objects" / "pack" / f"pack-{pack[-20:].hex()}"
    place.with_suffix(".pack").write_bytes(pack)
    place.with_suffix(".idx").write_bytes(index)
    sizes = [git(tmp_path, "cat-file", "-s", oid.hex()) for oid in ids]
    assert sizes == ["0", "15", "16", "2047", "2048", "300000"]
    git(tmp_path, "verify-pack", str(place.with_suffix(".idx")))
