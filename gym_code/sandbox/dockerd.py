"""The connection to a Docker Engine (or to podman's Docker API), and its errors in our words.

With `docker.py` and `images.py` the only place that knows the package `docker`. Everything made on a daemon
carries labels that name what it is and the process that owns it, so that `gc` can tell whose owner is dead.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import socket
import weakref
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from gym_code.errors import SandboxError, SandboxUnavailable
from gym_code.sandbox.lease import alive, owner_tag

if TYPE_CHECKING:
    from docker import APIClient
    from requests.adapters import BaseAdapter

KIND, OWNER, HOST = "gym-code.kind", "gym-code.owner", "gym-code.host"
"""Labels: what it is; `pid-start` of the owning process; where that process runs."""
CONNECT_SECONDS = 30.0
"""How long it may take to say that it is there."""
CALL_SECONDS = 120.0
"""How long the daemon may take to answer one call."""
_MEND = "start it (systemctl start docker), or name another with DOCKER_HOST"


def connect() -> APIClient:
    """A client of the daemon that DOCKER_HOST names, else of the current Docker context.

    Raises `SandboxUnavailable` where none answers.
    """
    import docker
    from docker.errors import DockerException

    settings: dict[str, object] = dict(docker.utils.kwargs_from_env())
    where = os.environ.get("DOCKER_HOST") or _context_host()
    if where and "base_url" not in settings:
        settings["base_url"] = where
    try:
        client = docker.APIClient(version="auto", timeout=CONNECT_SECONDS, **settings)
    except (DockerException, OSError) as error:
        place = where or "unix:///var/run/docker.sock"
        raise SandboxUnavailable(f"no Docker daemon answers at {place}: {_short(error)}; {_MEND}") from error
    client.timeout = CALL_SECONDS
    # Connections that wait to be used again lie in cycles: they would outlive their client.
    weakref.finalize(client, _close, tuple(client.adapters.values())).atexit = False
    return client


def _close(adapters: Iterable[BaseAdapter]) -> None:
    for adapter in adapters:
        adapter.close()


def _context_host() -> str | None:
    """The address of the context that the `docker` command uses, if it is not the usual socket."""
    from docker.context import ContextAPI
    from docker.errors import DockerException

    try:
        context = ContextAPI.get_current_context()
    except (DockerException, OSError, ValueError):
        return None
    return None if context is None or context.name == "default" else str(context.Host)


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn the errors of the daemon and of the way to it into `SandboxError`s that say what was tried.

    A daemon that cannot be reached is `SandboxUnavailable`.
    """
    import requests
    from docker.errors import DockerException
    from urllib3.exceptions import HTTPError

    try:
        yield
    except requests.exceptions.Timeout as error:
        raise SandboxError(f"cannot {what}: the Docker daemon does not answer in time") from error
    except (requests.exceptions.ConnectionError, ConnectionError) as error:
        raise SandboxUnavailable(
            f"cannot {what}: the Docker daemon is gone: {_short(error)}; {_MEND}"
        ) from error
    except (DockerException, HTTPError, requests.exceptions.RequestException, OSError) as error:
        raise SandboxError(f"cannot {what}: {_short(error)}") from error


def _short(error: BaseException) -> str:
    explanation = getattr(error, "explanation", None)
    return " ".join(str(explanation or error).split())[:500]


@functools.cache
def host_id() -> str:
    """Names this machine and process namespace: a pid means nothing elsewhere."""
    parts = [socket.gethostname(), str(os.stat("/proc/self/ns/pid").st_ino)]
    with contextlib.suppress(OSError):
        parts.append(Path("/etc/machine-id").read_text().strip())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def labels(kind: str) -> dict[str, str]:
    """The labels of something this process owns."""
    return {KIND: kind, OWNER: owner_tag(), HOST: host_id()}


def orphaned(found: Mapping[str, str]) -> bool:
    """Whether labels name an owner on this machine that is dead."""
    owner = found.get(OWNER, "")
    return found.get(HOST) == host_id() and not alive(owner) and not _hidden(owner.partition("-")[0])


def _hidden(pid: str) -> bool:
    """Whether a process runs that /proc does not show us (`hidepid`): another user's may well be alive."""
    if not pid.isdigit() or os.path.exists(f"/proc/{pid}"):
        return False
    try:
        os.kill(int(pid), 0)
    except PermissionError:
        return True
    except (ProcessLookupError, OverflowError):
        return False
    return True
