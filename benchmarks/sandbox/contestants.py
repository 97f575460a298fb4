"""Who takes part: our backends in this process, the others each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from agents.loop import play
from agents.policy import Decision
from agents.scripted import Oracle
from gym_code.cli.bench import OPERATIONS, Subject, timed
from gym_code.episode import Episode
from gym_code.errors import SandboxError, TaskError
from gym_code.types import JSON, Task, ToolCall, Trajectory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.sandbox.peer import Job
    from gym_code.sandbox.docker import DockerBackend
    from gym_code.sandbox.namespace import NamespaceBackend
    from gym_code.task import Suite

BEGINS = ("reset", "fork", "once", "grade", "episode")
"""Operations that take boxes from a pool."""
SETTLE_SECONDS = 20.0
"""How long a pool may take to fill up again."""
REMOVAL_SECONDS = 0.15
"""A pause in which the daemon removes the containers it was told to remove."""


class Contestant(Protocol):
    """Carries out operations one at a time."""

    name: str
    operations: tuple[str, ...]

    def measure(self, operation: str) -> float:
        """Seconds of one operation; returns when nothing it began runs in the background any more.

        Raises `SandboxError`.
        """

    def close(self) -> None:
        """Give everything back."""


class Ours:
    """A backend of gym-code."""

    def __init__(
        self, name: str, suite: Suite, task_id: str, backend: NamespaceBackend | DockerBackend, spare: int
    ) -> None:
        self.name, self._backend, self._spare = name, backend, spare
        self.subject = Subject(suite, task_id, backend)
        # What a pool changes is how boxes begin; the rest is the same code, and measured with the pool.
        self.operations = (*OPERATIONS, "episode") if spare else ("reset", "fork", "episode")

    def measure(self, operation: str) -> float:
        """Seconds of one operation; after a reset a file is written, untimed, for diff, digest and fork."""
        seconds = self._episode() if operation == "episode" else self.subject.measure(operation)
        if operation in BEGINS:
            self._settle()
        if operation == "reset":
            self.subject.edit()
        return seconds

    def _settle(self) -> None:
        """Wait until the pool is full again and what was closed is gone: it would disturb the others."""
        pool = self._backend._parts().pool
        deadline = time.monotonic() + SETTLE_SECONDS
        while any(len(blanks) < self._spare for blanks in list(pool._blanks.values())):
            if time.monotonic() > deadline:
                raise SandboxError(f"{self.name}: no spare boxes after {SETTLE_SECONDS} seconds")
            time.sleep(0.005)
        if self._backend.name == "docker":
            time.sleep(REMOVAL_SECONDS)

    def close(self) -> None:
        """Close the backend with all its boxes."""
        self._backend.close()

    def _episode(self) -> float:
        """A scripted agent from the first box to the reward."""
        subject = self.subject

        def whole() -> Trajectory:
            with Episode(subject.suite, subject.task.id, subject.backend) as episode:
                return play(Worker(suite=subject.suite), episode)

        trajectory, seconds = timed(whole)
        if trajectory.reward is None or trajectory.reward.value != 1.0:
            raise TaskError("the episode was not solved", where=subject.task.id, expected="reward 1")
        return seconds


class Worker(Oracle):
    """The oracle with what an agent does around the edit: look, search, read, run the tests."""

    name = "worker"

    def script(self, task: Task, tools: Sequence[Mapping[str, JSON]], seed: int) -> Sequence[Decision]:
        """Three looks, the edits, the visible tests, submit."""
        look: list[tuple[str, dict[str, JSON]]] = [
            ("bash", {"command": "ls"}),
            ("search", {"pattern": "def "}),
            ("view", {"path": "README.md"}),
        ]
        *edits, done = super().script(task, tools, seed)
        before = [_decision(f"look-{number}", *call) for number, call in enumerate(look)]
        return [*before, *edits, _decision("test", "test", {}), done]


def _decision(call_id: str, name: str, arguments: dict[str, JSON]) -> Decision:
    return Decision(calls=(ToolCall(id=call_id, name=name, arguments=arguments),))


class Peer:
    """Another project's way, driven over a pipe; `peer.py` says what each does."""

    def __init__(self, name: str, kind: str, python: Path, job: Job, env: Mapping[str, str]) -> None:
        self.name = name
        self.operations = PEER_OPERATIONS[kind]
        self._process = subprocess.Popen(
            [python, Path(__file__).with_name("peer.py"), kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=dict(env),
            text=True,
            bufsize=1,
        )
        self._tell(json.dumps(asdict(job)))

    def measure(self, operation: str) -> float:
        """Seconds of one operation, by the clock of that process."""
        self._tell(operation)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer = json.loads(line) if line else {"error": f"{operation}: the process ended"}
        if "error" in answer:
            raise SandboxError(f"{self.name}: {answer['error']}")
        return float(answer["seconds"])

    def close(self) -> None:
        """End the process, which removes its box."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")


PEER_OPERATIONS = {
    "docker-cli": ("reset", "exec", "shell", "python", "once", "grade", "episode"),
    "mini-docker": ("reset", "shell", "python", "grade", "episode"),
    "mini-bubblewrap": ("reset", "shell", "python", "grade", "episode"),
}
