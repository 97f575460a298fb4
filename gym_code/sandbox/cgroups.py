"""A memory control group for each box, where root can make them: the hard wall behind the supervisor's
watchdog.

Version 1 and version 2 are told apart by the files that are there, not by version numbers: in hybrid mode
the unified tree has no memory controller. An ordinary user has no control groups; then the watchdog and
rlimits stand alone.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gym_code.sandbox.lease import owner_tag

PREFIX = "gym-code-"
_SLACK_BYTES = 64 << 20
_NUMBERS = itertools.count(1)
"""Over all backends of a process: their groups stand side by side."""


@dataclass(frozen=True, slots=True)
class Group:
    """The control group of one box."""

    path: Path
    unified: bool

    def limit(self, memory_bytes: int, disk_bytes: int) -> None:
        """What the box writes to its tmpfs counts as memory here, so both limits add up."""
        self.set_limit(memory_bytes + disk_bytes + _SLACK_BYTES)

    def set_limit(self, size: int) -> None:
        """Most bytes of memory, page cache and tmpfs."""
        name = "memory.max" if self.unified else "memory.limit_in_bytes"
        (self.path / name).write_text(str(size))

    def add(self, pid: int) -> None:
        """Put a process in; its children follow. Takes 5 to 15 ms: the kernel waits for a grace period."""
        (self.path / "cgroup.procs").write_text(str(pid))

    def kills(self) -> int:
        """How many processes the kernel has killed for memory here."""
        name = "memory.events" if self.unified else "memory.oom_control"
        for line in (self.path / name).read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
        return 0

    def remove(self) -> None:
        """Give it back. One whose processes take long to die is left to `gc`."""
        for _ in range(20):
            try:
                self.path.rmdir()
            except FileNotFoundError:
                return
            except OSError:
                time.sleep(0.005)
            else:
                return


@dataclass(slots=True)
class Groups:
    """Makes groups below one parent."""

    parent: Path
    unified: bool
    _tag: str = field(default_factory=owner_tag)

    def make(self) -> Group:
        """A group for a box."""
        group = Group(self.parent / f"{PREFIX}{self._tag}-{next(_NUMBERS)}", self.unified)
        group.path.mkdir()
        return group


def find_groups() -> tuple[Groups | None, str]:
    """Where groups can be made, found by making one; else None and the reason."""
    if os.geteuid() != 0:
        return None, "not root"
    reason = "no memory controller is mounted"
    for parent, unified in _parents():
        groups = Groups(parent, unified)
        try:
            group = groups.make()
            try:
                group.limit(1 << 30, 0)
            finally:
                group.remove()
        except OSError as error:
            reason = f"{parent}: {error.strerror}"
            continue
        return groups, f"cgroup {'v2' if unified else 'v1'} at {parent}"
    return None, reason


def leased_groups(parents: Iterable[Path] = ()) -> Iterator[tuple[str, Path]]:
    """Every group of ours below our own parents and these, with its owner's tag."""
    for parent in dict.fromkeys([*(parent for parent, _ in _parents()), *parents]):
        for path in parent.glob(f"{PREFIX}*"):
            yield "-".join(path.name.removeprefix(PREFIX).split("-")[:2]), path


def _parents() -> Iterator[tuple[Path, bool]]:
    """Directories to try: our own group of each memory hierarchy, then its root."""
    for line in _lines("/proc/self/mounts"):
        _, place, kind, options, *_ = line.split(" ")
        unified = kind == "cgroup2"
        if not unified and not (kind == "cgroup" and "memory" in options.split(",")):
            continue
        if unified and "memory" not in " ".join(_lines(f"{place}/cgroup.subtree_control")).split():
            continue
        own = Path(place + _own(unified))
        # In version 2 a group with processes may have no children that limit: there only the root will do.
        for parent in [Path(place)] if unified else dict.fromkeys((own, Path(place))):
            if parent.is_dir():
                yield parent, unified


def _own(unified: bool) -> str:
    for line in _lines("/proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if (unified and not controllers) or "memory" in controllers.split(","):
            return path.rstrip("/")
    return ""


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
