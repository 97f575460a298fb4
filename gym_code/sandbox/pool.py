"""Boxes launched ahead of need: a box without a repository costs a process start, which nobody should wait
for."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Protocol

from gym_code.errors import SandboxClosed, SandboxError
from gym_code.sandbox.link import GuestLink
from gym_code.types import JSON, Limits

Key = tuple[str, ...]
"""What a box is launched with."""


class Blank(Protocol):
    """A launched box that holds no repository yet."""

    @property
    def guest(self) -> GuestLink:
        """The link to its supervisor."""

    @property
    def counts_processes(self) -> bool:
        """Whether it limits its number of processes by itself."""

    @property
    def address(self) -> Mapping[str, JSON]:
        """How the keeper is told which box is meant."""

    def limit(self, limits: Limits, held: int = 0) -> None:
        """Set what the box as a whole may use; held: bytes of its memory that lie in frozen layers."""

    def kills(self) -> int:
        """How many of its processes the kernel has killed for memory so far."""

    def end(self) -> None:
        """End every process of it. Idempotent."""


class Pool:
    """Blank boxes by key. Thread-safe. `spare` boxes are kept for each of the keys used last."""

    def __init__(
        self, launch: Callable[[Key], Blank], spare: int, *, keys: int = 4, workers: int = 1
    ) -> None:
        self._launch, self._spare, self._keys, self._most = launch, spare, keys, workers
        self._blanks: dict[Key, deque[Blank]] = {}
        self._changed = threading.Condition()
        self._coming: dict[Key, int] = {}
        """Boxes that workers are launching just now."""
        self._workers: list[threading.Thread] = []
        self._closed = False

    def take(self, key: Key) -> Blank:
        """A box whose supervisor is up: a spare one, or a new one."""
        while (spare := self._next(key)) is not None:
            if _usable(spare):
                return spare
            spare.end()
        blank = self._launch(key)
        try:
            blank.guest.wait_ready()
        except SandboxError:
            blank.end()
            raise
        return blank

    def _next(self, key: Key) -> Blank | None:
        """The spare box that has waited longest, if any."""
        with self._changed:
            if self._closed:
                raise SandboxClosed("the backend was closed")
            waiting = self._blanks.setdefault(key, deque())
            self._blanks[key] = self._blanks.pop(key)  # the key used last stands last
            self._changed.notify_all()
            self._start_workers()
            return waiting.popleft() if waiting else None

    def warm(self, key: Key) -> None:
        """Let spare boxes of a key be launched."""
        with self._changed:
            self._blanks.setdefault(key, deque())
            self._changed.notify_all()
            self._start_workers()

    def drop(self, unwanted: Callable[[Key], bool]) -> None:
        """End the spare boxes of some keys."""
        with self._changed:
            blanks = [blank for key in list(self._blanks) if unwanted(key) for blank in self._blanks.pop(key)]
        for blank in blanks:
            blank.end()

    def close(self) -> None:
        """Launch no more; the keeper's end takes the spare boxes along."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join()
        for waiting in self._blanks.values():
            for blank in waiting:
                blank.end()

    def _start_workers(self) -> None:
        if not self._workers and self._spare:
            for number in range(self._most):
                worker = threading.Thread(target=self._refill, name=f"gym-code-pool-{number}", daemon=True)
                self._workers.append(worker)
                worker.start()

    def _refill(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (key := self._hungry()) is None:
                    self._changed.wait()
                if self._closed:
                    return
                assert key is not None
                self._coming[key] = self._coming.get(key, 0) + 1
            blank = None
            # A `take` that finds none launches one by itself and reports the reason of a failure.
            with contextlib.suppress(SandboxError):
                blank = self._launch(key)
            with self._changed:
                self._coming[key] -= 1
                if blank is not None and key in self._blanks:
                    self._blanks[key].append(blank)
                elif blank is not None:  # its key was dropped meanwhile
                    blank.end()
                elif not self._closed:
                    self._changed.wait()  # until somebody takes a box: not in a loop against a wall

    def _hungry(self) -> Key | None:
        """A key with too few boxes; boxes of keys long unused are ended meanwhile."""
        keys = list(self._blanks)
        for old in keys[: -self._keys]:
            for blank in self._blanks.pop(old):
                blank.end()
        for key in reversed(keys[-self._keys :]):
            if len(self._blanks[key]) + self._coming.get(key, 0) < self._spare:
                return key
        return None


def _usable(blank: Blank) -> bool:
    """Whether a spare box is still there: somebody may have removed it while it waited."""
    try:
        blank.guest.wait_ready()
    except SandboxError:
        return False
    return blank.guest.quiet()
