"""Tests of an instance run in its image the way SWE-bench runs them, and read with its own parsers."""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

START, END = ">>>>> Start Test Output", ">>>>> End Test Output"
_CASE = ">>>>> Case"
_HEREDOC = "EOF_114329324912"
"""SWE-bench's own."""
CASE_SECONDS = 60
_SCRIPT = """\
cd /testbed
for number in $(seq 0 {last}); do
  git reset --quiet --hard && git clean -fdxq
  echo "{case} $number"
  [ -s /patches/$number.diff ] && ! git apply /patches/$number.diff && continue
  timeout --signal=KILL {seconds} bash /patches/eval.sh 2>&1
done
echo "{case} {count}"
"""


def eval_script(base_commit: str, test_patch: bytes, existing: Sequence[str], command: str) -> str:
    """The script of a SWE-bench 5 row. existing: files that the test patch touches and the start tree has."""
    words = " ".join(map(shlex.quote, existing))
    restore = [f"git checkout {base_commit} {words}"] if existing else []
    lines = [
        "#!/bin/bash",
        "set -uxo pipefail",
        "cd /testbed",
        "git config --global --add safe.directory /testbed",
        *restore,
        f"git apply -v - <<'{_HEREDOC}'",
        test_patch.decode().rstrip("\n"),
        _HEREDOC,
        f": '{START}'",
        command,
        f": '{END}'",
        *restore,
    ]
    return "\n".join(lines) + "\n"


def head(image: str) -> str:
    """The id of the commit at /testbed."""
    command = [
        "docker",
        "run",
        "--rm",
        "--network",
        "none",
        image,
        "git",
        "-C",
        "/testbed",
        "rev-parse",
        "HEAD",
    ]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def outcomes(image: str, script: str, patches: Sequence[bytes], log_parser: str) -> list[dict[str, str]]:
    """Status by test id with each patch, as SWE-bench's parser has it; empty where it does not apply."""
    from swebench.harness.log_parsers import PARSER_REGISTRY

    with tempfile.TemporaryDirectory(prefix="gym-code-measure-") as folder:
        for number, patch in enumerate(patches):
            (Path(folder) / f"{number}.diff").write_bytes(patch)
        (Path(folder) / "eval.sh").write_text(script)
        Path(folder).chmod(0o755)
        command = [
            "docker",
            "run",
            "--rm",
            "--init",
            "-i",
            "--network",
            "none",
            "-v",
            f"{folder}:/patches:ro",
        ]
        work = _SCRIPT.format(last=len(patches) - 1, count=len(patches), case=_CASE, seconds=CASE_SECONDS)
        done = subprocess.run(
            [*command, image, "bash", "-s"], input=work.encode(), capture_output=True, check=True
        )
    said = done.stdout.decode(errors="replace")
    found = []
    for number in range(len(patches)):
        log = said.partition(f"{_CASE} {number}\n")[2].partition(f"{_CASE} {number + 1}\n")[0]
        tests = log.partition(START)[2].partition(END)[0]
        found.append(PARSER_REGISTRY[log_parser](tests, None))
    return found


def graded_tests(
    before: Mapping[str, str], runs: Sequence[Mapping[str, str]]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(FAIL_TO_PASS, PASS_TO_PASS): what passes in every run of the solution, by what it did without it."""
    passing = sorted(set.intersection(*({name for name in run if run[name] == "PASSED"} for run in runs)))
    fixed = tuple(name for name in passing if before.get(name) in (None, "FAILED", "ERROR"))
    return fixed, tuple(name for name in passing if before.get(name) == "PASSED")
