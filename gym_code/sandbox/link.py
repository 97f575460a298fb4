"""The owner's ends: one link to the keeper, one to the supervisor of each box."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from gym_code.errors import SandboxClosed, SandboxError, SandboxUnavailable
from gym_code.sandbox.guest import Fields, pack, unpack
from gym_code.sandbox.layout import Home
from gym_code.sandbox.lease import owner_tag

START_SECONDS = 20.0
"""How long a keeper or a supervisor may take to come up on a loaded machine."""
FRAME_BYTES = 300 << 20
"""No honest reply is larger (guest.READ_BYTES and its overhead)."""

_BOOT = "import sys; sys.path.insert(0, {root!r}); from gym_code.sandbox import keeper; keeper.main()"


class LayerKeeper(Protocol):
    """What boxes need of a keeper, wherever it runs."""

    lost: bool
    """Whether it is gone, or has not answered in time: then it is of no use any more."""
    quota: bool
    """Whether what boxes write is limited in size."""

    def request(self, op: str, **fields: Any) -> dict[str, Any]:
        """One request and its reply. Raises `SandboxError` with the keeper's words."""

    def export(self, *, seconds: float, **fields: Any) -> Iterator[bytes]:
        """The change set of some layers, in pieces. Raises `SandboxError` when it does not come in time."""

    def close(self) -> None:
        """End the keeper; everything it made goes with it."""


class KeeperLink:
    """A keeper process on this machine and the socket to it. Thread-safe."""

    def __init__(self, home: Home) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        root = str(Path(__file__).resolve().parents[2])
        command = [sys.executable, "-I", "-S", "-B", "-c", _BOOT.format(root=root)]
        command += [str(theirs.fileno()), str(home.uid), str(home.root), owner_tag()]
        self.process = subprocess.Popen(
            command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, cwd="/"
        )
        theirs.close()
        self._socket = ours
        self._lock = threading.Lock()
        self.lost = False
        ours.settimeout(START_SECONDS)
        hello, _ = self._receive()
        if hello["problem"]:
            self.close()
            raise SandboxUnavailable(
                f"no overlay in a user namespace here: {hello['problem']}; boot Linux 5.11 or later"
            )
        self.quota = bool(hello["quota"])
        """Whether what boxes write is limited in size."""

    def request(self, op: str, **fields: Any) -> dict[str, Any]:
        """One request and its reply. Raises `SandboxError` with the keeper's words."""
        return self.call(op, **fields)[0]

    def export(self, *, seconds: float, **fields: Any) -> Iterator[bytes]:
        """The change set of some layers, in pieces."""
        _, (pipe,) = self.call("export", seconds=seconds, **fields)
        try:
            yield from pieces(pipe, seconds)
        finally:
            os.close(pipe)

    def call(self, op: str, fds: tuple[int, ...] = (), **fields: Any) -> tuple[dict[str, Any], list[int]]:
        """One request, its reply and the descriptors with it. Raises `SandboxError` with the keeper's words.

        After a reply that did not come in time the link is of no use any more: the late reply would be
        taken for that of a later request.
        """
        data = json.dumps({"op": op, **fields}).encode()
        with self._lock:
            if self.lost:
                raise SandboxClosed("the keeper has not answered an earlier request")
            try:
                socket.send_fds(self._socket, [data], list(fds))
                return self._receive()
            except OSError as error:
                self.lost = True
                self._socket.close()
                raise SandboxClosed(f"the keeper is gone: {error}") from error
            except KeyboardInterrupt:  # the same holds for a reply that was not waited for
                self.lost = True
                self._socket.close()
                raise

    def _receive(self) -> tuple[dict[str, Any], list[int]]:
        try:
            data, fds, _, _ = socket.recv_fds(self._socket, 1 << 17, 4)
        except OSError as error:
            self.lost = True
            self._socket.close()  # the keeper, once it runs again, sees that and ends
            raise SandboxError(f"the keeper does not answer: {error}") from error
        if not data:
            self.lost = True
            raise SandboxClosed("the keeper is gone")
        reply = json.loads(data)
        if "error" in reply:
            for fd in fds:
                os.close(fd)
            raise SandboxError(f"keeper: {reply['error']}")
        return reply, fds

    def close(self) -> None:
        """End the keeper; everything it made goes with it."""
        with self._lock:
            self._socket.close()
        try:
            self.process.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Stream(Protocol):
    """What a link needs of a socket."""

    def settimeout(self, value: float | None, /) -> None:
        """How long the next calls may take, in seconds."""

    def sendall(self, data: bytes, /) -> None:
        """Send everything. Raises OSError."""

    def recv_into(self, buffer: memoryview, /) -> int:
        """Receive something; 0 at the end of the stream. Raises TimeoutError, OSError."""

    def fileno(self) -> int:
        """The descriptor to wait on."""

    def shutdown(self, how: int, /) -> None:
        """Hang up; the descriptor stays. Whoever waits in a call finds the end. Raises OSError."""

    def close(self) -> None:
        """Give the descriptor back."""


