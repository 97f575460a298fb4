"""One contestant that is not ours, in a process of its own: `peer.py KIND`, run by the peers' interpreter.

The first line of standard input is a `Job` as JSON; every other line names an operation, and one line of
JSON answers it: {"seconds": ...} or {"error": ...}. The clock runs in here, so the pipe is not timed.
Of gym-code nothing is imported: this environment does not have it.

Each contestant is used as its own documentation shows it. Containers run as root, as its documentation has
them, and get no network, as ours get none: that spares them a network interface. Removing a box is timed
nowhere but in `once`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shlex
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

QUIET = logging.getLogger("quiet")
QUIET.setLevel(logging.WARNING)
"""Else mini-swe-agent prints a line for every box, in the time that is measured."""
RUN_ARGS = ["--rm", "--network", "none", "--user", "0:0"]


@dataclass
class Job:
    """What every contestant works on."""

    image: str
    """With the task's packages and its repository."""
    tree: str
    """The task's repository as a directory of the host."""
    workdir: str
    gold: str
    """A shell command that makes the changes of the solution."""
    graded: str
    """A shell command that makes those and puts the hidden tests in place."""
    visible: str
    tests: str
    """Arguments of pytest: the visible tests, and all that grading asks for."""
    python: str
    """The interpreter with pytest in it, in the image."""


class Contestant(ABC):
    """A way to run commands in boxes. `open` makes the one box there is, `end` removes it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.python = job.python

    @abstractmethod
    def open(self) -> None:
        """A fresh box with the task's repository."""

    @abstractmethod
    def shell(self, command: str) -> None:
        """Run a shell command that must succeed."""

    @abstractmethod
    def end(self) -> None:
        """Remove the box, if there is one."""

    def reset(self) -> float:
        """A fresh box in place of the last one, whose end is not timed."""
        self.end()
        return timed(self.open)

    def exec_shell(self) -> float:
        """`true` in a shell."""
        return timed(self.shell, "true")

    def exec_python(self) -> float:
        """The start of an interpreter in a shell."""
        return timed(self.shell, "python3 -c 1")

    def grade(self) -> float:
        """A fresh box, the solution and the hidden tests, one run of pytest."""
        self.end()

        def work() -> None:
            self.open()
            self.shell(self.job.graded)
            self.pytest(self.job.tests)

        return timed(work)

    def episode(self) -> float:
        """What the scripted agent of gym-code does, in as many commands, and the grade in a second box."""
        self.end()

        def play() -> None:
            self.open()
            for command in ("ls", "grep -rn 'def ' --include=*.py .", "cat README.md", self.job.gold):
                self.shell(command)
            self.pytest(self.job.visible)

        seconds = timed(play)
        return seconds + self.grade()

    def pytest(self, tests: str) -> None:
        """Run tests that must pass."""
        self.shell(f"{self.python} -m pytest -q -p no:cacheprovider {tests}")


class PlainDocker(Contestant):
    """`docker run -d`, then `docker exec` for every command."""

    container = ""

    def open(self) -> None:
        """A fresh container."""
        command = ["docker", "run", "-d", *RUN_ARGS, "-w", self.job.workdir, self.job.image, "sleep", "2h"]
        self.container = checked(command).strip()

    def shell(self, command: str) -> None:
        """Run a shell command that must succeed."""
        checked(["docker", "exec", self.container, "bash", "-c", command])

    def end(self) -> None:
        """Remove the box, if there is one."""
        if self.container:
            checked(["docker", "rm", "-f", self.container])
        self.container = ""

    def exec_argv(self) -> float:
        """`true` without a shell."""
        return timed(checked, ["docker", "exec", self.container, "true"])

    def once(self) -> float:
        """One command in a container that is removed after it."""
        return timed(checked, ["docker", "run", *RUN_ARGS, self.job.image, "true"])


class MiniDocker(Contestant):
    """mini-swe-agent's `DockerEnvironment`, as it comes: every command is `docker exec ... bash -lc`."""

    box: Any = None

    def open(self) -> None:
        """A fresh container."""
        from minisweagent.environments.docker import DockerEnvironment  # type: ignore[import-not-found]

        self.box = DockerEnvironment(
            image=self.job.image, cwd=self.job.workdir, run_args=RUN_ARGS, logger=QUIET
        )

    def shell(self, command: str) -> None:
        """Run a shell command that must succeed."""
        succeeded(command, self.box.execute({"command": command}))

    def end(self) -> None:
        """Remove the container.

        Its own clean-up stops containers in the background, ten seconds each: that would disturb the others.
        """
        if self.box is not None:
            checked(["docker", "rm", "-f", self.box.container_id])
            self.box.container_id = None
        self.box = None


class MiniBubblewrap(Contestant):
    """mini-swe-agent's `BubblewrapEnvironment`, as it comes: a directory, and a launch for every command.

    It brings no repository, so one is copied; it sees the programs of the host.
    """

    box: Any = None

    def __init__(self, job: Job) -> None:
        super().__init__(job)
        self.python = shlex.quote(sys.executable)

    def open(self) -> None:
        """A fresh directory with a copy of the repository."""
        from minisweagent.environments.extra.bubblewrap import (  # type: ignore[import-not-found]
            BubblewrapEnvironment,
            BubblewrapEnvironmentConfig,
        )

        # The interpreter with pytest is this one: shown where it lies.
        shown = [word for place in {sys.prefix, sys.base_prefix} for word in ("--ro-bind", place, place)]
        usual = BubblewrapEnvironmentConfig().wrapper_args
        self.box = BubblewrapEnvironment(wrapper_args=[*usual, *shown], logger=QUIET)
        shutil.copytree(self.job.tree, self.box.working_dir, symlinks=True, dirs_exist_ok=True)

    def shell(self, command: str) -> None:
        """Run a shell command that must succeed."""
        succeeded(command, self.box.execute({"command": command}))

    def end(self) -> None:
        """Remove the box, if there is one."""
        if self.box is not None:
            self.box.cleanup()
        self.box = None


KINDS: dict[str, Callable[[Job], Contestant]] = {
    "docker-cli": PlainDocker,
    "mini-docker": MiniDocker,
    "mini-bubblewrap": MiniBubblewrap,
}
METHODS = {"exec": "exec_argv", "shell": "exec_shell", "python": "exec_python"}


def timed(operation: Any, *arguments: Any) -> float:
    """Seconds of a call."""
    begin = time.perf_counter()
    operation(*arguments)
    return time.perf_counter() - begin


def checked(command: list[str]) -> str:
    """What a command prints; raises `RuntimeError` where it fails."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{shlex.join(command)[:300]}: {result.returncode}: {result.stderr[-500:]}")
    return result.stdout


def succeeded(command: str, output: dict[str, Any]) -> None:
    """Raise `RuntimeError` where mini-swe-agent says that a command failed."""
    if output["returncode"]:
        raise RuntimeError(f"{command[:300]}: {output['returncode']}: {output['output'][-500:]}")


def main() -> None:
    """Answer operations until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints is no answer
    contestant = KINDS[sys.argv[1]](Job(**json.loads(sys.stdin.readline())))
    try:
        for line in sys.stdin:
            operation = line.strip()
            try:
                answer: dict[str, Any] = {
                    "seconds": getattr(contestant, METHODS.get(operation, operation))() or 0.0
                }
            except (RuntimeError, OSError, subprocess.SubprocessError) as error:
                answer = {"error": f"{operation}: {error}"}
            answers.write(json.dumps(answer) + "\n")
    finally:
        with contextlib.suppress(RuntimeError):
            contestant.end()


if __name__ == "__main__":
    main()
