"""A registry of one image, over plain HTTP on this machine: daemons allow that for 127.0.0.0/8."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

MACHINE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]
REPOSITORY = f"gym-code-test/instance-{os.getpid()}"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
UNKNOWN = (
    b'{"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown", "detail": {"Tag": "latest"}}]}'
)


def packed(files: dict[str, bytes]) -> bytes:
    """A tar archive of some files."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(content), 0o644
            archive.addfile(info, io.BytesIO(content))
    return target.getvalue()


class Registry:
    """Serves an image of one layer as `name`:latest.

    failing: how many requests for the layer are answered with an error of the server before one is served.
    stuck: whether the layer begins to come and never ends.
    """

    def __init__(self, files: dict[str, bytes], *, failing: int = 0, stuck: bool = False) -> None:
        self.failing, self.stuck = failing, stuck
        self.asked: list[str] = []
        self.begun, self.ended = threading.Event(), threading.Event()
        layer = packed(files)
        config = {
            "architecture": MACHINE,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": [digest(layer)]},
            "history": [{"created": "2026-01-01T00:00:00Z", "created_by": "test"}],
        }
        pieces = {CONFIG: json.dumps(config).encode(), LAYER: gzip.compress(layer, mtime=0)}
        self.blobs = {digest(body): body for body in pieces.values()}
        about = [
            {"mediaType": kind, "size": len(body), "digest": digest(body)} for kind, body in pieces.items()
        ]
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": about[0], "layers": about[1:]}
        self.image = str(about[0]["digest"])
        """The id that a daemon knows it by."""
        self.manifest, self.layer = json.dumps(manifest).encode(), str(about[1]["digest"])
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.host = f"127.0.0.1:{self.server.server_port}"
        self.name = f"{self.host}/{REPOSITORY}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()

    def _handler(registry) -> type[BaseHTTPRequestHandler]:  # noqa: N805 -- the handler has a self of its own
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                registry.asked.append(self.path)
                last = self.path.rpartition("/")[2]
                if self.path == "/v2/":
                    self.reply(200, b"{}", "application/json")
                elif "/manifests/" in self.path and self.path.startswith(f"/v2/{REPOSITORY}/"):
                    self.reply(200, registry.manifest, MANIFEST)
                elif last == registry.layer and registry.failing:
                    registry.failing -= 1
                    self.reply(500, b"out of order", "text/plain")
                elif last in registry.blobs:
                    self.blob(last)
                else:
                    self.reply(404, UNKNOWN, "application/json")

            do_HEAD = do_GET

            def blob(self, name: str) -> None:
                body = registry.blobs[name]
                if not (registry.stuck and name == registry.layer):
                    self.reply(200, body, "application/octet-stream")
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body[: len(body) // 2])
                self.wfile.flush()
                registry.begun.set()
                registry.ended.wait(60)
                self.close_connection = True

            def reply(self, status: int, body: bytes, kind: str) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("Docker-Content-Digest", digest(body))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            def log_message(self, *words: object) -> None:
                pass

        return Handler


def digest(body: bytes) -> str:
    """As registries name content."""
    return f"sha256:{hashlib.sha256(body).hexdigest()}"
