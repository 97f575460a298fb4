"""A missing engine is a skip on a laptop and a failure in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CASE = "import pytest\n@pytest.mark.{marker}\ndef test_it(): pass\n"


def run_marked_test(tmp_path: Path, marker: str, *, ci: bool) -> str:
    """The summary of one marked test, run by a fresh pytest on a machine without any engine."""
    (tmp_path / "conftest.py").write_text((Path(__file__).parent / "conftest.py").read_text())
    (tmp_path / "test_case.py").write_text(CASE.format(marker=marker))
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n    sandbox\n    docker\n    vllm\n    gpu\n")
    environment = {k: v for k, v in os.environ.items() if k not in ("CI", "GYM_CODE_VLLM")}
    environment |= {"PATH": "/nowhere", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"} | (
        {"CI": "true"} if ci else {}
    )
    command = [sys.executable, "-m", "pytest", "-rA", "-p", "no:cacheprovider", str(tmp_path)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("marker", "reason"),
    [
        ("sandbox", "bubblewrap is not installed (apt-get install bubblewrap)"),
        ("docker", "docker is not installed"),
        ("vllm", "GYM_CODE_VLLM does not name a vLLM server or its interpreter"),
    ],
)
def test_missing_engine(tmp_path: Path, marker: str, reason: str) -> None:
    laptop = run_marked_test(tmp_path, marker, ci=False)
    assert "1 skipped" in laptop
    assert reason in laptop
    ci = run_marked_test(tmp_path, marker, ci=True)
    assert "1 error" in ci or "1 failed" in ci
    assert f"CI lacks an engine: {reason}" in ci


def test_missing_gpu_is_skipped_everywhere(tmp_path: Path) -> None:
    assert "1 skipped" in run_marked_test(tmp_path, "gpu", ci=True)
