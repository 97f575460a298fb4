"""A directory as a mapping of paths to files, and back."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gym_code.errors import TaskError
from gym_code.types import File

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

LEFTOVERS = frozenset({".git", "__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", ".hypothesis"})
"""Never part of a source tree: what tools leave behind would change digests and give solutions away."""


def read_tree(directory: Path) -> dict[str, File]:
    """The files under a directory by relative path, in path order; links are not followed.

    Raises `TaskError` where the directory is missing or holds something that is no file, directory or link.
    """
    if not directory.is_dir():
        raise TaskError("no such source tree", where=str(directory), expected="a directory", found="none")
    files: dict[str, File] = {}
    for parent, names, entries in os.walk(directory):
        links = [name for name in names if os.path.islink(f"{parent}/{name}")]  # noqa: PTH114
        names[:] = [name for name in names if name not in LEFTOVERS and name not in links]
        for name in [*entries, *links]:
            full = f"{parent}/{name}"
            if not name.endswith((".pyc", ".pyo")):
                files[os.path.relpath(full, directory)] = _read(full)
    return dict(sorted(files.items()))


def _read(path: str) -> File:
    if os.path.islink(path):  # noqa: PTH114
        return File(link=os.readlink(path))  # noqa: PTH115
    if not os.path.isfile(path):  # noqa: PTH113
        raise TaskError("cannot be part of a tree", where=path, expected="a file or a link", found="neither")
    with open(path, "rb") as file:  # noqa: PTH123
        return File(content=file.read(), executable=bool(os.fstat(file.fileno()).st_mode & 0o100))


def write_tree(directory: Path, files: Mapping[str, File]) -> None:
    """Write files into a directory that does not hold them yet."""
    for path, file in files.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.link is not None:
            target.symlink_to(file.link)
            continue
        with target.open("xb") as stream:
            stream.write(file.content)
        target.chmod(0o755 if file.executable else 0o644)
