"""Backends for the tests of this room: one of each for the whole session."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from gym_code.sandbox.docker import DockerBackend
from gym_code.sandbox.layout import Home, open_home
from gym_code.sandbox.memory import MemoryBackend
from gym_code.sandbox.namespace import NamespaceBackend
from gym_code.sandbox.removal import remove

ORDINARY_UID = 4242
REPOSITORY = Path(__file__).resolve().parents[2]

CONTRACT = """
import dataclasses, json, sys
from gym_code.sandbox import open_backend
from gym_code.sandbox.contract import check_backend
backend = open_backend({name!r})
try:
    json.dump([dataclasses.asdict(result) for result in check_backend(backend)], sys.stdout)
finally:
    backend.close()
"""


@pytest.fixture(scope="session")
def namespace() -> Iterator[NamespaceBackend]:
    """The real thing, over the machine's usual state directory, as whoever runs the tests."""
    with NamespaceBackend() as backend:
        yield backend


@pytest.fixture(scope="session")
def docker() -> Iterator[DockerBackend]:
    """Containers of the daemon that answers here."""
    with DockerBackend() as backend:
        yield backend


@pytest.fixture(scope="session")
def memory() -> Iterator[MemoryBackend]:
    with MemoryBackend() as backend:
        yield backend


@pytest.fixture
def home() -> Iterator[Home]:
    """A state directory of its own: what dead owners leave in the usual one, any other test's backend may
    remove."""
    # Not tmp_path: as root, boxes run as another uid, which cannot enter pytest's directories.
    path = Path(tempfile.mkdtemp(prefix="gym-code-home-"))
    path.chmod(0o755)
    yield open_home(path)
    remove(path)


def readable_interpreter() -> str | None:
    """A Python that another user can run: ours may live in root's home."""
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    places = [
        os.path.realpath(sys.executable),
        f"/usr/bin/python{version}",
        f"/usr/local/bin/python{version}",
    ]
    for place in places:
        if os.path.exists(place) and all(
            parent.stat().st_mode & 1 for parent in Path(place).resolve().parents
        ):
            return place
    return None


@pytest.fixture(scope="session")
def as_user() -> Iterator[Any]:
    """Runs Python text as an ordinary user with a home of its own; only root can become one."""
    if os.geteuid() != 0:
        pytest.skip("the tests already run as an ordinary user")
    interpreter = readable_interpreter()
    if interpreter is None:
        pytest.skip("no interpreter of this version outside root's home")
    home = Path(tempfile.mkdtemp(prefix="gym-code-user-"))
    for name in ("gym_code", "containers"):
        shutil.copytree(REPOSITORY / name, home / "lib" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (home, *home.rglob("*")):
        os.chown(path, ORDINARY_UID, ORDINARY_UID)

    def run(text: str, groups: Sequence[int] = ()) -> str:
        path = os.pathsep.join([str(home / "lib"), sysconfig.get_path("purelib")])
        kept = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "DOCKER_"))}
        environment = {**kept, "HOME": str(home), "PATH": "/usr/bin:/bin", "PYTHONPATH": path}
        result = subprocess.run(
            [interpreter, "-c", text],
            env=environment,
            cwd=home,
            user=ORDINARY_UID,
            group=ORDINARY_UID,
            extra_groups=groups,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    yield run
    shutil.rmtree(home)


@pytest.fixture(scope="session")
def user_results(as_user: Any) -> Mapping[str, Mapping[str, str]]:
    """The whole contract as an ordinary user, run once."""
    return {row["name"]: row for row in json.loads(as_user(CONTRACT.format(name="namespace")))}


@pytest.fixture(scope="session")
def docker_user_results(as_user: Any) -> Mapping[str, Mapping[str, str]]:
    """The same over Docker, as a member of the group that may use its socket."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock").removeprefix("unix://")
    text = CONTRACT.format(name="docker")
    return {row["name"]: row for row in json.loads(as_user(text, [Path(address).stat().st_gid]))}
