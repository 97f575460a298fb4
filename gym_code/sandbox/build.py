"""Building an image on a daemon: the context, the host's pip settings, progress, the builder's own errors."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gym_code.data import containers_directory
from gym_code.errors import EnvironmentBuildError
from gym_code.sandbox.dockerd import KIND, translated
from gym_code.sandbox.image import clean_environment, find_pip
from gym_code.sandbox.layout import open_home
from gym_code.sandbox.lease import hold, unused

if TYPE_CHECKING:
    from docker import APIClient

Progress = Callable[[str], None]
"""Is given one line at a time of what happens."""
STAGE = "stage"
"""`gym-code.kind` of what only helped to build: removed as soon as the build is over."""
BUILD_SECONDS = 1800
ERROR_LINES = 20
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "ftp_proxy", "all_proxy")
_PIP_KEYS = (
    "index-url", "extra-index-url", "trusted-host", "find-links", "no-index", "proxy", "timeout",
    "default-timeout", "retries",
)  # fmt: skip


def recipe(name: str) -> str:
    """The text of a Dockerfile of `containers/`. Raises `EnvironmentBuildError`."""
    path = containers_directory() / name
    try:
        return path.read_text()
    except OSError as error:
        raise EnvironmentBuildError(f"no recipe {path}: {error.strerror}") from error


def build(
    client: APIClient,
    *,
    tag: str,
    dockerfile: str,
    files: Mapping[str, bytes],
    arguments: Mapping[str, str],
    labels: Mapping[str, str],
    progress: Progress | None = None,
) -> None:
    """Build an image; RUN steps have the host's network.

    Raises `EnvironmentBuildError` with the last lines of the step that failed.
    """
    tell = progress or (lambda _: None)
    step, lines = "", list[str]()
    lock = open_home().bases / "stages.use"
    using = hold(lock)
    try:
        with translated(f"build {tag}"):
            stream = client.build(
                fileobj=_context({**files, "Dockerfile": dockerfile.encode()}),
                custom_context=True,
                tag=tag,
                buildargs={**proxies(), **arguments},
                labels=dict(labels),
                network_mode="host",
                rm=True,
                forcerm=True,
                timeout=BUILD_SECONDS,
                decode=True,
            )
            problem = ""
            for event in stream:
                for line in str(event.get("stream", "")).splitlines():
                    if line.startswith("Step "):
                        step, lines = line.partition(" : ")[2], []
                        tell(f"{tag}: {line}")
                    elif line.strip():
                        lines.append(line.rstrip())
                problem = str(event.get("error", problem))
    finally:
        os.close(using)
    with unused(lock) as last:  # the stages of a build that goes on look just like those of one that is over
        if last:
            remove_stages(client)
    if problem:
        said = "\n".join([*lines[-ERROR_LINES:], problem])
        raise EnvironmentBuildError(f"cannot build {tag}: {step or 'the recipe'}\n{said}")


def proxies() -> dict[str, str]:
    """The proxies of this process's environment, for the steps of a build."""
    return {key: os.environ[key] for name in _PROXIES for key in (name, name.upper()) if key in os.environ}


def _context(files: Mapping[str, bytes]) -> io.BytesIO:
    """A build context whose bytes depend on the files alone: the daemon finds what it has built before."""
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as archive:
        for name in sorted(files):
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(files[name]), 0o644
            archive.addfile(info, io.BytesIO(files[name]))
    target.seek(0)
    return target


def remove_stages(client: APIClient) -> None:
    """Remove what only helped to build. Call it while no build goes on, whose stages would go too."""
    from docker.errors import APIError

    with translated("remove the stages of a build"):
        for image in client.images(filters={"label": f"{KIND}={STAGE}", "dangling": True}):
            try:
                client.remove_image(image["Id"])
            except APIError as error:
                if error.status_code not in (404, 409):
                    raise


def pip_files(packages: tuple[str, ...]) -> dict[str, bytes]:
    """The folder `pip` of a build context: requirements, and the host's settings where they make sense there.

    Raises `EnvironmentBuildError` for what is no requirement, and for certificates that cannot be read.
    """
    for package in packages:
        if package.startswith("-") or any(mark in package for mark in "\n\r"):
            raise EnvironmentBuildError(f"not a package requirement: {package!r}")
    settings = pip_settings()
    files = {"pip/requirements.txt": "".join(f"{package}\n" for package in packages).encode()}
    rows = ["[global]"]
    for key in _PIP_KEYS:
        value = settings.get(key, "")
        if key in ("index-url", "extra-index-url", "find-links"):
            value = " ".join(word for word in value.split() if word.startswith(("http://", "https://")))
        if value:
            rows.append(f"{key} = {value}")
    if certificates := settings.get("cert"):
        try:
            files["pip/certificates.pem"] = Path(certificates).read_bytes()
        except OSError as error:
            raise EnvironmentBuildError(
                f"pip's certificates {certificates} cannot be read: {error.strerror}"
            ) from error
        rows.append("cert = /pip/certificates.pem")
    return {**files, "pip/pip.conf": ("\n".join(rows) + "\n").encode()}


def pip_settings() -> dict[str, str]:
    """What the host's pip is told by files and variables, by long option name; variables win."""
    command = [*find_pip(), "config", "list"]
    answer = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env=clean_environment()
    )
    if answer.returncode:
        raise EnvironmentBuildError(f"pip cannot read its own settings: {answer.stderr.strip()[-1000:]}")
    found: dict[str, str] = {}
    # global first, then those of `install`, then the environment's.
    order = {"global": 0, "install": 1, ":env:": 2}
    rows: list[tuple[int, str, Any]] = []
    for line in answer.stdout.splitlines():
        name, _, value = line.partition("=")
        section, _, key = name.partition(".")
        if section in order:
            rows.append((order[section], key, ast.literal_eval(value)))
    for _, key, value in sorted(rows, key=lambda row: row[0]):
        found[key] = str(value)
    return found
