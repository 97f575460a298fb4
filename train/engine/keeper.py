"""Runs a server for as long as its owner lives: `python keeper.py SCRATCH COMMAND...`

Standard input is a pipe whose other end only the owner holds. When it closes, because the owner is done or
was killed, the server's whole process group ends (asked first, then killed) and the scratch directory is
removed. A server whose keeper is killed gets SIGKILL from the kernel. Standard library only; one thread.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1
GRACE_SECONDS = 10.0
"""Between asking the server to end and killing it: it has shared memory to give back."""


def exited(child: subprocess.Popen[bytes]) -> bool:
    """Whether the child has ended. It is not reaped, so its process group keeps its number."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def end(child: subprocess.Popen[bytes]) -> int:
    """End the child's process group; the child's exit status."""
    deadline = time.monotonic() + GRACE_SECONDS
    if not exited(child):
        child.send_signal(signal.SIGTERM)
    while not exited(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    return child.wait()


def main(argv: Sequence[str]) -> int:
    """Run the command until it ends or the owner does; the command's exit status."""
    scratch, command = argv[0], argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    libc, keeper = ctypes.CDLL(None, use_errno=True), os.getpid()

    def die_with_the_keeper() -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(1)

    child = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, start_new_session=True, preexec_fn=die_with_the_keeper
    )
    try:
        while not exited(child):
            ready, _, _ = select.select([0], [], [], 0.25)
            if ready and not os.read(0, 1):
                break
        return end(child)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
