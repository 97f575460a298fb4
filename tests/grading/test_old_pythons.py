"""What is sent into a box runs on interpreters as old as those of SWE-bench: Python 3.6 with pytest 3."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from graded_toys import RIGHT, Toy, toy_of_pytest, toy_of_unittest

from gym_code.grading.plan import make_plan
from gym_code.grading.run import Plan, Run, run_in_box
from gym_code.grading.runners import RUNNERS
from gym_code.grading.runners.source import OLDEST_PYTHON, program
from gym_code.types import ExecResult, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

SHARED = "attrs==21.4.0 pluggy==0.13.1 py==1.11.0 six==1.16.0 importlib-metadata==4.8.3 zipp==3.6.0"
SHARED += (
    " typing-extensions==4.1.1 packaging==21.3 pyparsing==3.0.9 more-itertools==8.14.0 atomicwrites==1.4.1"
)
OLD = {
    ("3.6", "3.10.1"): f"{SHARED} setuptools==59.6.0",
    ("3.6", "4.6.11"): f"{SHARED} wcwidth==0.2.13",
    ("3.6", "6.2.5"): f"{SHARED} iniconfig==1.1.1 toml==0.10.2",
    ("3.8", "7.4.4"): "pluggy==1.3.0 iniconfig==2.0.0 packaging==23.2 exceptiongroup==1.2.0 tomli==2.0.1",
}
"""Requirements by versions of Python and pytest: indexes do not always say what an old Python can have."""


def interpreter(version: str) -> Path:
    """An old Python that pyenv built; skips where there is none."""
    home = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(home.glob(f"versions/{version}.*/bin/python3"))
    if not found:
        pytest.skip(f"no Python {version} here (pyenv install {version})")
    return found[-1]


class Here:
    """Runs a box's command as a process of this machine, with another interpreter."""

    def __init__(self, python: Path) -> None:
        self.python = python

    def exec(
        self, command: Sequence[str], *, timeout: float, stdin: bytes, cwd: str, **_: object
    ) -> ExecResult:
        assert command[0] == "python3"
        began = time.monotonic()
        end, channel = os.pipe()
        with os.fdopen(end, "rb") as messages:
            with os.fdopen(channel, "wb") as writing:
                number = str(writing.fileno())
                done = subprocess.run(
                    [self.python, *command[1:]],
                    input=stdin,
                    capture_output=True,
                    timeout=timeout,
                    check=False,
                    cwd=cwd,
                    pass_fds=[writing.fileno()],
                    env={"PATH": os.defpath, "GYM_CODE_CHANNEL": number, "PYTHONHASHSEED": "0"},
                )
            said = messages.read()
        seconds = time.monotonic() - began
        return ExecResult(exit_code=done.returncode, stderr=done.stderr, channel=said, seconds=seconds)


def graded(made: Toy, patch: bytes, python: Path, folder: Path, **changes: Any) -> Run:
    """The run of a patch over a copy of the tree."""
    tree = folder / f"tree-{time.monotonic_ns()}"
    for path, file in made.base.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(file.content)
    task = replace(made.task, workdir=str(tree), **changes)
    plan = make_plan(task, made.answer, made.base, patch)
    assert isinstance(plan, Plan)
    return run_in_box(Here(python), task, plan, timeout=60.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["main.py", *(runner.program for runner in RUNNERS.values())])
def test_what_is_sent_is_understood_by_the_oldest_python(name: str) -> None:
    text = program(name)
    tree = ast.parse(text, feature_version=OLDEST_PYTHON)
    young = (ast.AnnAssign, ast.NamedExpr, ast.Match, ast.AsyncFor)
    assert not [node for node in ast.walk(tree) if isinstance(node, young)]
    assert "gym_code" not in text.replace("GYM_CODE", "")
    assert '"""' not in text
    assert "__future__" not in text


def test_a_python_older_than_that_can_read_why_it_is_too_old() -> None:
    text = program("main.py")
    ast.parse(text, feature_version=(3, 5))
    check = text.index("sys.version_info < (3, 6)")
    assert text[:check].count("import ") == 1, "nothing is imported before the check but sys"


