"""One vLLM server over HTTP. The HTTP client's errors and the server's become ours here, and only here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import urllib3

from gym_code.errors import ConfigError
from train.engine.base import EngineError, OverdueError, ReplicaError
from train.engine.server import Server

REQUEST_SECONDS = 1800.0
"""The longest a completion may take, queueing included."""
QUICK_SECONDS = 60.0


class Refused(EngineError):
    """The server understood the request and said no (HTTP 4xx): asking again would not help."""


class Replica:
    """A server by URL, or one that the trainer started. Used from many threads."""

    def __init__(self, at: str | Server, *, key: str = "", connections: int) -> None:
        self.server = None if isinstance(at, str) else at
        self._url = at if isinstance(at, str) else ""
        self.base = ""
        """The name that the server gives the model without an adapter."""
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._most = connections
        self._pools: dict[str, urllib3.HTTPConnectionPool] = {}
        """Connections by URL. A pool manager would look its pool up for every request, which takes as long as
        the request."""

    @property
    def url(self) -> str:
        """Where it answers; a server that is started again is somewhere else."""
        return self._url if self.server is None else self.server.url

    def post(self, path: str, body: Mapping[str, Any], seconds: float = QUICK_SECONDS) -> bytes:
        """The answer to a POST. Raises `Refused` (4xx) or `ReplicaError` (no answer, 5xx)."""
        return self._request("POST", path, seconds, body)

    def healthy(self) -> bool:
        """Whether the server says that it can serve."""
        if self.server is not None and not self.server.alive():
            return False
        try:
            self._request("GET", "/health", 10.0)
        except EngineError:
            return False
        return True

    def check(self, max_length: int) -> None:
        """Learn the base's name. Raises `ConfigError` for a server whose context is too short."""
        models = json.loads(self._request("GET", "/v1/models", QUICK_SECONDS))["data"]
        served = next(model for model in models if model.get("parent") is None)
        if (served.get("max_model_len") or max_length) < max_length:
            raise ConfigError(
                "the server's context is too short",
                where=self.url,
                expected=f"--max-model-len {max_length} or more",
                found=served["max_model_len"],
            )
        self.base = served["id"]

    def load(self, name: str, path: Path) -> None:
        """Load an adapter directory, which the server must be able to read, under a name."""
        self.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path)})

    def unload(self, name: str) -> None:
        """Forget an adapter."""
        self.post("/v1/unload_lora_adapter", {"lora_name": name})

    def sleep(self) -> None:
        """Have the server give its memory away: weights and adapters wait in the host's, caches are dropped.

        Level 1: at level 2 the adapters would be lost with the weights. Raises `ConfigError` for a server
        that was not started for it.
        """
        try:
            self.post("/sleep?level=1&mode=wait", {}, REQUEST_SECONDS)
        except Refused as error:
            raise ConfigError(
                f"the server cannot sleep: {error}",
                where=f"vllm_sleep: {self.url}",
                expected="VLLM_SERVER_DEV_MODE=1 and, on a GPU, --enable-sleep-mode",
                found="a server started without",
            ) from error

    def rouse(self) -> None:
        """Have it take its memory back. Raises `ReplicaError` where it does not serve again."""
        answer = self.post("/wake_up", {}, REQUEST_SECONDS)
        if json.loads(answer)["status"] != "awake":
            raise ReplicaError(f"{self.url}/wake_up: the server sleeps on: {answer.decode(errors='replace')}")

    def close(self) -> None:
        """Close the connections, and the server where it is ours."""
        if self.server is not None:
            self.server.close()
        for pool in self._pools.values():
            pool.close()

    def _request(
        self, method: str, path: str, seconds: float, body: Mapping[str, Any] | None = None
    ) -> bytes:
        try:
            url = self.url
            pool = self._pools.get(url) or self._pools.setdefault(
                url, urllib3.connection_from_url(url, maxsize=self._most, retries=False)
            )
            answer = pool.urlopen(
                method,
                urlsplit(url).path + path,
                body=None if body is None else json.dumps(body),
                headers=self._headers | {"Content-Type": "application/json"},
                timeout=urllib3.Timeout(connect=10.0, read=seconds),
                redirect=False,
            )
        except urllib3.exceptions.ReadTimeoutError as error:
            raise OverdueError(f"{self.url}{path}: no answer within {seconds:.0f} s") from error
        except urllib3.exceptions.HTTPError as error:
            raise ReplicaError(f"{self.url}{path}: {type(error).__name__}: {error}") from error
        if answer.status == 200:
            return answer.data
        said = f"{self.url}{path}: HTTP {answer.status}: {answer.data[:500].decode(errors='replace')}"
        raise Refused(said) if 400 <= answer.status < 500 else ReplicaError(said)
