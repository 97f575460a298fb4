"""The contract between a sandbox and everything above it.

A `Backend` opens boxes; a `Sandbox` is one box with its own copy of a start tree. All backends pass
`gym_code.sandbox.contract`, so a third party can add one. Everything is synchronous and
thread-confined: use a box from one thread at a time; many boxes from a sized executor.
"""

from __future__ import annotations

import builtins
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from gym_code.types import Environment, ExecResult, Limits, StartTree

SPARE = 4
"""Boxes that a backend keeps launched ahead of need for each environment, where it is not told otherwise."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BoxSpec:
    """What a box is made from."""

    start: StartTree
    environment: Environment = field(default_factory=Environment)
    limits: Limits = field(default_factory=Limits)
    workdir: str = "/testbed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do on this machine. Checks of the contract that need more are skipped with the
    reason."""

    name: str
    processes: bool
    """Runs real programs (the in-memory double does not)."""
    network_isolated: bool
    limits_enforced: tuple[str, ...]
    """Names of `Limits` fields that are enforced, e.g. ("memory_bytes", "processes")."""
    notes: Mapping[str, str] = field(default_factory=dict)
    """How each thing is done or why it is not, for `gym-code doctor`."""


@runtime_checkable
class Sandbox(Protocol):
    """One isolated copy of a start tree.

    Paths are absolute, or relative to the spec's `workdir`. Methods raise `SandboxClosed` after `close` and
    `SandboxError` when the box itself failed; what a command does wrong is an `ExecResult`. `read` and
    `write` raise the ordinary `FileNotFoundError`, `IsADirectoryError`, `PermissionError` and
    `OSError(ENOSPC)` for
    what the agent's request got wrong.
    """

    @property
    def base_commit(self) -> str:
        """The commit id of the start tree in the box's repository."""

    def exec(
        self,
        command: Sequence[str] | str,
        *,
        timeout: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        output_bytes: int | None = None,
        channel: bool = False,
    ) -> ExecResult:
        """Run a command as the unprivileged agent user; a string goes to `bash -c` (or `sh -c`).

        timeout: seconds, default `limits.exec_seconds`. When the command ends for any reason, every process
        it started is gone before this returns (also one that called setsid).
        output_bytes: most bytes kept of stdout and stderr together, default `limits.output_bytes`; head and
        tail are kept, the middle counted in `truncated_bytes`.
        channel: give the command the write end of a private pipe; its number stands in the environment
        variable GYM_CODE_CHANNEL; what is written to it (at most 16 MiB) comes back as `ExecResult.channel`.
        """

    def read(self, path: str, *, max_bytes: int | None = None) -> bytes:
        """The content of a regular file (at most `max_bytes` of it). Symbolic links are followed inside
        the box only."""

    def write(self, path: str, content: bytes, *, executable: bool | None = None) -> None:
        """Create or replace a file, making parent directories; whole or not at all. None keeps the mode
        of an existing file."""

    def list(self, path: str = ".") -> tuple[str, ...]:
        """Sorted names in a directory; directories end in a slash."""

    def snapshot(self) -> str:
        """Freeze the file state under a new name; the agent's processes are ended first. Costs what
        changed."""

    def fork(self, n: int) -> builtins.list[Sandbox]:
        """`n` new boxes that begin from this box's present file state; this box lives on."""

    def restore(self, snapshot: str) -> None:
        """Go back to a snapshot of this box (KeyError if it is none); processes are ended first."""

    def digest(self) -> str:
        """SHA-256 (hex) of what differs from the start tree below the workdir (paths, modes, contents; not
        times, not git's index files, not compiled Python); equal states, equal digests."""

    def diff(self) -> bytes:
        """The changes to the repository as a binary-safe git patch against the base commit.

        Untracked files are in it, ignored ones (by the rules of the start tree) are not, `.git` never is.
        Empty when nothing changed. At most 32 MiB of new content (paths included) are in it: the smallest
        files come first, and what would pass that is left out. Exported by the host: nothing in the tree
        (hooks, filters, attributes, configuration) can run a program or change the result (law 7).
        """

    def close(self) -> None:
        """End every process and delete all state. Idempotent."""

    def __enter__(self) -> Sandbox: ...

    def __exit__(self, *exc: object) -> None: ...


@runtime_checkable
class Backend(Protocol):
    """Opens boxes. One per process is enough; safe to call from several threads."""

    name: str

    def capabilities(self) -> Capabilities:
        """What this backend can do here, found by trying, not by version numbers."""

    def fingerprint(self) -> str:
        """Short text that identifies backend, kernel and environment floor; stands in every trajectory."""

    def prepare(self, spec: BoxSpec) -> str:
        """Build environment and start layer ahead of need; the base commit of the layer."""

    def open(self, spec: BoxSpec) -> Sandbox:
        """A fresh box. Raises `SandboxUnavailable`, `EnvironmentBuildError` or `SandboxError`."""

    def close(self) -> None:
        """Close every box still open and give back what the backend holds. Idempotent."""
