"""A container's standard streams over one attached connection: what boxes and keepers of the Docker backend
speak through.

The daemon frames what a container writes: a byte for the stream (1 output, 2 error), three zeros, a u32 size
(big-endian), and the bytes. Output is the protocol; what comes as errors is kept to explain an end.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn, cast

from gym_code.errors import SandboxClosed, SandboxError
from gym_code.sandbox.link import FRAME_BYTES, hang_up, receive_exactly

if TYPE_CHECKING:
    from docker import APIClient

ERROR_BYTES = 4000
"""How much of the last words of a container is kept."""
PIECE_BYTES = 1 << 18
START_SECONDS = 60.0
REQUEST_SECONDS = 180.0


class Attached:
    """The streams of a container as one socket (see `link.Stream`)."""

    def __init__(self, client: APIClient, container: str) -> None:
        ways = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
        self._holder = client.attach_socket(container, params=ways)
        """Owns the connection: what it belongs to must not be collected."""
        self._socket = getattr(self._holder, "_sock", self._holder)
        self._buffer = bytearray()
        self._left = 0
        self.errors = b""

    def settimeout(self, value: float | None, /) -> None:
        """How long the next calls may take, in seconds."""
        self._socket.settimeout(value)

    def sendall(self, data: bytes, /) -> None:
        """Write to the container's standard input."""
        self._socket.sendall(data)

    def recv_into(self, buffer: memoryview, /) -> int:
        """Some bytes of the container's output; 0 at its end."""
        while not self._left:
            if not self._fill(8):
                return 0
            kind, size = struct.unpack(">BxxxI", self._buffer[:8])
            del self._buffer[:8]
            if kind == 1:
                self._left = size
            elif not self._fill(size):
                return 0
            else:
                self.errors = (self.errors + bytes(self._buffer[:size]))[-ERROR_BYTES:]
                del self._buffer[:size]
        if not self._fill(1):
            return 0
        count = min(len(buffer), self._left, len(self._buffer))
        buffer[:count] = self._buffer[:count]
        del self._buffer[:count]
        self._left -= count
        return count

    def fileno(self) -> int:
        """The descriptor to wait on."""
        return int(self._socket.fileno())

    def _fill(self, size: int) -> bool:
        """Whether at least `size` bytes are in the buffer."""
        while len(self._buffer) < size:
            data = self._socket.recv(PIECE_BYTES)
            if not data:
                return False
            self._buffer += data
        return True

    def shutdown(self, how: int, /) -> None:
        """Hang up: the container sees the end of its standard input. Raises OSError."""
        self._socket.shutdown(how)

    def close(self) -> None:
        """Hang up and give the descriptor back."""
        with contextlib.suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)  # the client's own reference would keep it open
        self._socket.close()
        self._holder.close()


class AttachedKeeper:
    """The keeper in its container. Thread-safe (see `link.LayerKeeper`)."""

    def __init__(self, stream: Attached) -> None:
        self._stream = stream
        self._lock = threading.Lock()
        self.lost = False
        self.quota = False

    def wait_ready(self) -> str:
        """Until it has come up; what keeps it from mounting layers here, if anything."""
        with self._lock:
            hello = self._reply(START_SECONDS)
        self.quota = bool(hello["quota"])
        return str(hello["problem"])

    def request(self, op: str, **fields: Any) -> dict[str, Any]:
        """One request and its reply. Raises `SandboxError` with the keeper's words."""
        with self._exchange():
            self._send(json.dumps({"op": op, **fields}).encode())
            return self._reply(REQUEST_SECONDS)

    def export(self, *, seconds: float, **fields: Any) -> Iterator[bytes]:
        """The change set of some layers, in pieces."""
        with self._exchange():
            self._send(json.dumps({"op": "export", "seconds": seconds, **fields}).encode())
            self._reply(REQUEST_SECONDS)
            # The keeper gives up after `seconds` and says so; to lose it would end all boxes.
            deadline = time.monotonic() + seconds + REQUEST_SECONDS
            pieces = []
            while piece := self._frame(deadline):
                pieces.append(piece)
        return iter(pieces)

    def store(self, name: str, layer: Path) -> None:
        """Have it keep a copy of a start layer, owned by the boxes' uid."""
        with self._exchange():
            self._send(json.dumps({"op": "store", "name": name}).encode())
            try:
                with tarfile.open(fileobj=cast("IO[bytes]", _Frames(self)), mode="w|") as archive:
                    archive.add(layer, arcname=".", filter=_nobodys)
            except OSError as error:
                self._lose(f"cannot be sent a start layer: {error}", error)
            self._send(b"")
            self._reply(REQUEST_SECONDS)

    def close(self) -> None:
        """Hang up; it ends, and everything it made goes with it."""
        self.lost = True
        hang_up(self._stream, self._lock)

    @contextlib.contextmanager
    def _exchange(self) -> Iterator[None]:
        """A request and all of its reply: one that is interrupted would leave it to a later request."""
        with self._lock:
            try:
                yield
            except SandboxError:
                raise
            except BaseException:
                self.lost = True
                self._stream.close()
                raise

    def _send(self, body: bytes) -> None:
        if self.lost:
            raise SandboxClosed("the keeper is gone")
        try:
            self._stream.settimeout(REQUEST_SECONDS)
            self._stream.sendall(struct.pack(">I", len(body)) + body)
        except OSError as error:
            self._lose(f"cannot be written to: {error}", error)

    def _reply(self, seconds: float) -> dict[str, Any]:
        reply: dict[str, Any] = json.loads(self._frame(time.monotonic() + seconds))
        if "error" in reply:
            raise SandboxError(f"keeper: {reply['error']}")
        return reply

    def _frame(self, deadline: float) -> bytes:
        (size,) = struct.unpack(">I", self._exactly(4, deadline))
        if size > FRAME_BYTES:
            self._lose(f"announces {size} bytes", None)
        return self._exactly(size, deadline)

    def _exactly(self, size: int, deadline: float) -> bytes:
        try:
            data = receive_exactly(self._stream, size, deadline)
        except OSError as error:  # a time-out too: its late reply would be taken for a later one's
            self._lose(f"does not answer: {error}", error)
        if len(data) < size:
            self._lose("has ended", None)
        return data

    def _lose(self, what: str, cause: BaseException | None) -> NoReturn:
        self.lost = True
        self._stream.close()
        words = self._stream.errors.decode("utf-8", "replace").strip()
        raise SandboxClosed(f"the keeper's container {what}" + (f": {words}" if words else "")) from cause


class _Frames:
    """A file to write an archive to, sent piece by piece."""

    def __init__(self, keeper: AttachedKeeper) -> None:
        self._keeper = keeper

    def write(self, data: bytes) -> int:
        """Send one piece."""
        if data:
            self._keeper._send(bytes(data))
        return len(data)


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """The owner is the keeper's business."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member
