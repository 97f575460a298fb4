"""The env works for root and for an ordinary user alike: ten steps, word for word the same, on every shipped
suite and on a task cut out of a real package.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gym_code.errors import InputError
from gym_code.sandbox import open_backend
from gym_code.synth.make import make_suite

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]
ROOT = Path(__file__).resolve().parent.parent
SUITES = sorted(path.parent.name for path in (ROOT / "tasks").glob("*/sweb.yaml"))
NOBODY = 65534


PACKAGE = "pypi:inflection==0.5.1"


@pytest.fixture(scope="module")
def suites() -> Iterator[list[str]]:
    """References of the suites to play; the one of the package lies where every user may read it."""
    directory = Path(f"/tmp/gym-code-package-test-{os.getpid()}")
    directory.mkdir(mode=0o755)
    backend = open_backend("namespace")
    try:
        report = make_suite(PACKAGE, directory, backend=backend, workers=2, limit=1)
        assert report.accepted == 1
        subprocess.run(["chmod", "-R", "a+rX", str(directory)], check=True)
        yield [*SUITES, str(directory)]
    except InputError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no package index answers: {error}")
    finally:
        backend.close()
        shutil.rmtree(directory)


def play(interpreter: str, home: Path, suites: list[str], **options: Any) -> tuple[int, dict[str, Any]]:
    path = os.pathsep.join([str(ROOT), sysconfig.get_path("purelib")])
    kept = {key: value for key, value in os.environ.items() if key.startswith(("PIP_", "LANG"))}
    env = {**kept, "PATH": "/usr/local/bin:/usr/bin:/bin", "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
    run = subprocess.run(
        [interpreter, str(ROOT / "tests" / "play_ten_steps.py"), *suites],
        env={**env, "HOME": str(home)},
        cwd=home,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        **options,
    )
    assert run.returncode == 0, run.stderr
    uid, played = json.loads(run.stdout)
    return uid, played


def interpreter_of_a_user() -> str | None:
    """An interpreter of our version that a user who is not root may execute, or None."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    for candidate in (os.path.realpath(sys.executable), f"/usr/bin/{name}", f"/usr/local/bin/{name}"):
        trial = [candidate, "-c", "import sys"]
        try:
            if subprocess.run(trial, user=NOBODY, group=NOBODY, cwd="/", check=False).returncode == 0:
                return candidate
        except OSError:
            continue
    return None


@pytest.fixture
def home() -> Iterator[Path]:
    # Not tmp_path: what lies below it belongs to the user who runs the tests, and the other may not enter.
    home = Path(f"/tmp/gym-code-user-test-{os.getpid()}")
    home.mkdir(mode=0o755)
    if os.geteuid() == 0:
        os.chown(home, NOBODY, NOBODY)
    yield home
    subprocess.run(["chmod", "-R", "u+rwX", str(home)], check=False)
    shutil.rmtree(home)


def test_ten_steps_as_root_and_as_an_ordinary_user(home: Path, suites: list[str]) -> None:
    assert "starter" in SUITES
    if os.geteuid() != 0:
        uid, played = play(sys.executable, home, suites)
        assert uid == os.geteuid()
    else:
        interpreter = interpreter_of_a_user()
        if interpreter is None:
            pytest.skip("no interpreter of this version that an ordinary user may execute")
        uid, played = play(interpreter, home, suites, user=NOBODY, group=NOBODY, extra_groups=[])
        assert uid == NOBODY
        assert play(sys.executable, Path.home(), suites)[1] == played
    for suite in suites:
        task_id, reward, terminated, valid, said = played[suite]
        assert task_id.split("__")[0]
        assert (reward, terminated, valid) == (0.0, True, True)
        assert said[4].split("\n")[0].endswith(" passed, 0 failed"), suite
        assert said[5:] == [
            "Wrote note.txt.",
            "Edited note.txt.",
            "size \U0001f40d\n",
            "Error: unknown tool 'fly'. The tools are: bash, view, edit, write, search, test, submit.",
            "Submitted.",
        ]
