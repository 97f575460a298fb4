"""A Docker daemon of a test's own, which it may stop, fill up and starve, and a line to it that can break."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from tests.sandbox.processes import eventually

START_SECONDS = 60.0


class Engine:
    """A daemon below a file system of limited size. It has no network: it shares none with the real one."""

    def __init__(self, size: int) -> None:
        self.root = Path(tempfile.mkdtemp(prefix="gym-code-engine-", dir="/tmp"))  # sockets need short paths
        self.disk = self.root / "data"
        self.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", self.disk], check=True)
        self.address = f"unix://{self.root}/socket"
        self.process: subprocess.Popen[bytes] | None = None
        self._outside = dict(os.environ)
        """How commands reach the daemon of the other tests."""

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(
            [
                # In a network of its own: told to have no bridge, a daemon removes the one of the real one.
                *("unshare", "--net", "dockerd"),
                *("--data-root", self.disk, "--exec-root", self.root / "run", "--pidfile", self.root / "pid"),
                *("-H", self.address, "--bridge=none", "--iptables=false"),
                *("--ip6tables=false", "--shutdown-timeout", "1"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=(self.root / "log").open("ab"),
            start_new_session=True,
        )
        if not eventually(self.answers, START_SECONDS):
            raise RuntimeError(f"the daemon does not start:\n{(self.root / 'log').read_text()[-2000:]}")

    def answers(self) -> bool:
        """Whether it serves requests."""
        return subprocess.run(["docker", "-H", self.address, "version"], capture_output=True).returncode == 0

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send it a signal; after one that ends it, wait for that."""
        assert self.process is not None
        self.process.send_signal(number)
        if number in (signal.SIGKILL, signal.SIGTERM):
            self.process.wait(60)
            self.process = None
            helper = self.root / "run" / "containerd" / "containerd.pid"
            if helper.exists():  # it ends with the daemon, in its own time
                assert eventually(lambda: not Path(f"/proc/{helper.read_text()}").exists())
            for note in (self.root / "pid", helper):  # what a killed one leaves would keep it from starting
                note.unlink(missing_ok=True)

    def docker(self, *words: str) -> list[str]:
        """The lines that the command `docker` prints."""
        command = ["docker", "-H", self.address, *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\n")[:-1]

    def containers(self) -> list[str]:
        """Ids of what it holds. One that was killed may go on listing some that are gone, as dead."""
        listed = self.docker("ps", "-aq", "--no-trunc")
        inspect = ["docker", "-H", self.address, "inspect"]
        return [
            each for each in listed if subprocess.run([*inspect, each], capture_output=True).returncode == 0
        ]

    def notes(self) -> str:
        """What it has noted of its containers: why it has not removed them."""
        found = self.containers()
        lines = (self.root / "log").read_text().splitlines()
        return "\n".join(line for line in lines if any(each in line for each in found))

    def load(self, images: list[str]) -> None:
        """Copy images from the daemon that serves the other tests."""
        save_them = ["docker", "save", *images]
        with subprocess.Popen(save_them, stdout=subprocess.PIPE, env=self._outside) as save:
            load = ["docker", "-H", self.address, "load"]
            subprocess.run(load, stdin=save.stdout, stdout=subprocess.DEVNULL, check=True)
        assert save.returncode == 0

    @contextlib.contextmanager
    def full(self) -> Iterator[None]:
        """Its disk has not a byte left meanwhile."""
        filler = self.disk / "filler"
        try:
            with filler.open("wb", buffering=0) as file:
                piece = bytes(1 << 20)
                while piece:
                    try:
                        file.write(piece)
                    except OSError:
                        piece = piece[: len(piece) // 2]
            yield
        finally:
            filler.unlink()

    def close(self) -> None:
        """End it and remove all it had."""
        if self.process is None:  # what it left running it ends when it comes up again
            self.start()
        for container in self.containers():
            self.docker("rm", "-f", container)
        self.kill(signal.SIGTERM)
        self._end_helpers()
        for line in reversed(Path("/proc/mounts").read_text().splitlines()):
            if (place := line.split()[1]).startswith(f"{self.root}/"):
                subprocess.run(["umount", "-l", place], check=False)
        shutil.rmtree(self.root)

    def _end_helpers(self) -> None:
        """A shim whose daemon was killed may wait for the next one for ever."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                if b"shim" in (words := path.read_bytes()) and os.fsencode(self.root) in words:
                    os.kill(int(path.parent.name), signal.SIGKILL)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Line:
    """A TCP address in front of a daemon's socket: a network that can be cut, or go silent."""

    def __init__(self, target: str) -> None:
        self.target = target.removeprefix("unix://")
        self.server = socket.create_server(("127.0.0.1", 0))
        self.address = f"tcp://127.0.0.1:{self.server.getsockname()[1]}"
        self.passing = threading.Event()
        self.passing.set()
        self.ends: list[socket.socket] = []
        self.broken = False
        threading.Thread(target=self._serve, daemon=True).start()

    def silence(self) -> None:
        """From now on no byte passes, and nobody is told."""
        self.passing.clear()

    def cut(self) -> None:
        """Break every connection, and take no new one."""
        self.broken = True
        self._hang_up()

    def mend(self) -> None:
        """Take new connections again; the old ones are gone."""
        self._hang_up()
        self.broken = False
        self.passing.set()

    def close(self) -> None:
        """Free the address."""
        self.server.close()
        self.cut()

    def _hang_up(self) -> None:
        ends, self.ends = self.ends, []
        for end in ends:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.server.accept()
                if self.broken:
                    near.close()
                    continue
                far = socket.socket(socket.AF_UNIX)
                far.connect(self.target)
                self.ends += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                self.passing.wait()
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
