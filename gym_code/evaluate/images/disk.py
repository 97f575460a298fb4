"""Room for images: what was fetched is kept under a cap, and the disk from running full."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from gym_code.errors import SandboxUnavailable
from gym_code.evaluate.images.ledger import Entry, Ledger
from gym_code.evaluate.images.shelves import OnDaemon, Shelf, Unpacked
from gym_code.sandbox.docker import Daemon
from gym_code.sandbox.layout import Home, open_home
from gym_code.sandbox.lease import LAYER_SECONDS, alive

if TYPE_CHECKING:
    from collections.abc import Callable

FLOOR_BYTES, FLOOR_PART = 5 << 30, 0.05
"""So much of a disk stays free, or this part of it where that is less."""


class Disk:
    """Evicts what was fetched, by whatever run, and nobody uses: what was used longest ago goes first."""

    def __init__(self, shelf: Shelf, ledger: Ledger, cap_bytes: int | None) -> None:
        self.shelf, self.ledger, self.cap_bytes = shelf, ledger, cap_bytes

    def room(self, need: int, wanted: Callable[[str], bool], *, capped: bool = True) -> str:
        """Make room for `need` bytes more; why there is none, or nothing.

        wanted: whether an image will be used again in this run: those go last. capped: room under the cap,
        too, not only on the disk.
        """
        entries = self.ledger.entries()
        waiting = sorted(entries, key=lambda entry: wanted(entry.name))
        while problem := self._lack(need, self.cap_bytes if capped else None):
            if not waiting:
                return problem
            self.evict(waiting.pop(0))
        return ""

    def evict(self, entry: Entry, *, dry_run: bool = False) -> bool:
        """Remove an image, unless somebody uses it; whether it is gone (or would be)."""
        with self.ledger.idle(entry.name) as idle:
            current = self.ledger.entry(entry.name)
            gone = idle and (current is None or dry_run or self.shelf.remove(current))
            if gone and not dry_run:
                self.ledger.forget(entry.name)
        return gone

    def _lack(self, need: int, cap: int | None) -> str:
        if cap is not None:
            taken = self.shelf.taken(self.ledger.entries())
            if taken + need > cap:
                return (
                    f"{megabytes(need)} are needed; of the {megabytes(cap)} that fetched images may take,"
                    f" {megabytes(taken)} are in use"
                )
        if (found := self.shelf.free()) is None:
            return ""
        free, total, place = found
        floor = min(FLOOR_BYTES, int(total * FLOOR_PART))
        if free - need >= floor:
            return ""
        return (
            f"{megabytes(need)} are needed; of the {megabytes(free)} that are free at {place},"
            f" {megabytes(floor)} stay so, and no fetched image can go"
        )


def megabytes(count: int) -> str:
    """Bytes for people."""
    return f"{count / 1e6:,.0f} MB"


def collect(home: Home | None = None, *, everything: bool = False, dry_run: bool = False) -> tuple[str, ...]:
    """Remove fetched images that nobody has used for a week, or (`everything`) that nobody uses now.

    What a killed run was just fetching goes at once. Returns the names; without a daemon of what is unpacked.
    """
    home = home or open_home()
    daemon = Daemon()
    shelves: list[Shelf] = [Unpacked(home)]
    with contextlib.suppress(SandboxUnavailable):
        shelves.append(OnDaemon(daemon, home))
    removed = []
    for shelf in shelves:
        disk = Disk(shelf, Ledger(home, shelf.name), None)
        for entry in disk.ledger.entries():
            old = everything or time.time() - disk.ledger.last_use(entry.name) > LAYER_SECONDS
            cut_short = not entry.image and not alive(entry.owner)
            if (old or cut_short) and disk.evict(entry, dry_run=dry_run):
                removed.append(entry.name)
        if not dry_run:
            disk.ledger.sweep()
    daemon.close()
    return tuple(removed)
