"""Files that survive a crash: replaced whole, or grown by whole lines."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path


def replace_file(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, synced: after a crash it holds the old bytes or the new ones."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name[:100]}-", delete=False) as file:
        try:
            file.write(content)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    sync_directory(path.parent)


def append_lines(path: Path, lines: Iterable[bytes], is_record: Callable[[bytes], bool]) -> None:
    """Add lines (each with its newline) at the end of a file, creating it and its directory if need be.

    Each is written whole under a lock and synced to disk before this returns; when the disk refuses
    (OSError), the file is cut back to its last whole line. The torn tail of a writer that died is cut off,
    or ended where `is_record` says that only its newline is missing.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = not path.exists()
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        _mend_tail(descriptor, is_record)
        for line in lines:
            _write_line(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    if fresh:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Have the disk hold the names in a directory."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mend_tail(descriptor: int, is_record: Callable[[bytes], bool]) -> None:
    """Make the file end in a newline."""
    size = os.fstat(descriptor).st_size
    if size == 0 or os.pread(descriptor, 1, size - 1) == b"\n":
        return
    start, tail = size, b""
    while start > 0 and b"\n" not in tail:
        step = min(65536, start)
        start -= step
        tail = os.pread(descriptor, step, start) + tail
    line = tail.rpartition(b"\n")[2]
    if is_record(line):
        os.write(descriptor, b"\n")
    else:
        os.ftruncate(descriptor, size - len(line))


def _write_line(descriptor: int, line: bytes) -> None:
    size = os.fstat(descriptor).st_size
    rest = memoryview(line)
    try:
        while rest:
            rest = rest[os.write(descriptor, rest) :]
    except OSError:
        os.ftruncate(descriptor, size)
        raise
