"""The keeper of the Docker backend: two processes in one container beside the boxes.

`Keeper` code runs as the boxes' uid in a user namespace of its own, as it does without Docker: it mounts
layers and walks what agents wrote, and has no privilege outside. Beside it stays the *injector*, root with a
few capabilities, which does one thing: it enters the mount namespace of a box, after making sure that the
process still belongs to that container, and attaches the mounts that the keeper hands over.

It speaks over standard input and output: a frame is a u32 length (big-endian) and a body. Requests and
replies are JSON objects; `export` and `store` have frames of data in addition, up to an empty one.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import struct
import sys
import tarfile
from pathlib import Path
from typing import IO, Any, cast

from gym_code.sandbox import mounts, removal
from gym_code.sandbox.guest import read_exactly, write_all
from gym_code.sandbox.keeper import MESSAGE_BYTES, Keeper, Trees, move_in
from gym_code.sandbox.lease import KEPT_LAYERS, LAYER_SECONDS, hold, prune, remove_unused

LAYERS = "/layers"
"""Where the volume of start layers is mounted."""
SCRATCH = "/scratch"
FRAME_BYTES = 1 << 20


class Hangup(Exception):
    """The owner closed its end."""


class ContainerKeeper(Keeper):
    """A keeper that serves a stream and has its mounts attached by the injector."""

    def __init__(self, injector: socket.socket, layers: str) -> None:
        self.injector = injector
        self.layers = layers
        self.own = own_directory(layers)
        self.held: dict[str, int] = {}
        """Locks on the layers in use."""
        prune(Path(layers), keep=KEPT_LAYERS)
        prune(Path(layers), keep=0, older_than=LAYER_SECONDS)
        super().__init__(injector, SCRATCH, os.path.join(self.own, "boxes"))

    def reply(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Send one message."""
        send(json.dumps(message).encode())

    def serve_stream(self) -> None:
        """Until the owner goes away."""
        self.reply({"problem": self.problem, "quota": not self.directory})
        while True:
            request = json.loads(receive())
            try:
                self.dispatch(request, [])
            except OSError as error:
                self.reply({"error": str(error), "errno": error.errno})
            except Hangup:
                raise
            except Exception as error:  # the boundary: one bad request must not end all boxes
                self.reply({"error": f"{type(error).__name__}: {error}", "errno": errno.EIO})

    def dispatch(self, request: dict[str, Any], fds: list[int]) -> None:
        """Carry out one request and reply."""
        op = request["op"]
        if op == "acquire":
            self.reply({"have": self.acquire(request["name"])})
        elif op == "store":
            self.store(request["name"])
        elif op == "forget":
            self.forget(request["name"])
        else:
            super().dispatch(request, fds)

    def acquire(self, name: str) -> bool:
        """Hold a layer from now on; whether it is there."""
        if name not in self.held:
            self.held[name] = hold(Path(self.layers, f"{name}.use"))
        return os.path.isdir(os.path.join(self.layers, name))

    def forget(self, name: str) -> None:
        """Let go of a layer, and remove it if no other keeper holds it."""
        os.close(self.held.pop(name))
        remove_unused(Path(self.layers, f"{name}.use"))
        self.reply({})

    def store(self, name: str) -> None:
        """Write a layer from the archive that follows: beside its place, then renamed."""
        final = os.path.join(self.layers, name)
        part = os.path.join(self.own, name)
        body = Body()
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", body), mode="r|") as archive:
                if hasattr(tarfile, "fully_trusted_filter"):  # our own owner wrote it
                    archive.extraction_filter = tarfile.fully_trusted_filter
                archive.extractall(part)
                for link in [member for member in archive.getmembers() if member.issym()]:
                    # extractall sets no time for links: every copy must look alike.
                    os.utime(os.path.join(part, link.name), (link.mtime, link.mtime), follow_symlinks=False)
            body.drain()
            with contextlib.suppress(OSError):  # another keeper was faster with the same bytes
                os.rename(part, final)
            if not os.path.isdir(final):
                raise OSError(errno.EIO, "cannot store the layer", final)
        except tarfile.TarError as error:
            raise OSError(errno.EIO, str(error)) from error
        finally:
            body.drain()
            removal.remove(part)
        self.reply({})

    def inject(self, request: dict[str, Any], trees: Trees) -> None:
        """Have the mounts attached inside the container that the request names."""
        order = {
            "pid": request["pid"],
            "container": request["container"],
            "targets": [target for _, target in trees],
            "detach": request["detach"],
        }
        socket.send_fds(self.injector, [json.dumps(order).encode()], [fd for fd, _ in trees])
        reply = json.loads(self.injector.recv(MESSAGE_BYTES) or b'{"error": "the injector is gone"}')
        if reply["error"]:
            raise OSError(errno.EIO, reply["error"])

    def export(self, request: dict[str, Any]) -> None:
        """Send the change set as frames of data, up to an empty one."""
        pipe = self.changes(request)
        self.reply({})
        try:
            while piece := os.read(pipe, FRAME_BYTES):
                send(piece)
        finally:
            os.close(pipe)
            send(b"")
            self.reap()


