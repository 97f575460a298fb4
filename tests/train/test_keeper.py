"""Law 8 for servers: whatever becomes of their owner, nothing of them is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gym_code.errors import ConfigError
from train.engine.server import KEEPER, VARIABLE, vllm_python

# A server with a helper in its process group; the stubborn one outlives a polite request to end.
POLITE = "sleep 987 & echo $$ $! > pids; wait"
STUBBORN = f"trap '' TERM; {POLITE}"
OWNER = """
import subprocess, sys, time
keeper = subprocess.Popen([sys.executable, "-I", sys.argv[1], sys.argv[2], "sh", "-c", sys.argv[3]],
                          stdin=subprocess.PIPE, cwd=sys.argv[4], start_new_session=True)
print(keeper.pid, flush=True)
time.sleep(1000)
"""


def soon(holds: Callable[[], bool], seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state == "Z"


def start(tmp_path: Path, server: str) -> tuple[subprocess.Popen[str], int, list[int]]:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    command = [sys.executable, "-c", OWNER, str(KEEPER), str(scratch), server, str(tmp_path)]
    owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    keeper = int(owner.stdout.readline())
    pids = tmp_path / "pids"
    assert soon(lambda: pids.is_file() and len(pids.read_text().split()) == 2)
    return owner, keeper, [int(pid) for pid in pids.read_text().split()]


def test_law_8_a_killed_owner_leaves_no_server(tmp_path: Path) -> None:
    owner, keeper, server = start(tmp_path, STUBBORN)
    owner.kill()
    owner.wait()
    assert soon(lambda: all(gone(pid) for pid in [keeper, *server]))
    assert not (tmp_path / "scratch").exists()


def test_law_8_a_killed_server_takes_its_helpers_along(tmp_path: Path) -> None:
    owner, keeper, server = start(tmp_path, POLITE)
    os.kill(server[0], signal.SIGKILL)
    assert soon(lambda: all(gone(pid) for pid in [keeper, *server]))
    owner.kill()
    owner.wait()


def test_law_8_a_killed_keeper_takes_the_server_along(tmp_path: Path) -> None:
    owner, keeper, server = start(tmp_path, POLITE)
    os.kill(keeper, signal.SIGKILL)
    assert soon(lambda: all(gone(pid) for pid in server))
    assert soon(lambda: not (tmp_path / "scratch").exists())
    owner.kill()
    owner.wait()


def test_a_missing_vllm_says_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "python"))
    with pytest.raises(ConfigError, match="run `make vllm`"):
        vllm_python()
