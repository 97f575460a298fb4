"""Many boxes: how many a second from a few threads, and what many that live at once cost."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.sandbox.peer import RUN_ARGS
from gym_code.cli.bench import run, timed

if TYPE_CHECKING:
    from collections.abc import Callable

    from gym_code.sandbox.base import Backend, BoxSpec, Sandbox

THREADS = 4


def boxes_a_second(name: str, use: Callable[[], None], boxes: int) -> dict[str, Any]:
    """`use` (open one, close it) so many times from `THREADS` threads."""

    def work(_: int) -> None:
        use()

    begin = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as threads:
        list(threads.map(work, range(boxes)))
    seconds = time.perf_counter() - begin
    return {
        "name": name,
        "boxes": boxes,
        "threads": THREADS,
        "seconds": round(seconds, 2),
        "boxes_per_second": round(boxes / seconds, 2),
    }


def open_and_close(backend: Backend, spec: BoxSpec) -> Callable[[], None]:
    """A box of ours and its end."""
    return lambda: backend.open(spec).close()


def run_and_remove(image: str) -> Callable[[], None]:
    """A container of plain Docker and its removal."""

    def use() -> None:
        command = ["docker", "run", "-d", *RUN_ARGS, image, "sleep", "2h"]
        container = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        subprocess.run(["docker", "rm", "-f", container], capture_output=True, check=True)

    return use


def alive_at_once(backend: Backend, spec: BoxSpec, boxes: int) -> dict[str, Any]:
    """Open so many boxes, run a command in each, close them all.

    Memory of the machine is by how much what is available shrank meanwhile: also the kernel's, and that of
    whatever else began in these seconds. Memory of processes is that of our descendants, shared pages divided
    among those that share them.
    """
    before, processes = available_bytes(), descendants_bytes()
    begin = time.perf_counter()
    with ThreadPoolExecutor(THREADS) as threads:
        held: list[Sandbox] = list(threads.map(lambda _: backend.open(spec), range(boxes)))
        opened = time.perf_counter() - begin
        list(threads.map(lambda box: run(box, ["true"]), held))
        used, processes = before - available_bytes(), descendants_bytes() - processes
        _, closed = timed(lambda: list(threads.map(lambda box: box.close(), held)))
    return {
        "name": backend.name,
        "boxes": boxes,
        "open_seconds": round(opened, 2),
        "close_seconds": round(closed, 2),
        "machine_mib_per_box": round(used / boxes / 2**20, 1),
        "processes_mib_per_box": round(processes / boxes / 2**20, 1),
    }


def available_bytes() -> int:
    """What the machine could still give to programs."""
    return _field(Path("/proc/meminfo"), "MemAvailable")


def descendants_bytes() -> int:
    """Memory of the processes below this one (PSS), as far as this user may read it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    total, waiting = 0, children.get(os.getpid(), [])
    while waiting:
        pid = waiting.pop()
        waiting += children.get(pid, [])
        with contextlib.suppress(OSError):
            total += _field(Path(f"/proc/{pid}/smaps_rollup"), "Pss")
    return total


def _field(file: Path, name: str) -> int:
    """A line like `Pss:  12 kB`, in bytes; 0 where there is none."""
    found = re.search(rf"^{name}:\s+(\d+) kB", file.read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
