"""Removal of trees that an agent has made: of any depth, directories of any mode.

Standard library only: the keeper, which runs isolated, imports it.
"""

from __future__ import annotations

import contextlib
import os
import stat
from itertools import count

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove(path: str | os.PathLike[str]) -> None:
    """Remove a file, or a directory with all in it; nothing happens where nothing is.

    Neither recursion nor long paths nor many descriptors: a directory that is not empty is moved up into
    the one to be removed, and emptied there in its turn. Raises OSError for what may not be removed.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        os.unlink(path)
        return
    top = _open(path, None)
    try:
        numbers = count()
        _empty(top, top, numbers)
        while names := os.listdir(top):  # what was moved up
            for name in names:
                inner = _open(name, top)
                try:
                    _empty(inner, top, numbers)
                finally:
                    os.close(inner)
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(path)


def _open(name: str | os.PathLike[str], parent: int | None) -> int:
    with contextlib.suppress(PermissionError):
        return os.open(name, _OPEN, dir_fd=parent)
    os.chmod(name, 0o700, dir_fd=parent)  # closed by the agent; a link cannot stand here, nobody races us
    return os.open(name, _OPEN, dir_fd=parent)


def _empty(directory: int, top: int, numbers: count[int]) -> None:
    """Remove the files of a directory; its directories go away, or up."""
    if os.fstat(directory).st_mode & 0o700 != 0o700:
        os.fchmod(directory, 0o700)
    with os.scandir(directory) as rows:
        entries = [(row.name, row.is_dir(follow_symlinks=False)) for row in rows]
    for name, is_directory in entries:
        if not is_directory:
            os.unlink(name, dir_fd=directory)
            continue
        try:
            os.rmdir(name, dir_fd=directory)
        except OSError:
            _move_up(name, directory, top, numbers)


def _move_up(name: str, directory: int, top: int, numbers: count[int]) -> None:
    while True:
        fresh = f"gone-{next(numbers)}"
        try:
            os.stat(fresh, dir_fd=top, follow_symlinks=False)
        except FileNotFoundError:
            # Moving a directory rewrites its `..`, for which it must be writable.
            os.chmod(name, 0o700, dir_fd=directory)
            os.rename(name, fresh, src_dir_fd=directory, dst_dir_fd=top)
            return
