"""Engines a test may need: skipped with the reason on a laptop, a failure where `CI=true`.

A GPU is hardware, not an engine that a machine could install: without one its tests are skipped everywhere.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

DOCKER_BASE = "gym-code/base:3.11"
"""What `make docker-base` makes: the image all others are built on."""


@functools.cache
def missing_sandbox() -> str | None:
    """Why boxes cannot run here, or None. A box is tried: a version number proves nothing."""
    if (bwrap := shutil.which("bwrap")) is None:
        return "bubblewrap is not installed (apt-get install bubblewrap)"
    command = [bwrap, "--unshare-all", "--ro-bind", "/", "/", "--proc", "/proc", "--dev", "/dev", "true"]
    trial = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return None if trial.returncode == 0 else f"bubblewrap cannot open a box here: {trial.stderr.strip()}"


@functools.cache
def missing_docker() -> str | None:
    """Why containers cannot run here, or None."""
    if (docker := shutil.which("docker")) is None:
        return "docker is not installed"
    if subprocess.run([docker, "info"], capture_output=True, timeout=60, check=False).returncode:
        return "no Docker daemon answers"
    inspect = [docker, "image", "inspect", DOCKER_BASE]
    if subprocess.run(inspect, capture_output=True, timeout=60, check=False).returncode:
        return f"the image {DOCKER_BASE} is missing (make docker-base)"
    return None


@functools.cache
def missing_vllm() -> str | None:
    """Why no vLLM server can be started here, or None. It lives in an environment of its own."""
    python = Path(os.environ.get("GYM_CODE_VLLM") or Path(__file__).parents[1] / ".venv-vllm/bin/python")
    if not python.is_file():
        return f"vLLM is not installed (make vllm, or GYM_CODE_VLLM): there is no {python}"
    look = "import importlib.util, sys; sys.exit(importlib.util.find_spec('vllm') is None)"
    trial = subprocess.run([python, "-P", "-c", look], capture_output=True, timeout=60, check=False)
    return None if trial.returncode == 0 else f"{python} has no vllm (make vllm)"


@functools.cache
def missing_gpu() -> str | None:
    """Why no GPU can be used here, or None."""
    if (smi := shutil.which("nvidia-smi")) is None:
        return "no GPU: nvidia-smi is absent"
    trial = subprocess.run([smi, "-L"], capture_output=True, text=True, timeout=60, check=False)
    return None if trial.returncode == 0 and "GPU" in trial.stdout else "nvidia-smi lists no GPU"


ENGINES: dict[str, Callable[[], str | None]] = {
    "sandbox": missing_sandbox,
    "docker": missing_docker,
    "vllm": missing_vllm,
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first: dealt out to several processes, none is left alone at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Stop a test whose engine is missing before its fixtures run."""
    for marker, missing in ENGINES.items():
        if item.get_closest_marker(marker) and (reason := missing()):
            if os.environ.get("CI") == "true":
                pytest.fail(f"CI lacks an engine: {reason}", pytrace=False)
            pytest.skip(reason)
    if item.get_closest_marker("gpu") and (reason := missing_gpu()):
        pytest.skip(reason)
