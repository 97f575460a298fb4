"""The wheel: what lies in it, and that it works in an empty environment, from any directory."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from test_users import NOBODY, interpreter_of_a_user

from gym_code import __version__
from gym_code.suite.tree import LEFTOVERS
from gym_code.task import load_suite

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SUITES = sorted(path.parent.name for path in (ROOT / "tasks").glob("*/sweb.yaml"))
INFO = f"gym_code-{__version__}.dist-info"

CHECKOUT = ("agents", "benchmarks", "containers", "docs", "gym_code", "tasks", "tests", "train")
FILES = (".ci/run", ".gitignore", "CHANGELOG.md", "LICENSE", "Makefile", "README.md", "pyproject.toml")

DIGESTS = """
import json
from gym_code.data import shipped_suites
from gym_code.task import load_suite
suites = [load_suite(name) for name in shipped_suites()]
print(json.dumps({task: [s.task(task).digest, s.start(task).digest] for s in suites for task in s.ids()}))
"""


def build(source: Path, kind: str, out: Path) -> Path:
    """Build with the hatchling that the extra `dev` installed: nothing is downloaded."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", kind, "--directory", str(out)]
    subprocess.run(command, cwd=source, check=True, capture_output=True, timeout=120)
    [built] = out.iterdir()
    return built


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def tree(name: str) -> dict[str, bytes]:
    """A directory of the checkout by path, minus what tools leave in it."""
    files = (path for path in (ROOT / name).rglob("*") if path.is_file() and not LEFTOVERS & {*path.parts})
    return {str(path.relative_to(ROOT)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(ROOT, "wheel", tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, unpacked."""
    directory = tmp_path_factory.mktemp("sdist")
    with tarfile.open(build(ROOT, "sdist", directory / "built")) as archive:
        archive.extractall(directory, filter="data")
    return directory / f"gym_code-{__version__}"


def test_the_wheel_holds_gym_code_and_its_data_and_nothing_else(wheel: Path) -> None:
    held = contents(wheel)
    data = {f"gym_code/_data/{name}": file for name, file in (tree("tasks") | tree("containers")).items()}
    expected = tree("gym_code") | data
    assert "gym_code/py.typed" in expected
    assert "gym_code/_data/tasks/starter/sweb.yaml" in expected
    assert {name for name in held if name.split("/")[0] != INFO} == set(expected)
    assert [name for name, content in expected.items() if held[name] != content] == []
    assert {name.removeprefix(f"{INFO}/") for name in held if name.split("/")[0] == INFO} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
    }
    assert held[f"{INFO}/licenses/LICENSE"] == (ROOT / "LICENSE").read_bytes()


def test_the_source_archive_is_a_checkout_and_builds_the_same_wheel(
    sdist: Path, wheel: Path, tmp_path: Path
) -> None:
    expected = {name: (ROOT / name).read_bytes() for name in FILES}
    for directory in CHECKOUT:
        expected |= tree(directory)
    found = {name: (sdist / name).read_bytes() for name in expected if (sdist / name).is_file()}
    assert sorted(set(expected) - set(found)) == []
    assert [name for name, content in expected.items() if found[name] != content] == []
    assert contents(build(sdist, "wheel", tmp_path)) == contents(wheel)


class Installed:
    """The wheel in an environment of its own, used from a directory that has nothing to do with it."""

    def __init__(self, root: Path) -> None:
        self.venv, self.elsewhere = root / "venv", root / "elsewhere"
        self.elsewhere.mkdir(mode=0o755)

    def __call__(
        self, *command: str, home: Path | None = None, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        program, *arguments = command
        kept = {
            k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV", "GYM_CODE_"))
        }
        env = kept | {"GYM_CODE_SANDBOX": "namespace"} | ({"HOME": str(home)} if home else {})
        return subprocess.run(
            [str(self.venv / "bin" / program), *arguments],
            cwd=self.elsewhere,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            **options,
        )


@pytest.fixture(scope="module")
def installed(wheel: Path) -> Iterator[Installed]:
    # Neither below tmp_path nor with an interpreter in root's home: an ordinary user is to use it.
    root = Path(f"/tmp/gym-code-wheel-test-{os.getpid()}")
    root.mkdir(mode=0o755)
    try:
        found = Installed(root)
        interpreter = interpreter_of_a_user() or sys.executable
        subprocess.run([interpreter, "-m", "venv", "--without-pip", str(found.venv)], check=True)
        pip = [sys.executable, "-m", "pip", "--python", str(found.venv / "bin" / "python"), "install", "-q"]
        ran = subprocess.run([*pip, str(wheel)], capture_output=True, text=True, timeout=600, check=False)
        if ran.returncode and os.environ.get("CI") != "true":
            pytest.skip(f"pip could not install the wheel (no package index?): {ran.stderr.strip()[-300:]}")
        assert ran.returncode == 0, ran.stderr
        yield found
    finally:
        shutil.rmtree(root)


def readme_example() -> tuple[str, str]:
    """The Python example of the README and what it prints."""
    found = re.search(r"```python\n(.*?)```\n\nprints\n\n```\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1], found[2]


def test_every_task_is_the_checkouts(installed: Installed) -> None:
    suites = [load_suite(name) for name in SUITES]
    here = {task: [s.task(task).digest, s.start(task).digest] for s in suites for task in s.ids()}
    ran = installed("python", "-c", DIGESTS)
    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == here


def test_only_the_core_is_installed(installed: Installed) -> None:
    code = (
        "from importlib.util import find_spec as find\n"
        "print([name for name in ('agents', 'train', 'torch', 'pytest', 'gym_code') if find(name)])"
    )
    assert installed("python", "-c", code).stdout == "['gym_code']\n"


@pytest.mark.sandbox
def test_the_readmes_episode(installed: Installed) -> None:
    code, printed = readme_example()
    ran = installed("python", "-c", code)
    assert (ran.stdout, ran.stderr, ran.returncode) == (printed, "", 0)


@pytest.mark.sandbox
def test_the_readmes_episode_as_an_ordinary_user(installed: Installed) -> None:
    if os.geteuid() != 0:
        pytest.skip("the other tests ran as an ordinary user")
    if interpreter_of_a_user() is None:
        pytest.skip("no interpreter of this version that an ordinary user may execute")
    home = installed.elsewhere / "home"
    home.mkdir()
    os.chown(home, NOBODY, NOBODY)
    code, printed = readme_example()
    ran = installed("python", "-c", code, home=home, user=NOBODY, group=NOBODY, extra_groups=[])
    assert (ran.stdout, ran.stderr, ran.returncode) == (printed, "", 0)
    subprocess.run(["chmod", "-R", "u+rwX", str(home)], check=False)


@pytest.mark.sandbox
def test_the_readmes_first_commands(installed: Installed) -> None:
    found = re.search(r"```\npip install gym-code .*\n(gym-code [^`]*)```", README)
    assert found is not None
    commands = [line.partition("#")[0].split() for line in found[1].splitlines()]
    assert [command[1] for command in commands] == ["doctor", "tasks"]
    said = [installed(*command) for command in commands]
    assert [(ran.returncode, ran.stdout.splitlines()[-1]) for ran in said] == [
        (0, "boxes run here"),
        (0, "1 of 1 tasks are sound (gold and no-op graded 3 times each)"),
    ]


@pytest.mark.sandbox
def test_the_commands_that_need_no_checkout(installed: Installed, tmp_path: Path) -> None:
    assert installed("gym-code", "tasks", "list").stdout.split() == SUITES
    listed = installed("gym-code", "tasks", "list", "starter", "--ids")
    assert listed.stdout.split() == list(load_suite("starter").ids())
    assert "def touches" not in installed("gym-code", "tasks", "show", "starter", "spans__touches-1").stdout
    made = installed("gym-code", "tasks", "check", "procedural:seed=7,count=1", "--runs", "1")
    assert made.returncode == 0, made.stderr
    gold = tmp_path / "gold.patch"
    gold.write_bytes(load_suite("starter").answer("spans__touches-1").gold_patch)
    graded = installed(
        "gym-code",
        "grade",
        "--suite",
        "starter",
        "--task",
        "spans__touches-1",
        "--patch",
        str(gold),
        "--json",
    )
    assert (graded.returncode, json.loads(graded.stdout)["reward"]) == (0, 1.0), graded.stderr


@pytest.mark.parametrize(
    "command", [("run", "--suite", "starter", "--task", "spans__touches-1"), ("train", "--model", "tiny")]
)
def test_commands_that_need_a_checkout_say_so(installed: Installed, command: tuple[str, ...]) -> None:
    ran = installed("gym-code", *command)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == (
        "gym-code: this command needs a checkout of gym-code; its source archive holds one: "
        f"pip download --no-deps --no-binary gym-code gym-code=={__version__}\n"
    )
