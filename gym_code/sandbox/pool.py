"""Boxes launched ahead of need: a box without a repository costs a process start, which nobody should wait
for."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from dataclasses import dataclass, replace

from gym_code.errors import SandboxClosed, SandboxError
from gym_code.sandbox.cgroups import Group, Groups
from gym_code.sandbox.link import GuestLink, KeeperLink

Key = tuple[str, ...]
"""The bubblewrap command of a box."""


@dataclass(frozen=True, slots=True)
class Blank:
    """A launched box that holds no repository yet."""

    number: int
    guest: GuestLink
    group: Group | None


class Pool:
    """Blank boxes by key. Thread-safe. `spare` boxes are kept for each of the keys used last."""

    def __init__(self, keeper: KeeperLink, groups: Groups | None, spare: int, *, keys: int = 4) -> None:
        self._keeper, self._groups, self._spare, self._keys = keeper, groups, spare, keys
        self._blanks: dict[Key, deque[Blank]] = {}
        self._changed = threading.Condition()
        self._worker: threading.Thread | None = None
        self._closed = False

    def take(self, key: Key) -> Blank:
        """A box whose supervisor is up: a spare one, or a new one."""
        with self._changed:
            if self._closed:
                raise SandboxClosed("the backend was closed")
            waiting = self._blanks.setdefault(key, deque())
            self._blanks[key] = self._blanks.pop(key)  # the key used last stands last
            blank = waiting.popleft() if waiting else None
            self._changed.notify_all()
            self._start_worker()
        if blank is None:
            blank = self._launch(key)
        try:
            blank.guest.wait_ready()
        except SandboxError:
            self.discard(blank)
            raise
        return blank

    def warm(self, key: Key) -> None:
        """Let spare boxes of a key be launched."""
        with self._changed:
            self._blanks.setdefault(key, deque())
            self._changed.notify_all()
            self._start_worker()

    def discard(self, blank: Blank) -> None:
        """End a box that was never handed out, or could not be used."""
        blank.guest.close()
        with contextlib.suppress(SandboxError):
            self._keeper.request("destroy", box=blank.number, layers=[])
        if blank.group is not None:
            blank.group.remove()

    def close(self) -> None:
        """Launch no more; the keeper's end takes the spare boxes along."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._worker is not None:
            self._worker.join()
        for waiting in self._blanks.values():
            for blank in waiting:
                self.discard(blank)

    def _launch(self, key: Key) -> Blank:
        """Start a box, inside its control group from the first instruction on."""
        reply, (control, go) = self._keeper.request("launch", argv=list(key), held=self._groups is not None)
        blank = Blank(reply["box"], GuestLink(control), None)
        try:
            if self._groups is not None:
                blank = replace(blank, group=self._groups.make())
                assert blank.group is not None
                blank.group.add(reply["pid"])
                os.write(go, b"g")
        except OSError as error:
            self.discard(blank)
            raise SandboxError(f"cannot put a box into its control group: {error}") from error
        finally:
            os.close(go)
        return blank

    def _start_worker(self) -> None:
        if self._worker is None and self._spare:
            self._worker = threading.Thread(target=self._refill, name="gym-code-pool", daemon=True)
            self._worker.start()

    def _refill(self) -> None:
        while True:
            with self._changed:
                while not self._closed and (key := self._hungry()) is None:
                    self._changed.wait()
                if self._closed:
                    return
                assert key is not None
            try:
                blank = self._launch(key)
            except SandboxError:
                return  # the next `take` launches by itself and reports the reason
            with self._changed:
                self._blanks.setdefault(key, deque()).append(blank)

    def _hungry(self) -> Key | None:
        """A key with too few boxes; boxes of keys long unused are ended meanwhile."""
        keys = list(self._blanks)
        for old in keys[: -self._keys]:
            for blank in self._blanks.pop(old):
                self.discard(blank)
        for key in reversed(keys[-self._keys :]):
            if len(self._blanks[key]) < self._spare:
                return key
        return None
