"""One script in a container that is thrown away, and what it wrote: how a foreign harness is run.

Root inside, as their scripts expect, without network or new privileges, and of root's capabilities with
those over files alone: a tree may belong to somebody else. What `run_script` makes carries our labels:
`gym-code gc` removes what a killed owner left, and by itself a container ends soon after its time is up.
"""

from __future__ import annotations

import contextlib
import io
import math
import struct
import tarfile
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from gym_code.errors import SandboxError
from gym_code.sandbox.docker import STOP_SIGNAL, ended_for_memory, remove_container
from gym_code.sandbox.dockerd import connect, labels, translated
from gym_code.types import Cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from docker import APIClient

    from gym_code.types import Limits

OUTPUT_BYTES = 32 << 20
"""Most bytes of output that are kept: half from its beginning, half from its end."""
DISK_BYTES = 8 << 30
"""Most bytes that a container may write to its root."""
DISK_SECONDS, POLL_SECONDS, END_SECONDS = 10.0, 0.5, 30.0
GRACE_SECONDS = 60
"""After its time a container without an owner has this long left."""
CAPABILITIES = ("CHOWN", "DAC_OVERRIDE", "FOWNER")
_KILLED = 137
_SCRIPT = "/gym-code.sh"
_FIRST = f"""\
exec 2>&1
if command -v timeout >/dev/null; then timeout -s KILL "$1" /bin/bash {_SCRIPT}; else /bin/bash {_SCRIPT}; fi
exit 0
"""
"""Process 1: nothing inside can end it, and all inside ends with it. One pipe keeps the order of lines."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """How a script ended."""

    output: bytes
    """Standard output and error in the order of writing, the middle of very much left out."""
    left_out: int
    """Bytes of it that were not kept."""
    seconds: float
    cause: Cause = Cause.EXITED
    """`KILLED`: it wrote more than `DISK_BYTES`."""


def run_script(image: str, script: str, files: Mapping[str, bytes], *, limits: Limits, timeout: float) -> Ran:
    """Run a bash script in a new container of an image (its id), with these files at absolute paths.

    It is ended with all it started after `timeout` seconds; `limits.memory_bytes` and `limits.processes`
    hold. The container is gone when this returns. Raises `SandboxError` where it failed or was ended from
    outside, `SandboxUnavailable` where the daemon is gone.
    """
    client = connect()
    container = None
    try:
        with translated("start a container for a script"):
            container = _create(client, image, limits, math.ceil(timeout) + GRACE_SECONDS)
            client.put_archive(container, "/", _packed({_SCRIPT: script.encode(), **files}))
            stream = _Stream(client, container)
            client.start(container)
        with contextlib.closing(stream):
            return _follow(client, container, stream, timeout)
    finally:
        try:
            if container is not None:
                remove_container(client, container)
        finally:
            client.close()


def _create(client: APIClient, image: str, limits: Limits, seconds: int) -> str:
    host = client.create_host_config(
        network_mode="none",
        cap_drop=["ALL"],
        cap_add=list(CAPABILITIES),
        security_opt=["no-new-privileges:true"],
        ipc_mode="private",
        mem_limit=limits.memory_bytes,
        memswap_limit=limits.memory_bytes,
        pids_limit=limits.processes,
        log_config={"Type": "none"},
    )
    made = client.create_container(
        image,
        command=["-c", _FIRST, "gym-code", str(seconds)],
        entrypoint=["/bin/bash"],
        user="root",
        stop_signal=STOP_SIGNAL,
        labels=labels("harness"),
        host_config=host,
    )
    return str(made["Id"])


def _packed(files: Mapping[str, bytes]) -> bytes:
    """The files as an archive for the root directory."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path.lstrip("/"))
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _follow(client: APIClient, container: str, stream: _Stream, timeout: float) -> Ran:
    """Take the output until the container has ended, or is ended for a limit."""
    kept, cause = _Kept(OUTPUT_BYTES), Cause.EXITED
    began = looked = time.monotonic()
    for piece in stream.pieces():
        kept.add(piece)
        now = time.monotonic()
        if now - began > timeout:
            cause = Cause.TIMED_OUT
            break
        if now - looked > DISK_SECONDS:
            looked = now
            if _written(client, container) > DISK_BYTES:
                cause = Cause.KILLED
                break
    else:
        with translated("ask how a script ended"):
            status = client.wait(container, timeout=END_SECONDS)["StatusCode"]
        if status == _KILLED:
            if not ended_for_memory(client, container):
                raise SandboxError("a container was killed from outside while its script ran")
            cause = Cause.OUT_OF_MEMORY
    output = kept.bytes()
    return Ran(output=output, left_out=kept.left_out, seconds=time.monotonic() - began, cause=cause)


def _written(client: APIClient, container: str) -> int:
    with translated("ask what a container wrote"):
        rows = client.containers(all=True, size=True, filters={"id": container})
    return int(rows[0].get("SizeRw") or 0) if rows else 0


class _Stream:
    """The output of a container, attached to before it starts: nothing is missed."""

    def __init__(self, client: APIClient, container: str) -> None:
        self._holder: Any = client.attach_socket(container, params={"stdout": 1, "stderr": 1, "stream": 1})
        self._socket = getattr(self._holder, "_sock", self._holder)
        self._socket.settimeout(POLL_SECONDS)

    def pieces(self) -> Iterator[bytes]:
        """What comes, until the end; empty where nothing came for a while.

        The daemon frames it: eight bytes, of which the last four are the size of what follows.
        """
        header, left = b"", 0
        while True:
            try:
                piece = self._socket.recv(1 << 16 if left else 8 - len(header))
            except TimeoutError:
                yield b""
                continue
            except OSError as error:
                raise SandboxError(f"the stream of a container broke: {error}") from error
            if not piece:
                return
            while piece:
                if left:
                    yield piece[:left]
                    piece, left = piece[left:], left - min(left, len(piece))
                    continue
                header, piece = header + piece[: 8 - len(header)], piece[8 - len(header) :]
                if len(header) == 8:
                    left, header = struct.unpack(">I", header[4:])[0], b""

    def close(self) -> None:
        """Hang up."""
        self._holder.close()


class _Kept:
    """The first and the last bytes of what is added."""

    def __init__(self, most: int) -> None:
        self._half, self._head, self._tail = most // 2, bytearray(), bytearray()
        self.left_out = 0

    def add(self, piece: bytes) -> None:
        room = self._half - len(self._head)
        self._head += piece[:room]
        self._tail += piece[room:]
        if len(self._tail) > 2 * self._half:
            self._cut()

    def bytes(self) -> bytes:
        """All of it, with a note where something is left out."""
        self._cut()
        note = f"\n[gym-code: {self.left_out} bytes of output left out here]\n" if self.left_out else ""
        return bytes(self._head) + note.encode() + bytes(self._tail)

    def _cut(self) -> None:
        more = max(len(self._tail) - self._half, 0)
        self.left_out += more
        del self._tail[:more]
