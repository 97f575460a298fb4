"""Runs `train.grpo` as often as it is told, and can kill it before its n-th operation on files of the run.

    python -m tests.train.killed_trainer

reads a JSON object a line: `place`, where to run; `options`; `environment`; and `last`, the number of the
operation that is not carried out any more (from 1; 0: none). It answers with the trainer's pid and, when that
has ended, its exit status. Trainers are forks: everything is imported once. Each has its words in PLACE/log,
and in PLACE/operations a line for every operation below PLACE/runs (a file opened, renamed, removed, or
opened once more to be synced; but none of TensorBoard's) before it is carried out, with the seconds since the
trainer was started. What libraries write in C++ or Rust shows when it is read or synced.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import matplotlib.pyplot  # noqa: F401
import peft  # noqa: F401
import transformers.models.qwen2.modeling_qwen2  # noqa: F401

import train.grpo

OPERATIONS = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree")


def watch(directory: Path, listing: int, last: int) -> None:
    """Note each operation below the directory; end this process before the one with the number `last`."""
    count, began = 0, time.monotonic()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal count
        if event not in OPERATIONS or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = Path(os.fsdecode(arguments[0])).absolute()
        if not path.is_relative_to(directory) or "tensorboard" in path.parts:  # which writes many, all alike
            return
        count += 1
        os.write(listing, f"{time.monotonic() - began:.3f} {event} {path.relative_to(directory)}\n".encode())
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def become_trainer(order: dict[str, Any]) -> None:
    """In the child: what a new process in that place would be."""
    os.setsid()
    os.chdir(order["place"])
    os.environ.update(order["environment"])
    tempfile.tempdir = None
    append = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, file in enumerate([os.open("/dev/null", os.O_RDONLY), *[os.open("log", append, 0o644)] * 2]):
        os.dup2(file, number)
    watch(Path("runs").absolute(), os.open("operations", append, 0o644), order["last"])
    sys.exit(train.grpo.main(order["options"]))


def main() -> None:
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            become_trainer(json.loads(line))
            return
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