def hang_up(stream: Stream, use: AbstractContextManager[object]) -> None:
    """End a stream that another thread may be waiting on, which `use` is held for.

    Its descriptor is given back when that thread has seen the end, not before: its number could by then be
    another connection's, and the thread would wait on that one.
    """
    with contextlib.suppress(OSError):
        stream.shutdown(socket.SHUT_RDWR)
    with use:
        stream.close()


def receive_exactly(stream: Stream, size: int, deadline: float) -> bytes:
    """`size` bytes, or fewer at the end of the stream; deadline: of `time.monotonic`. Raises OSError."""
    data = bytearray(size)
    view = memoryview(data)
    while view:
        stream.settimeout(max(0.001, deadline - time.monotonic()))
        count = stream.recv_into(view)
        if count == 0:
            return bytes(data[: size - len(view)])
        view = view[count:]
    return bytes(data)


class GuestLink:
    """The stream to a box's supervisor. One request at a time."""

    def __init__(self, stream: Stream) -> None:
        self._socket = stream
        self._use = threading.RLock()
        self._ready = False

    def wait_ready(self) -> None:
        """Until the supervisor has come up. Raises `SandboxError`."""
        with self._use:
            if self._ready:
                return
            if self._receive(START_SECONDS) != [b"ready"]:
                raise SandboxError("the supervisor greets with other words than expected")
            self._ready = True

    def request(self, fields: Fields, seconds: float = 60.0) -> Fields:
        """One request and its reply (without `ok`); `err` becomes the OSError it names."""
        with self._use:
            reply = self._exchange(fields, seconds)
        if reply[0] == b"err":
            number = int(reply[1])
            raise OSError(number, reply[2].decode("utf-8", "replace"))
        return reply[1:]

    def _exchange(self, fields: Fields, seconds: float) -> Fields:
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(pack(fields))
            return self._receive(seconds)
        except OSError as error:
            self._socket.close()  # a frame may have gone out in part: nothing after it would be understood
            raise SandboxClosed(f"the supervisor is gone: {error}") from error
        except KeyboardInterrupt:
            self._socket.close()  # or the reply would be taken for that of a later request
            raise

    def _receive(self, seconds: float) -> Fields:
        deadline = time.monotonic() + seconds
        (size,) = struct.unpack(">I", self._exactly(4, deadline))
        if size > FRAME_BYTES:
            raise SandboxError(f"the supervisor announces {size} bytes")
        try:
            return unpack(self._exactly(size, deadline))
        except ValueError as error:
            raise SandboxError(f"the supervisor sends nonsense: {error}") from error

    def _exactly(self, size: int, deadline: float) -> bytes:
        try:
            data = receive_exactly(self._socket, size, deadline)
        except TimeoutError as error:
            self._socket.close()  # or its late reply would be taken for that of a later request
            raise SandboxError("the supervisor does not answer in time") from error
        except OSError as error:
            raise SandboxClosed(f"the supervisor is gone: {error}") from error
        if len(data) < size:
            raise SandboxClosed("the supervisor is gone")
        return data

    def quiet(self) -> bool:
        """Whether nothing has come unasked: a supervisor that is gone is at the end of its stream."""
        poll = select.poll()
        poll.register(self._socket.fileno(), select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        """Hang up: a supervisor that reads this ends, and its box with it."""
        hang_up(self._socket, self._use)


def pieces(pipe: int, seconds: float) -> Iterator[bytes]:
    """What is written to a pipe, up to its end. Raises `SandboxError` when that does not come in time."""
    deadline = time.monotonic() + seconds
    poll = select.poll()
    poll.register(pipe, select.POLLIN)
    while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        piece = os.read(pipe, 1 << 16)
        if not piece:
            return
        yield piece
    raise SandboxError(f"the keeper has not told the changes within {seconds:g} seconds")
