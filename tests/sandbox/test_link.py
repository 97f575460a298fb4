"""The links to supervisors and keepers, when a box is closed by another thread than the one that uses it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from typing import Any, cast

import pytest

from gym_code.errors import SandboxClosed
from gym_code.sandbox.attached import Attached, AttachedKeeper
from gym_code.sandbox.link import GuestLink


class Watched:
    """A socket that tells when it is waited on, and whether its descriptor went away meanwhile."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self.waiting, self.closed = threading.Event(), threading.Event()
        self.lost = False

    def recv_into(self, buffer: memoryview) -> int:
        self.waiting.set()
        count = self._inner.recv_into(buffer)
        self.lost = self.closed.wait(0.3)
        return count

    def close(self) -> None:
        self.closed.set()
        self._inner.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def guest(stream: Any) -> tuple[Callable[[], object], Callable[[], None]]:
    link = GuestLink(stream)
    return lambda: link.request([b"exec"], 30), link.close


def keeper(stream: Any) -> tuple[Callable[[], object], Callable[[], None]]:
    link = AttachedKeeper(cast("Attached", stream))
    stream.errors = b""
    return lambda: link.request("drop", layers=[]), link.close


@pytest.mark.parametrize("kind", [guest, keeper])
def test_law_8_a_descriptor_goes_back_when_nobody_waits_on_it(kind: Any) -> None:
    """Its number would be another connection's, and the thread would wait for that one to speak."""
    ours, theirs = socket.socketpair()
    stream = Watched(ours)
    use, close = kind(stream)
    raised: list[BaseException] = []

    def work() -> None:
        try:
            use()
        except SandboxClosed as error:
            raised.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    assert stream.waiting.wait(20)
    close()
    worker.join(20)
    theirs.close()
    assert not worker.is_alive()
    assert len(raised) == 1
    assert stream.closed.is_set()
    assert not stream.lost
