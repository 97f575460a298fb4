"""`import gym_code` is cheap, and makes the Gymnasium ids known whichever package is imported first."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "docker", "gymnasium", "numpy", "tree_sitter", "yaml", "typer", "rich", "git")


def python(code: str) -> str:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


def test_import_takes_less_than_300_ms_and_loads_nothing_heavy() -> None:
    code = (
        "import sys, time, json\n"
        "began = time.perf_counter()\n"
        "import gym_code\n"
        "print(json.dumps([time.perf_counter() - began, sorted(name.split('.')[0] for name in sys.modules)]))"
    )
    runs = [json.loads(python(code)) for _ in range(3)]
    # The best of three: a machine that does other work must not fail this, code that got slow must.
    assert min(seconds for seconds, _ in runs) < 0.3
    assert [name for name in HEAVY if name in runs[0][1]] == []


def test_who_needs_no_daemon_does_not_load_its_client() -> None:
    code = (
        "import sys, gym_code.cli, gym_code.env, gym_code.sandbox.namespace\n"
        "print([name for name in ('docker', 'requests', 'torch') if name in sys.modules])"
    )
    assert python(code) == "[]\n"


IDS = "print([i in gymnasium.registry for i in ('RepoFix-v0', 'RepoBuild-v0')])"


def test_ids_are_known_when_gym_code_comes_first() -> None:
    assert python(f"import gym_code\nimport gymnasium\n{IDS}") == "[True, True]\n"


def test_ids_are_known_when_gymnasium_comes_first() -> None:
    assert python(f"import gymnasium\nimport gym_code\n{IDS}") == "[True, True]\n"


def test_ids_are_known_when_gymnasium_is_told_the_module() -> None:
    # "no such suite" is raised by the constructor: the id was found.
    code = (
        "import gymnasium\n"
        "try:\n    gymnasium.make('gym_code:RepoFix-v0', suite='no-such-suite')\n"
        "except Exception as error:\n    print(type(error).__name__)"
    )
    assert python(code) == "TaskError\n"


def test_the_import_hook_steps_aside() -> None:
    code = (
        "import sys, gym_code\n"
        "hooks = lambda: [f for f in sys.meta_path if type(f).__module__ == 'gym_code.registration']\n"
        "before = len(hooks())\nimport gymnasium\nprint(before, len(hooks()))"
    )
    assert python(code) == "1 0\n"
