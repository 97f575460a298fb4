"""What the other contestants need: an environment with mini-swe-agent, and an image with the repository."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import io
import os
import shlex
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.sandbox.peer import Job
from gym_code.errors import ConfigError, SandboxError
from gym_code.grading.plan import Refused, make_plan
from gym_code.patch import apply_patch
from gym_code.sandbox.dockerd import connect
from gym_code.sandbox.images import environment_image

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gym_code.task import Suite
    from gym_code.types import File

REQUIREMENTS = Path(__file__).with_name("requirements.txt")
IMAGE = "gym-code/bench-task:latest"
"""The task's image with its repository inside, as SWE-bench ships them; removed at the end."""
PYTHON = "/opt/env/bin/python3"
"""Where the image of an environment holds its interpreter and packages."""


def cache_directory() -> Path:
    """`gym-code-bench` in the user's cache directory; it may be deleted at any time."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gym-code-bench"


def peers_python() -> Path:
    """The interpreter of an environment with mini-swe-agent, made where it is missing.

    Raises `ConfigError` where pip cannot install it.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()[:12]
    place = cache_directory() / f"peers-{version}-{wanted}"
    python, ready = place / "bin" / "python", place / "ready"
    if not ready.is_file():
        steps: tuple[list[str | Path], ...] = (
            [sys.executable, "-m", "venv", "--clear", place],
            [python, "-m", "pip", "install", "-q", "--no-deps", "-r", REQUIREMENTS],
        )
        for step in steps:
            result = subprocess.run(step, capture_output=True, text=True, check=False)
            if result.returncode:
                raise ConfigError(
                    f"cannot set up the peers: {result.stderr.strip()[-500:]}", where=str(place)
                )
        ready.touch()
    return python


def peers_environment(scratch: Path) -> dict[str, str]:
    """The environment variables of the peers' processes: they leave nothing in the user's home."""
    own = {"MSWEA_SILENT_STARTUP": "1", "MSWEA_GLOBAL_CONFIG_DIR": str(scratch), "TMPDIR": str(scratch)}
    return {**os.environ, **own}


@contextlib.contextmanager
def job(suite: Suite, task_id: str) -> Iterator[tuple[Job, Path]]:
    """What the peers work on, with a scratch directory; image and directory go when it is over.

    Raises `ConfigError` for a task that pytest does not run, `SandboxError`.
    """
    task, answer = suite.task(task_id), suite.answer(task_id)
    if task.runner != "pytest":
        raise ConfigError("the peers run pytest", where=task_id, expected="pytest", found=task.runner)
    base = suite.start(task_id).files()
    plan = make_plan(task, answer, base, answer.gold_patch)
    assert not isinstance(plan, Refused)
    gold = apply_patch(base, answer.gold_patch)
    with tempfile.TemporaryDirectory(prefix="gym-code-bench-") as scratch:
        tree = Path(scratch) / "tree"
        write_repository(tree, base)
        image = environment_image(connect(), task.environment).id
        try:
            bake(image, tree, task.workdir)
            yield (
                Job(
                    image=IMAGE,
                    tree=str(tree),
                    workdir=task.workdir,
                    gold=unpack_command(gold),
                    graded=unpack_command(plan.changes),
                    visible="",
                    tests=shlex.join(sorted({test.split("::")[0] for test in plan.ids})),
                    python=PYTHON,
                ),
                Path(scratch),
            )
        finally:
            docker("image", "rm", "-f", IMAGE)


def write_repository(tree: Path, files: Mapping[str, File]) -> None:
    """A directory with these files and one git commit of them."""
    for path, file in files.items():
        target = tree / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.link is not None:
            target.symlink_to(file.link)
        else:
            target.write_bytes(file.content)
            target.chmod(0o755 if file.executable else 0o644)
    who = ["-c", "user.name=bench", "-c", "user.email=bench@localhost"]
    for words in (["init", "-q", "--template="], ["add", "-A"], [*who, "commit", "-q", "-m", "base"]):
        subprocess.run(["git", "-C", tree, *words], check=True, capture_output=True)


def bake(image: str, tree: Path, workdir: str) -> None:
    """Commit `IMAGE`: an image with a repository in it. Raises `SandboxError`."""
    docker("image", "rm", "-f", IMAGE)  # what a killed run left
    container = docker("create", "--network", "none", image, "true").strip()
    try:
        docker("cp", f"{tree}/.", f"{container}:{workdir}")
        docker("commit", "-c", f"WORKDIR {workdir}", container, IMAGE)
    finally:
        docker("rm", "-f", container)


def docker(*words: str) -> str:
    """What a `docker` command prints. Raises `SandboxError` where it fails."""
    result = subprocess.run(["docker", *words], capture_output=True, text=True, check=False)
    if result.returncode:
        raise SandboxError(f"docker {words[0]}: {result.stderr.strip()[-500:]}")
    return result.stdout


def unpack_command(changes: Mapping[str, File | None]) -> str:
    """A shell command that makes these changes: an archive within the command, as an agent would send it."""
    buffer = io.BytesIO()
    gone = [path for path, file in changes.items() if file is None]
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path, file in changes.items():
            if file is not None:
                info = tarfile.TarInfo(path)
                info.size, info.mode = len(file.content), 0o755 if file.executable else 0o644
                archive.addfile(info, io.BytesIO(file.content))
    command = f"echo {base64.b64encode(buffer.getvalue()).decode()} | base64 -d | tar xzf - --no-same-owner"
    return f"{command} && rm -f -- {shlex.join(gone)}" if gone else command
