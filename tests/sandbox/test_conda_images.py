"""SWE-bench's images: Conda's base is on PATH, and the tests' interpreter is in an environment beside it."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gym_code.sandbox.base import BoxSpec
from gym_code.sandbox.build import build
from gym_code.sandbox.checks import start_tree
from gym_code.sandbox.docker import DockerBackend
from gym_code.sandbox.dockerd import connect
from gym_code.sandbox.images import base_image
from gym_code.sandbox.namespace import NamespaceBackend
from gym_code.sandbox.unpack import variables
from gym_code.types import Environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gym_code.sandbox.base import Backend

CONDA, TESTBED = "/opt/miniconda3/bin", "/opt/miniconda3/envs/testbed/bin"
IMAGE = f"""
ARG BASE
FROM ${{BASE}}
RUN mkdir -p {CONDA} {TESTBED} && printf '#!/bin/sh\\necho base\\n' >{CONDA}/python3 \\
 && printf '#!/bin/sh\\necho testbed\\n' >{TESTBED}/python3 && chmod 755 {CONDA}/* {TESTBED}/*
ENV PATH={CONDA}:/usr/local/bin:/usr/bin:/bin
"""


def test_the_environment_of_the_tests_goes_before_condas_base() -> None:
    assert variables([f"PATH={CONDA}:/bin"])["PATH"] == f"{TESTBED}:{CONDA}:/bin"
    for others in ("/usr/bin:/bin", f"{CONDA}:{TESTBED}:/bin", f"{CONDA}x:/bin", ""):
        assert variables([f"PATH={others}"])["PATH"] == others
    assert variables(["A=b"]) == {"A": "b"}


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="gym-code-conda-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def image() -> Iterator[str]:
    client: Any = connect()
    name = f"gym-code-test-conda:{os.getpid()}"
    base = base_image(client, "3.11")["Id"]
    build(client, tag=name, dockerfile=IMAGE, files={}, arguments={"BASE": base}, labels={})
    yield name
    client.remove_image(name)


@pytest.mark.docker
@pytest.mark.sandbox
def test_python_is_that_of_the_tests_in_both_backends(image: str, home: Path) -> None:
    spec = BoxSpec(start=start_tree({}), environment=Environment(image=image))
    backends: list[Backend] = [NamespaceBackend(home / "state", spare=0), DockerBackend(spare=0)]
    for backend in backends:
        with backend, backend.open(spec) as box:
            assert box.exec("python3; echo $PATH").stdout == (
                f"testbed\n{TESTBED}:{CONDA}:/usr/local/bin:/usr/bin:/bin\n".encode()
            )
