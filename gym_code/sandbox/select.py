"""Backends by name."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from gym_code.errors import ConfigError, SandboxUnavailable
from gym_code.sandbox.base import SPARE

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend

NAMES = ("auto", "namespace", "memory", "docker")


def open_backend(name: str = "auto", *, spare: int = SPARE) -> Backend:
    """A backend by name. `auto` takes what GYM_CODE_SANDBOX names; else `namespace` where it works, for its
    boxes come ten times cheaper; else `docker` where a daemon answers.

    spare: boxes kept launched ahead of need for each environment, where a backend launches any.
    A backend that is named starts nothing before its first box. Raises `ConfigError` for an unknown name, and
    with `auto` `SandboxUnavailable` where neither works.
    """
    if name == "auto":
        name = os.environ.get("GYM_CODE_SANDBOX") or "auto"
    if name == "auto":
        return _first_that_works(spare)
    if name == "namespace":
        from gym_code.sandbox.namespace import NamespaceBackend

        return NamespaceBackend(spare=spare)
    if name == "memory":
        from gym_code.sandbox.memory import MemoryBackend

        return MemoryBackend()
    if name == "docker":
        from gym_code.sandbox.docker import DockerBackend

        return DockerBackend(spare=spare)
    raise ConfigError("no such sandbox backend", expected=" | ".join(NAMES), found=name)


def _first_that_works(spare: int) -> Backend:
    embedded = open_backend("namespace", spare=spare)
    try:
        embedded.capabilities()
    except SandboxUnavailable as reason:
        from gym_code.sandbox.dockerd import connect

        try:
            connect().close()
        except SandboxUnavailable as other:
            raise SandboxUnavailable(f"{reason}; and {other}") from reason
        return open_backend("docker", spare=spare)
    return embedded