def test_a_python_that_is_too_old_says_so(tmp_path: Path) -> None:
    """An interpreter that says it is 3.5: only its version is told wrong."""
    python = tmp_path / "python3"
    python.write_text(
        f'#!{sys.executable}\nimport sys\nsys.version_info, sys.version = (3, 5, 2), "3.5.2 (default)"\n'
        "exec(sys.argv[sys.argv.index('-c') + 1])\n"
    )
    python.chmod(0o755)
    run = graded(toy_of_unittest(), b"", python, tmp_path)
    assert run.abnormal
    assert run.failure == "tests need Python 3.6 or later, and python3 is 3.5.2 here"


@pytest.mark.parametrize("version", ["3.6", "3.7", "3.9"])
def test_unittest_in_an_old_python(version: str, tmp_path: Path) -> None:
    made, python = toy_of_unittest(), interpreter(version)
    solved, empty = (graded(made, patch, python, tmp_path) for patch in (made.answer.gold_patch, b""))
    assert (solved.failure, solved.flags) == ("", ())
    assert set(solved.report.outcomes.values()) == {Outcome.PASSED}
    assert (empty.failure, empty.flags) == ("", ())
    assert [empty.report.outcomes[test] for test in made.answer.fail_to_pass] == [Outcome.FAILED] * 2


@pytest.fixture(scope="module")
def old_pytest(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """Makes environments with old versions of Python and pytest; skips where they cannot be had."""

    def make(version: str, of_pytest: str) -> Path:
        folder = tmp_path_factory.mktemp("env") / "venv"
        subprocess.run([interpreter(version), "-m", "venv", "--without-pip", folder], check=True)
        target = folder / f"lib/python{version}/site-packages"
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target)]
        wanted = [f"pytest=={of_pytest}", *OLD[version, of_pytest].split()]
        done = subprocess.run([*pip, *wanted], capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"no package index answers: {done.stderr[-200:]}")
        return folder / "bin/python3"

    return make


@pytest.mark.parametrize(("version", "of_pytest"), OLD)
def test_old_pytest_in_an_old_python(
    version: str, of_pytest: str, tmp_path: Path, old_pytest: Callable[[str, str], Path]
) -> None:
    made, python = without_options(toy_of_pytest()), old_pytest(version, of_pytest)
    exact, printed = (graded(made, made.answer.gold_patch, python, tmp_path, **ids) for ids in IDS)
    empty = graded(made, b"", python, tmp_path)
    for run in (exact, printed):
        assert (run.failure, run.flags) == ("", ())
        assert set(run.report.outcomes.values()) == {Outcome.PASSED}
    assert (empty.failure, empty.flags) == ("", ())
    assert [empty.report.outcomes[test] for test in made.answer.fail_to_pass] == [Outcome.FAILED] * 3


IDS: tuple[Mapping[str, str], ...] = ({"ids": "exact"}, {"ids": "swebench"})


def without_options(made: Toy) -> Toy:
    """The toy without options that no pytest has: SWE-bench's instances are run with the tree's."""
    return replace(made, base={path: file for path, file in made.base.items() if path != "pyproject.toml"})


def test_a_package_installed_as_editable_is_found_where_it_lies(tmp_path: Path) -> None:
    """A `.pth` file names its tree, which is for the tests and not for the program that starts them."""
    env = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", env], check=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/lib_of_src.py").write_text("five = 5\n")
    (tmp_path / "elsewhere/marshal.py").write_text("raise SystemExit\n")
    made = toy_of_unittest()
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (env / f"lib/{version}/site-packages/x.pth").write_text(f"{tmp_path / 'elsewhere'}\n")
    made = replace(
        made, task=replace(made.task, environment=replace(made.task.environment, packages=("x==1",)))
    )
    patch = made.patch({"calc.py": "from lib_of_src import five\n" + RIGHT})
    run = graded(made, patch, env / "bin/python3", tmp_path)
    assert set(run.report.outcomes.values()) == {Outcome.PASSED}, run
