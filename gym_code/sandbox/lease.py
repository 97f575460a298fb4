"""Leases: whoever makes a keeper, a control group or a temporary directory can be found dead, and is
tidied up after.

A lease is a file named after its owner's pid and start time (a pid alone is used again). What a `kill -9`
leaves is little: the keeper ends with its owner, and every process and mount with the keeper. The next
start and `gc` remove the rest. Layers and environments are held by file locks, which the kernel gives
back by itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from gym_code.sandbox.layout import Home, open_home
from gym_code.sandbox.removal import remove

DAY = 86400.0
LAYER_SECONDS = 7 * DAY
"""`gc` removes layers that nobody has used for so long."""
KEPT_LAYERS = 4000
"""Unused layers beyond this many are removed as new ones are made, and as keepers start."""
ENVIRONMENT_SECONDS = 30 * DAY
_PARENTS = "control-groups"
SCRATCH = Path("/dev/shm")
"""Where exports keep their short-lived repositories, if it is there."""


def start_time(pid: int) -> int | None:
    """When a process started, in clock ticks since boot; None when it is gone (a zombie is gone)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def owner_tag() -> str:
    """`pid-start` of this process: part of the name of everything it leases."""
    return f"{os.getpid()}-{start_time(os.getpid())}"


def alive(tag: str) -> bool:
    """Whether the process that a `pid-start` tag names still runs."""
    pid, _, started = tag.partition("-")
    return pid.isdigit() and started.isdigit() and start_time(int(pid)) == int(started)


@dataclass(frozen=True, slots=True)
class Lease:
    """The lease file of one keeper."""

    path: Path

    @classmethod
    def write(cls, home: Home, keeper: int, groups: Path | None) -> Lease:
        """Note that this process owns a keeper, and below which directory it makes control groups."""
        if groups is not None and groups not in _group_parents(home):
            with (home.leases / _PARENTS).open("a") as file:
                file.write(f"{groups}\n")
        path = home.leases / f"{owner_tag()}-{keeper}.json"
        path.write_text(json.dumps({"keeper": f"{keeper}-{start_time(keeper)}", "since": time.time()}) + "\n")
        return cls(path)

    def release(self) -> None:
        """The keeper has ended."""
        self.path.unlink(missing_ok=True)


def hold(path: Path) -> int:
    """A shared lock on a file, made if need be: what it stands for is in use until the descriptor is closed.

    The file may be removed between opening and locking: then again.
    """
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(descriptor).st_ino:
                os.utime(descriptor)
                return descriptor
        os.close(descriptor)


def last_use(path: Path) -> float:
    """When a lock file was last taken, in seconds since the epoch; 0 when it is gone."""
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


@contextlib.contextmanager
def unused(lock: Path) -> Iterator[bool]:
    """Whether nobody holds a lock file; while it is True nobody can come in between."""
    try:
        file = lock.open("rb")
    except FileNotFoundError:
        yield False
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def prune_layers(home: Home, *, keep: int, older_than: float = 0.0, dry_run: bool = False) -> list[str]:
    """Remove unused layers beyond the `keep` used last, if unused for `older_than` seconds; their names."""
    return prune(home.layers, keep=keep, older_than=older_than, dry_run=dry_run)


def prune_environments(home: Home, *, older_than: float, dry_run: bool = False) -> list[str]:
    """Remove environments that nobody has used for `older_than` seconds; their names."""
    return prune(home.envs, keep=0, older_than=older_than, dry_run=dry_run)


def prune(folder: Path, *, keep: int, older_than: float = 0.0, dry_run: bool = False) -> list[str]:
    """Remove what no lock file `NAME.use` of a folder stands for any more; the names removed."""
    locks = sorted(folder.glob("*.use"), key=last_use)
    removed = []
    for lock in locks[: max(0, len(locks) - keep)]:
        if time.time() - last_use(lock) < older_than:
            break
        if remove_unused(lock, dry_run=dry_run):
            removed.append(lock.name.removesuffix(".use"))
    return removed


