"""Backends by name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gym_code.errors import ConfigError, SandboxUnavailable

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend

NAMES = ("auto", "namespace", "memory", "docker")


def open_backend(name: str = "auto") -> Backend:
    """A backend by name; `auto` takes what GYM_CODE_SANDBOX names, else `namespace`.

    Nothing is started before the first box. Raises `ConfigError` for an unknown name and
    `SandboxUnavailable`.
    """
    if name == "auto":
        name = os.environ.get("GYM_CODE_SANDBOX") or "auto"
    if name in ("auto", "namespace"):
        from gym_code.sandbox.namespace import NamespaceBackend

        return NamespaceBackend()
    if name == "memory":
        from gym_code.sandbox.memory import MemoryBackend

        return MemoryBackend()
    if name == "docker":
        raise SandboxUnavailable("the docker backend is not part of this version; use --sandbox namespace")
    raise ConfigError("no such sandbox backend", expected=" | ".join(NAMES), found=name)