class Body:
    """The data that follows a request, as a file to read from."""

    def __init__(self) -> None:
        self.left = b""
        self.done = False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes; none at the end."""
        while not self.left and not self.done:
            self.left = receive()
            self.done = not self.left
        data, self.left = self.left[:size], self.left[size:]
        return data

    def drain(self) -> None:
        """Read what nobody wants."""
        while self.read(FRAME_BYTES):
            pass


def receive() -> bytes:
    """The next frame. Raises `Hangup` at the end of the stream."""
    head = read_exactly(0, 4)
    if len(head) < 4:
        raise Hangup
    (size,) = struct.unpack(">I", head)
    body = read_exactly(0, size)
    if len(body) < size:
        raise Hangup
    return body


def send(body: bytes) -> None:
    """Send one frame."""
    write_all(1, struct.pack(">I", len(body)) + body)


def own_directory(layers: str) -> str:
    """A directory on the volume for what only this keeper uses; those of dead keepers are removed.

    A lock tells the living from the dead: it goes with the process that holds it.
    """
    place = Path(layers, "own")
    place.mkdir(exist_ok=True)
    hold(place / f"{socket.gethostname()}.use")
    prune(place, keep=0)
    own = place / socket.gethostname()
    own.mkdir(exist_ok=True)
    return str(own)


def inject_for(keeper: socket.socket) -> None:
    """Carry out the orders of the keeper until it ends."""
    while True:
        data, fds, _, _ = socket.recv_fds(keeper, MESSAGE_BYTES, 8)
        if not data:
            return
        problem = ""
        try:
            attach(json.loads(data), fds)
        except OSError as error:
            problem = str(error)
        finally:
            for fd in fds:
                os.close(fd)
        keeper.send(json.dumps({"error": problem}).encode())


def attach(order: dict[str, Any], fds: list[int]) -> None:
    """Attach mounts inside a container, if the process is still of that container: pids are used again."""
    container, targets = str(order["container"]), order["targets"]
    if len(container) != 64 or not container.isalnum() or len(targets) != len(fds):
        raise OSError(errno.EINVAL, "no such container", container)
    process = os.open(f"/proc/{int(order['pid'])}", os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        view = os.open("ns/mnt", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
        try:
            groups = os.open("cgroup", os.O_RDONLY | os.O_CLOEXEC, dir_fd=process)
            with open(groups, encoding="utf-8") as file:
                if container not in file.read():
                    raise OSError(errno.ESRCH, "the container has ended", container)
            move_in((view,), list(zip(fds, targets, strict=True)), detach=order["detach"])
        finally:
            os.close(view)
    finally:
        os.close(process)


def become_keeper(uid: int, mapped: int, wait: int) -> None:
    """Own user and mount namespaces; `uid` is root in them. The injector writes the maps: it may."""
    os.setgroups([])
    mounts.unshare(mounts.CLONE_NEWUSER | mounts.CLONE_NEWNS)
    os.write(mapped, b"m")
    if not os.read(wait, 1):
        raise OSError(errno.EPIPE, "the injector is gone")
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    mounts.mount("none", "/", "none", mounts.MS_REC | mounts.MS_PRIVATE)


def run_keeper(channel: socket.socket, uid: int, mapped: int, wait: int) -> None:
    """The keeper's side, until the owner hangs up; the reason of a failed start goes to the owner."""
    try:
        become_keeper(uid, mapped, wait)
        keeper = ContainerKeeper(channel, LAYERS)
    except OSError as error:
        send(json.dumps({"error": str(error), "errno": error.errno}).encode())
        return
    with contextlib.suppress(Hangup, BrokenPipeError):
        keeper.serve_stream()
    removal.remove(keeper.own)


def main() -> None:
    """`container_keeper UID`, as root in a container that sees the host's processes."""
    uid = int(sys.argv[1])
    os.umask(0o022)
    os.chown(LAYERS, uid, uid)
    Path(SCRATCH).mkdir(exist_ok=True)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    mapped_r, mapped_w = os.pipe()
    wait_r, wait_w = os.pipe()
    pid = os.fork()
    if pid == 0:
        ours.close()
        os.close(wait_w)
        try:
            run_keeper(theirs, uid, mapped_w, wait_r)
        finally:
            os._exit(0)
    theirs.close()
    os.close(mapped_w)
    if os.read(mapped_r, 1):
        Path(f"/proc/{pid}/uid_map").write_text(f"0 {uid} 1")
        Path(f"/proc/{pid}/gid_map").write_text(f"0 {uid} 1")
        os.write(wait_w, b"g")
    inject_for(ours)
    os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