def remove_unused(lock: Path, *, dry_run: bool = False) -> bool:
    """Remove what a lock file `NAME.use` stands for, and the lock; False where somebody holds it."""
    with unused(lock) as free:
        if free and not dry_run:
            remove_tree(lock.with_name(lock.name.removesuffix(".use")))
            lock.unlink(missing_ok=True)
        return free


def remove_tree(path: Path) -> None:
    """Remove a directory; renamed first, so that a half-removed one never looks whole."""
    gone = path.with_name(f".part-{owner_tag()}-gone-{path.name}")
    with contextlib.suppress(FileNotFoundError):
        path.rename(gone)
    with contextlib.suppress(OSError):
        remove(gone)


@dataclass(frozen=True, slots=True, kw_only=True)
class GcReport:
    """What `gc` removed, or would remove."""

    dry_run: bool
    leases: tuple[str, ...] = ()
    """Owners that are dead."""
    keepers: tuple[int, ...] = ()
    """Processes that had outlived them (pids)."""
    control_groups: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()
    """Half-built and temporary directories."""
    layers: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    seconds: float = field(default=0.0, compare=False)


def gc(
    home: Home | None = None,
    *,
    dry_run: bool = False,
    layer_seconds: float = LAYER_SECONDS,
    environment_seconds: float = ENVIRONMENT_SECONDS,
) -> GcReport:
    """Remove what dead owners left, and layers and environments unused for so many seconds."""
    begin = time.monotonic()
    home = home or open_home()
    leases, keepers = _reap_leases(home, dry_run)
    return GcReport(
        dry_run=dry_run,
        leases=leases,
        keepers=keepers,
        control_groups=_reap_groups(home, dry_run),
        directories=_reap_directories(home, dry_run),
        layers=tuple(prune_layers(home, keep=0, older_than=layer_seconds, dry_run=dry_run)),
        environments=tuple(prune_environments(home, older_than=environment_seconds, dry_run=dry_run)),
        seconds=time.monotonic() - begin,
    )


def reap(home: Home) -> None:
    """The quick part of `gc`, done at every start: what dead owners left."""
    _reap_leases(home, dry_run=False)
    _reap_groups(home, dry_run=False)
    _reap_directories(home, dry_run=False)


def _reap_leases(home: Home, dry_run: bool) -> tuple[tuple[str, ...], tuple[int, ...]]:
    names, pids = [], []
    for path in sorted(home.leases.glob("*.json")):
        if alive("-".join(path.stem.split("-")[:2])):
            continue
        names.append(path.stem)
        keeper = _keeper_of(path)
        if keeper and alive(keeper):
            pids.append(int(keeper.partition("-")[0]))
            if not dry_run:
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pids[-1], signal.SIGKILL)
        if not dry_run:
            path.unlink(missing_ok=True)
    return tuple(names), tuple(pids)


def _keeper_of(path: Path) -> str:
    try:
        return str(json.loads(path.read_text())["keeper"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""  # torn by the owner's death: the keeper, if any, sees that death by itself


def _group_parents(home: Home) -> list[Path]:
    """Where control groups were ever made: a dead owner may have had a group of its own."""
    try:
        return [Path(line) for line in (home.leases / _PARENTS).read_text().splitlines()]
    except FileNotFoundError:
        return []


def _reap_groups(home: Home, dry_run: bool) -> tuple[str, ...]:
    from gym_code.sandbox.cgroups import leased_groups

    found = []
    for tag, path in leased_groups(_group_parents(home)):
        if not alive(tag):
            found.append(str(path))
            if not dry_run:
                with contextlib.suppress(OSError):
                    path.rmdir()
    return tuple(found)


def _reap_directories(home: Home, dry_run: bool) -> tuple[str, ...]:
    found = []
    places = [(folder, ".part-") for folder in (home.layers, home.envs, home.bases)]
    places += [(home.boxes, ""), (SCRATCH, "gym-code-git-")]
    for folder, prefix in places:
        for path in folder.glob(f"{prefix}*") if folder.is_dir() else ():
            tag = "-".join(path.name.removeprefix(prefix).split("-")[:2])
            if not alive(tag):
                found.append(str(path))
                if not dry_run:
                    with contextlib.suppress(OSError):
                        remove(path)
    return tuple(found)
