"""Environments: an interpreter and packages of their own, built once; pip's words when they cannot be."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from gym_code.errors import EnvironmentBuildError
from gym_code.sandbox.base import BoxSpec
from gym_code.sandbox.checks import start_tree
from gym_code.sandbox.image import relocate
from gym_code.sandbox.namespace import NamespaceBackend
from gym_code.types import Environment

pytestmark = pytest.mark.sandbox


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[NamespaceBackend]:
    """A backend with a state directory of its own, and pip confined to a wheel made here."""
    home = Path(tempfile.mkdtemp(prefix="gym-code-image-"))
    home.chmod(0o755)
    make_wheel(home)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(home))
    with NamespaceBackend(home / "state", spare=0) as backend:
        yield backend
    shutil.rmtree(home)


def make_wheel(folder: Path) -> None:
    """A wheel with one module and one console script."""
    info = "toypack-1.2.dist-info/"
    files = {
        "toypack.py": "def main():\n    print('toy', __file__)\n",
        info + "METADATA": "Metadata-Version: 2.1\nName: toypack\nVersion: 1.2\n",
        info + "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        info + "entry_points.txt": "[console_scripts]\ntoy = toypack:main\n",
    }
    record = "".join(
        f"{name},sha256={urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b'=').decode()},{len(text)}\n"
        for name, text in files.items()
    )
    with zipfile.ZipFile(folder / "toypack-1.2-py3-none-any.whl", "w") as wheel:
        for name, text in {**files, info + "RECORD": record + info + "RECORD,,\n"}.items():
            wheel.writestr(name, text)


def spec(*packages: str, **env: str) -> BoxSpec:
    return BoxSpec(start=start_tree({}), environment=Environment(packages=packages, env=env))


def test_packages_and_variables_are_the_environments_own(backend: NamespaceBackend) -> None:
    with backend.open(spec("toypack==1.2", EXTRA="yes")) as box:
        assert box.exec(["toy"]).stdout == b"toy /opt/env/lib/python3.11/site-packages/toypack.py\n"
        assert box.exec("echo $EXTRA").stdout == b"yes\n"
        assert box.exec(["head", "-1", "/opt/env/bin/toy"]).stdout == b"#!/opt/env/bin/python\n"
        listing = "import importlib.metadata as m; print([d.name for d in m.distributions()])"
        assert box.exec(["python", "-c", listing]).stdout == b"['toypack']\n"
    with backend.open(spec()) as box:
        assert box.exec(["python", "-c", "import toypack"]).exit_code == 1


def test_byte_code_is_there_and_names_no_place_of_the_host(backend: NamespaceBackend) -> None:
    with backend.open(spec("toypack==1.2")) as box:
        code = (
            "import glob, importlib.util as u, toypack, json\n"
            "for m in (toypack, json):\n"
            "    d = open(u.cache_from_source(m.__file__), 'rb').read()\n"
            "    print(int.from_bytes(d[4:8], 'little'), b'/opt/env/lib/' in d, b'gym-code-image' in d)"
        )
        assert box.exec(["python", "-c", code]).stdout == b"1 True False\n" * 2


def test_a_package_that_is_not_there_is_named_in_pips_words(backend: NamespaceBackend) -> None:
    with pytest.raises(EnvironmentBuildError, match=r"No matching distribution found for toypack==9"):
        backend.open(spec("toypack==9"))
    assert backend._started is not None
    assert [path.name for path in backend._started.home.envs.iterdir() if path.is_dir()] == []


@pytest.mark.parametrize("package", ["--index-url=http://x", "a\nb"])
def test_options_are_no_packages(backend: NamespaceBackend, package: str) -> None:
    with pytest.raises(EnvironmentBuildError, match="not a package requirement"):
        backend.open(spec(package))


def test_an_interpreter_that_is_not_there_is_named(backend: NamespaceBackend) -> None:
    other = BoxSpec(start=start_tree({}), environment=Environment(python="3.99"))
    with pytest.raises(EnvironmentBuildError, match=r"no python3\.99 on PATH"):
        backend.open(other)


def test_run_paths_are_rewritten_in_place(tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF\0/home/someone/lib\0rest")
    relocate(program, "/home/someone/lib")
    assert program.read_bytes() == b"\x7fELF\0$ORIGIN/../lib\0\0\0\0rest"
    assert len(b"/home/someone/lib") == len(b"$ORIGIN/../lib\0\0\0")


@pytest.mark.skipif(os.geteuid() != 0, reason="root drops to another uid")
def test_root_is_dropped(backend: NamespaceBackend) -> None:
    with backend.open(spec()):
        assert backend._started is not None
        status = Path(f"/proc/{backend._started.keeper.process.pid}/status").read_text()
        assert "Uid:\t58713\t58713\t58713\t58713\n" in status
