"""Processes as /proc shows them, and waiting for them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path

from gym_code.sandbox.lease import start_time


def eventually(holds: Callable[[], bool], seconds: float = 15.0) -> bool:
    """Whether it holds within some time."""
    deadline = time.monotonic() + seconds
    while not (good := holds()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return good


def running(words: str) -> list[int]:
    """Processes with these words in their command line."""
    return _with(words, "cmdline")


def marked(mark: str) -> list[int]:
    """Processes with a text in the environment they were started with, but for this one."""
    return [pid for pid in _with(mark, "environ") if pid != os.getpid()]


def _with(text: str, file: str) -> list[int]:
    found = []
    for path in Path("/proc").glob(f"[0-9]*/{file}"):
        with contextlib.suppress(OSError):
            if text in path.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace"):
                found.append(int(path.parent.name))
    return [pid for pid in found if start_time(pid) is not None]


def first_in(keeper: int) -> int:
    """The keeper proper: process 1 of the namespace that the process its owner started stands outside of."""
    (child,) = Path(f"/proc/{keeper}/task/{keeper}/children").read_text().split()
    return int(child)
