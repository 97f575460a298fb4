"""Runs a server for as long as its owner lives: `python keeper.py SCRATCH COMMAND...`

Standard input is a pipe whose other end only the owner holds. When it closes, because the owner is done or
was killed, the server's whole process group ends (asked first, then killed) and the scratch directory is
removed. A guard, forked before the server is started, does the same when the keeper is killed. Standard
library only; one thread.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

GRACE_SECONDS = 10.0
"""Between asking the group to end and killing it: a server has shared memory to give back."""
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
DONE = b"done"


def members(group: int) -> list[int]:
    """The living processes of a process group."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, _, its_group = (entry / "stat").read_text().rpartition(")")[2].split()[:3]
                if int(its_group) == group and state not in "ZX":
                    found.append(int(entry.name))
    return found


def end(group: int, scratch: str) -> None:
    """End a process group and remove the scratch directory."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + GRACE_SECONDS
        if members(group):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(group, number)
        while members(group) and time.monotonic() < deadline:
            time.sleep(0.05)
    shutil.rmtree(scratch, ignore_errors=True)


def guard(scratch: str) -> int:
    """Fork a process that ends the group when this one dies; a pipe to tell it the group, and `DONE`."""
    reading, writing = os.pipe()
    if os.fork():
        os.close(reading)
        return writing
    os.setsid()
    os.close(writing)
    told = b""
    while piece := os.read(reading, 100):
        told += piece
    if told and not told.endswith(DONE):
        end(int(told), scratch)
    os._exit(0)


def exited(child: subprocess.Popen[bytes]) -> bool:
    """Whether the child has ended. It is not reaped, so nobody else can get the number of its group."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def main(argv: Sequence[str]) -> int:
    """Run the command until it ends or the owner does; the command's exit status."""
    scratch, command = argv[0], argv[1:]
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    to_guard = guard(scratch)

    def begin() -> None:
        """In the child, before the server is: the guard knows its group whenever the keeper is killed."""
        os.write(to_guard, str(os.getpid()).encode())
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)

    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=begin)
    while not exited(child):
        ready, _, _ = select.select([0], [], [], 0.25)
        if ready and not os.read(0, 1):
            break
    end(child.pid, scratch)
    os.write(to_guard, DONE)
    return child.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
