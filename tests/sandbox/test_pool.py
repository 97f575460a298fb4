"""Boxes launched ahead of need, with launches that fail."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

import pytest

from gym_code.errors import SandboxClosed, SandboxError
from gym_code.sandbox.link import GuestLink
from gym_code.sandbox.pool import Key, Pool
from gym_code.types import JSON, Limits


class Up(GuestLink):
    """A supervisor that is always up."""

    def __init__(self) -> None:
        stream = socket.socket()
        stream.close()  # nothing is ever said
        super().__init__(stream)
        self._ready = True

    def quiet(self) -> bool:
        return True


@dataclass
class Toy:
    number: int
    guest: GuestLink
    ended: bool = False
    counts_processes = True

    @property
    def address(self) -> Mapping[str, JSON]:
        return {"box": self.number}

    def limit(self, limits: Limits) -> None:
        pass

    def kills(self) -> int:
        return 0

    def end(self) -> None:
        self.ended = True


class Yard:
    """Launches toys; while `broken` every launch fails."""

    def __init__(self) -> None:
        self.made: list[Toy] = []
        self.tries = 0
        self.broken = False
        self.lock = threading.Lock()

    def launch(self, key: Key) -> Toy:
        with self.lock:
            self.tries += 1
            if self.broken:
                raise SandboxError("no more")
            self.made.append(Toy(len(self.made), Up()))
            return self.made[-1]


def eventually(number: int, yard: Yard) -> bool:
    deadline = time.monotonic() + 5
    while len(yard.made) != number and time.monotonic() < deadline:
        time.sleep(0.005)
    return len(yard.made) == number


def test_spare_boxes_are_launched_and_no_more() -> None:
    yard = Yard()
    pool = Pool(yard.launch, 3, workers=2)
    pool.warm(("a",))
    assert eventually(3, yard)
    pool.take(("a",))
    assert eventually(4, yard)
    time.sleep(0.05)
    assert len(yard.made) == 4
    pool.close()
    assert [toy.ended for toy in yard.made].count(False) == 1  # the one that was taken
    with pytest.raises(SandboxClosed):
        pool.take(("a",))


def test_failures_are_reported_and_do_not_end_the_supply() -> None:
    yard = Yard()
    yard.broken = True
    pool = Pool(yard.launch, 2)
    with pytest.raises(SandboxError, match="no more"):
        pool.take(("a",))
    time.sleep(0.05)
    assert yard.tries <= 4  # not in a loop
    yard.broken = False
    pool.take(("a",))
    assert eventually(3, yard)
    pool.close()


def test_keys_used_long_ago_give_their_boxes_back() -> None:
    yard = Yard()
    pool = Pool(yard.launch, 1, keys=1)
    pool.warm(("a",))
    assert eventually(1, yard)
    pool.warm(("b",))
    assert eventually(2, yard)
    assert [toy.ended for toy in yard.made] == [True, False]
    pool.close()
