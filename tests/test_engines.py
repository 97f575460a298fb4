"""A missing engine is a skip on a laptop and a failure in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASE = "import pytest\n@pytest.mark.{marker}\ndef test_it(): pass\n"


def run_marked_test(tmp_path: Path, marker: str, *, ci: bool, programs: str = "/nowhere") -> str:
    """The summary of one marked test, run by a fresh pytest on a machine with no program but `programs`."""
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (tmp_path / "test_case.py").write_text(CASE.format(marker=marker))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    sandbox\n    docker\n    vllm\n    gpu\n")
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "GYM_CODE_VLLM")}
    environment |= {"PATH": programs, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | ({"CI": "true"} if ci else {})
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", str(tmp_path)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("marker", "reason"),
    [
        ("sandbox", "bubblewrap is not installed (apt-get install bubblewrap)"),
        ("docker", "docker is not installed"),
        ("vllm", "vLLM is not installed (make vllm, or GYM_CODE_VLLM)"),
    ],
)
def test_missing_engine(tmp_path: Path, marker: str, reason: str) -> None:
    laptop = run_marked_test(tmp_path, marker, ci=False)
    assert "1 skipped" in laptop
    assert reason in laptop
    ci = run_marked_test(tmp_path, marker, ci=True)
    assert "1 error" in ci or "1 failed" in ci
    assert f"CI lacks an engine: {reason}" in ci


def docker_that_fails(tmp_path: Path, command: str) -> str:
    """A directory with a program `docker` that can do everything but one command."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "docker").write_text(f'#!/bin/sh\n[ "$*" != "{command}" ]\n')
    (programs / "docker").chmod(0o755)
    return str(programs)


@pytest.mark.parametrize(
    ("fails", "reason"),
    [
        ("info", "no Docker daemon answers"),
        ("image inspect gym-code/base:3.11", "the image gym-code/base:3.11 is missing (make docker-base)"),
    ],
)
def test_a_docker_that_cannot_run_containers(tmp_path: Path, fails: str, reason: str) -> None:
    programs = docker_that_fails(tmp_path, fails)
    assert reason in run_marked_test(tmp_path, "docker", ci=False, programs=programs)
    ci = run_marked_test(tmp_path, "docker", ci=True, programs=programs)
    assert f"CI lacks an engine: {reason}" in ci


def test_a_docker_that_can(tmp_path: Path) -> None:
    programs = docker_that_fails(tmp_path, "nothing")
    assert "1 passed" in run_marked_test(tmp_path, "docker", ci=True, programs=programs)


def test_missing_gpu_is_skipped_everywhere(tmp_path: Path) -> None:
    assert "1 skipped" in run_marked_test(tmp_path, "gpu", ci=True)
