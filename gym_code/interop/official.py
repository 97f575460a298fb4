"""SWE-bench's own grading: an instance's eval script in its image, the log judged by the package `swebench`.

The steps are those of its harness: the patch is applied with one command after another until one takes it,
`eval_script` puts the tests in place and runs them, `swebench.harness.grading` reads the log. What differs is
the container (`container.py`: no network, no capabilities, limits), and that the log is read in a process of
its own with a limit of time and memory: it is the agent's to write.

Run as a module, it is that process. The package is imported nowhere else.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import os
import resource
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gym_code.errors import ConfigError, InputError, SandboxError
from gym_code.files import replace_file
from gym_code.grading import flags
from gym_code.interop.container import run_script
from gym_code.suite.directory import F2P, P2P
from gym_code.types import Cause, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gym_code.types import JSON, Limits

TIMEOUT = 1800.0
"""Seconds for applying a patch and running the tests: the harness's own default."""
LOG_SECONDS, LOG_MEMORY_BYTES = 120, 4 << 30
"""What reading a log may take."""
_TOO_MUCH = 3
PATCH_FILE, SCRIPT_FILE = "/tmp/patch.diff", "/eval.sh"
_APPLY_LOG, _APPLY_LOG_BYTES = "/gym-code-apply.log", 1_000_000
APPLY = (
    "git apply --verbose",
    "git apply --verbose --3way",
    "git apply --verbose --reject",
    "patch --batch --forward --fuzz=5 -p1 -i",
)
"""Each is tried on a clean tree; the first that takes the patch wins."""
_NEEDED = ("eval_script", "log_parser", "eval_type")
_END, _CODE = ">>>>> End Test Output", "SWEBENCH_TEST_EXIT_CODE"
_OUTCOMES = {
    "PASSED": Outcome.PASSED, "FAILED": Outcome.FAILED, "ERROR": Outcome.ERROR,
    "SKIPPED": Outcome.SKIPPED, "XFAIL": Outcome.XFAILED,
}  # fmt: skip
_FLAGS = {
    Cause.TIMED_OUT: (flags.TIMED_OUT,),
    Cause.OUT_OF_MEMORY: (flags.OUT_OF_MEMORY,),
    Cause.KILLED: (flags.CRASHED,),
}
_OWN_SIGNS = {
    "Error response from daemon": ("container_unavailable", "environment"),
    "Timeout error: ": ("tests_timed_out", "ambiguous"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialVerdict:
    """What SWE-bench's grading found."""

    resolved: bool
    applied: bool
    outcomes: Mapping[str, str] = field(default_factory=dict)
    """`Outcome` values of the expected tests, as its parser saw them; empty where it refused the log."""
    flags: tuple[str, ...] = ()
    reason: str = ""
    seconds: float = 0.0


def installed_version() -> str:
    """The version of the package `swebench`. Raises `ConfigError` where it is not installed."""
    try:
        return importlib.metadata.version("swebench")
    except importlib.metadata.PackageNotFoundError:
        raise ConfigError(
            "SWE-bench's own grader needs its package: pip install 'gym-code[swebench]'",
            where="grader official",
        ) from None


def check_row(row: Mapping[str, JSON]) -> None:
    """Raise `InputError` where a row does not say how tests are run, or they need files from elsewhere."""
    where = str(row.get("instance_id"))
    lacking = [name for name in _NEEDED if not isinstance(row.get(name), str) or not row[name]]
    if lacking:
        raise InputError(
            "SWE-bench's own grader cannot run it",
            where=where,
            expected=f"the columns {', '.join(_NEEDED)}, as rows of version 5 have them",
            found=f"no {', no '.join(lacking)}",
        )
    assets = row.get("image_assets") or {}
    assets = json.loads(assets) if isinstance(assets, str) else assets
    if any(assets.get(column) for column in ("patch", "test_patch")):
        raise InputError(
            "its tests compare with pictures that lie elsewhere",
            where=where,
            expected="no image_assets of its patches",
            found="some",
        )


def grade_row(
    row: Mapping[str, JSON],
    image: str,
    patch: bytes,
    folder: Path,
    *,
    limits: Limits,
    timeout: float = TIMEOUT,
) -> OfficialVerdict:
    """Grade a patch for the instance of a row in its image (an id on the daemon).

    Writes into `folder` what the harness writes: patch.diff, eval.sh, run_instance.log, test_output.txt,
    report.json (the last two only where the patch applies). Raises `InputError` (`check_row`), `SandboxError`
    for what is no fault of the patch, `SandboxUnavailable` where no daemon answers.
    """
    check_row(row)
    script = recording_exit_code(str(row["eval_script"])).encode("utf-8", "surrogateescape")
    separator = f"gym-code-{secrets.token_hex(16)}"
    files = {PATCH_FILE: patch, SCRIPT_FILE: script}
    ran = run_script(image, _driver(separator), files, limits=limits, timeout=timeout)
    before, _, after = ran.output.partition(f"\n{separator} ".encode())
    answer, _, log = after.partition(b"\n")
    applied = answer == b"applied"
    if not applied and answer != b"refused" and ran.cause is Cause.EXITED:
        said = answer or before[-300:]
        raise SandboxError(f"{row['instance_id']}: no patch was tried: {said.decode('utf-8', 'replace')}")
    told = ">>>>> Applied Patch" if applied else ">>>>> Patch Apply Failed"
    written = {"patch.diff": patch, "eval.sh": script, "run_instance.log": before + f"\n{told}\n".encode()}
    for name, content in written.items():
        replace_file(folder / name, content)
    notes = _FLAGS.get(ran.cause, ())
    if not applied:
        notes = (flags.PATCH_DOES_NOT_APPLY, *notes)
        why = _last_words(before)
        return OfficialVerdict(resolved=False, applied=False, flags=notes, reason=why, seconds=ran.seconds)
    text = log.decode("utf-8", "replace")
    if ran.cause is Cause.TIMED_OUT:
        text += f"\n\nTimeout error: {timeout:g} seconds exceeded."
    replace_file(folder / "test_output.txt", text.encode())
    if ran.cause is Cause.TIMED_OUT:
        why = f"the tests did not end within {timeout:g} seconds"
        return OfficialVerdict(resolved=False, applied=True, flags=notes, reason=why, seconds=ran.seconds)
    return _judged(row, folder, notes, ran.seconds)


def recording_exit_code(script: str) -> str:
    """An eval script that also tells how its test command ended, right after the output's end marker.

    Without it the harness's check of a log against that status has nothing to look at.
    """
    lines = script.split("\n")
    for number, line in enumerate(lines):
        if _END in line:
            told = f'echo ">>>>> Test Exit Code: ${_CODE}"'
            return "\n".join([*lines[:number], f"{_CODE}=$?", line, told, *lines[number + 1 :]])
    return script


def apply_commands(patch: str) -> str:
    """Bash that applies the patch in a file as SWE-bench does, where it stands; `$applied` says if it did."""
    attempts = "\n".join(f"attempt '{command}'" for command in APPLY)
    return f"""\
applied= again=
attempt() {{
  [ -z "$applied" ] || return 0
  if [ -n "$again" ]; then git checkout -- . ; git clean -fd; fi
  again=1
  printf '$ %s\\n' "$1"
  if $1 {patch}; then applied=1; fi
}}
{attempts}
if [ -z "$applied" ] && git apply --check --reverse {patch}; then applied=1; fi
"""


def _driver(separator: str) -> str:
    """Applies the patch, says how that went after a separator nobody can guess, and runs the eval script."""
    return f"""\
start=$PWD
say() {{ printf '\\n%s %s\\n' {separator} "$1"; }}
cd /testbed || {{ say 'there is no /testbed'; exit; }}
{{
{apply_commands(PATCH_FILE)}}} >{_APPLY_LOG} 2>&1
head -c {_APPLY_LOG_BYTES} {_APPLY_LOG}
rm -f {_APPLY_LOG}
cd "$start"
[ -n "$applied" ] || {{ say refused; exit; }}
say applied
/bin/bash {SCRIPT_FILE}
"""


def _last_words(log: bytes) -> str:
    """Why the last command refused a patch, shortly."""
    lines = [line for line in log.decode("utf-8", "replace").splitlines() if line.strip()]
    wrong = [line for line in lines if line.startswith(("error:", "patch: ****"))]
    return (wrong or lines or ["the patch did not apply"])[0][:300]


def _judged(row: Mapping[str, JSON], folder: Path, notes: tuple[str, ...], seconds: float) -> OfficialVerdict:
    found = _read_log(row, folder / "test_output.txt")
    if found is None:
        why = f"SWE-bench's parser did not come to an end with this log ({LOG_SECONDS} s, memory)"
        return OfficialVerdict(resolved=False, applied=True, flags=notes, reason=why, seconds=seconds)
    report: Mapping[str, Any] = found["report"]
    replace_file(folder / "report.json", json.dumps({str(row["instance_id"]): report}, indent=4).encode())
    understood = "tests_status" in report
    cause = report.get("infra_failure_reason")
    why = f"SWE-bench's parser refused the log{f' ({cause})' if cause else ''}"
    return OfficialVerdict(
        resolved=bool(report["resolved"]),
        applied=True,
        outcomes=_outcomes(report["tests_status"], found["seen"]) if understood else {},
        flags=notes,
        reason="" if understood else why,
        seconds=seconds,
    )


def _outcomes(status: Mapping[str, Mapping[str, Sequence[str]]], seen: Mapping[str, str]) -> dict[str, str]:
    """The outcome of each expected test; one that the log does not name is what the harness took it for."""
    found: dict[str, str] = {}
    for kind in (P2P, F2P):
        for verdict, otherwise in (("success", Outcome.PASSED), ("failure", Outcome.MISSING)):
            for test in status[kind][verdict]:
                found[test] = _OUTCOMES.get(seen.get(test, ""), otherwise).value
    return found


def _read_log(row: Mapping[str, JSON], log: Path) -> dict[str, Any] | None:
    """The report on a log and what its parser saw; None where that took more than it may."""
    columns = (*_NEEDED, "instance_id", "repo", "version", F2P, P2P)
    process = subprocess.run(
        [sys.executable, "-m", "gym_code.interop.official", str(log), str(LOG_SECONDS)],
        input=json.dumps({name: row.get(name, "") for name in columns}).encode(),
        capture_output=True,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        check=False,
    )
    if process.returncode in (-signal.SIGXCPU, _TOO_MUCH):
        return None
    if process.returncode:
        last = process.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise SandboxError(f"{row['instance_id']}: the package swebench failed: {''.join(last)[:500]}")
    found: dict[str, Any] = json.loads(process.stdout.splitlines()[-1])
    return found


def classify(*logs: Path) -> tuple[str, str] | None:
    """Which fault of the infrastructure SWE-bench sees in these logs: its reason, and how sure it is.

    Without the package only what our own logs say of such faults is found.
    """
    try:
        from swebench.harness.infra_failure import classify_logs
    except ImportError:
        text = "\n".join(log.read_text(errors="replace") for log in logs if log.is_file())
        return next((found for sign, found in _OWN_SIGNS.items() if sign in text), None)
    classified: tuple[str, str] | None = classify_logs(*logs)
    return classified


def _main(log: str, limit: int) -> None:
    """Print what SWE-bench makes of a log, as JSON; its row comes over standard input. limit: in seconds."""
    row = json.load(sys.stdin)
    from swebench.harness import grading
    from swebench.harness.utils import make_test_spec

    # What the package itself took to load is not the log's.
    seconds = math.ceil(time.process_time()) + limit
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + LOG_MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    spec = make_test_spec({**row, "image": ""})
    prediction = {"instance_id": row["instance_id"], "model_patch": ""}
    try:
        seen, _ = grading.get_logs_eval(spec, log)
        report = grading.get_eval_report(spec, prediction, log, include_tests_status=True)
    except MemoryError:
        sys.exit(_TOO_MUCH)
    print(json.dumps({"seen": seen, "report": report[row["instance_id"]]}))


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
