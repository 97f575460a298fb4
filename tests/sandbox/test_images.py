"""Images on a real daemon: environments, the guest runtime, and boxes of images that others made."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gym_code.cli.images import environments, parse_size
from gym_code.errors import EnvironmentBuildError, InputError
from gym_code.sandbox import images, runtime
from gym_code.sandbox.base import Backend, BoxSpec
from gym_code.sandbox.build import build, pip_files, pip_settings
from gym_code.sandbox.checks import start_tree
from gym_code.sandbox.docker import DockerBackend
from gym_code.sandbox.dockerd import KIND, connect
from gym_code.sandbox.image_gc import ImageInfo, gc_images, list_images, next_to_go
from gym_code.sandbox.images import base_image, environment_image, guest_image
from gym_code.sandbox.namespace import NamespaceBackend
from gym_code.types import Environment, File

ROOT = Path(runtime.__file__).resolve().parents[2]
NO_PYTHON = """
ARG BASE
FROM ${BASE} AS base
LABEL gym-code.kind=stage
RUN mkdir -p /small/bin && cd /small/bin && cp /bin/bash /bin/cat /bin/ls /bin/touch /bin/mkdir . \\
 && for file in $(ldd /small/bin/* | grep -o '/[^ ]*[.]so[^ ]*' | sort -u); do \\
      cp --parents -L $file /small; done \\
 && ln -s bash sh && printf '#!/bin/sh\\necho only here' >special && chmod 755 special
FROM scratch
COPY --from=base /small /
ENV PATH=/bin GREETING=hello HOME=/nowhere
"""
"""Programs and their libraries, and nothing else: no Python, no /tmp, no /home."""

needs_docker = pytest.mark.docker


@pytest.fixture(scope="module")
def client() -> Any:
    return connect()


@pytest.fixture(scope="module")
def small(client: Any) -> Iterator[str]:
    """An image without any Python, with a variable and a program that only it has."""
    name = f"gym-code-test-small:{os.getpid()}"
    base = base_image(client, "3.11")["Id"]
    build(client, tag=name, dockerfile=NO_PYTHON, files={}, arguments={"BASE": base}, labels={})
    yield name
    client.remove_image(name)


@pytest.fixture
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="gym-code-images-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def in_container(client: Any, image: str, *command: str) -> str:
    """What a command prints in a container without a network; it must end well."""
    host = client.create_host_config(network_mode="none", read_only=True)
    container = client.create_container(image, list(command), entrypoint=[], host_config=host)["Id"]
    try:
        client.start(container)
        status = client.wait(container)["StatusCode"]
        text: str = client.logs(container).decode()
    finally:
        client.remove_container(container, force=True)
    assert status == 0, text
    return text


def starter() -> Environment:
    """The one environment with packages of the starter suite: other tests need its image, too."""
    (found,) = (environment for environment in environments("starter", "", []) if environment.packages)
    return found


@needs_docker
def test_an_environment_holds_its_pins_and_is_found_again(client: Any) -> None:
    environment = starter()
    made = environment_image(client, environment)
    told: list[str] = []
    again = environment_image(client, replace(environment, env={"OTHER": "1"}), told.append)
    assert (again, told) == (made, [])
    assert made.env == {}
    listing = (
        "import importlib.metadata as m; print(*sorted(f'{d.name}=={d.version}' for d in m.distributions()))"
    )
    said = in_container(client, made.id, "python", "-c", listing)
    assert sorted(said.lower().split()) == sorted(environment.packages)
    words = "id -u; id -un; pwd; git config user.name; ls -d /pip 2>&1; touch /opt/env/x 2>&1"
    said = in_container(client, made.id, "bash", "-c", f"{words}; true")
    assert said.split()[:4] == ["1000", "agent", "/testbed", "agent"]
    assert "'/pip': No such file" in said
    assert "Read-only" in said


@needs_docker
def test_environments_share_the_layers_of_their_base(client: Any) -> None:
    bare, full = environment_image(client, Environment()), environment_image(client, starter())
    base = client.inspect_image(base_image(client, "3.11")["Id"])["RootFS"]["Layers"]
    layers = [client.inspect_image(image.id)["RootFS"]["Layers"] for image in (bare, full)]
    assert layers[0][: len(base)] == base
    assert layers[1][: len(layers[0])] == layers[0]
    assert len(layers[1]) == len(layers[0]) + 1


@needs_docker
def test_a_step_that_fails_is_told_in_its_own_last_words(client: Any) -> None:
    wanted = (
        r"(?s)cannot build gym-code/env:\w+: RUN .*No matching distribution found for iniconfig==0\.0\.99"
    )
    with pytest.raises(EnvironmentBuildError, match=wanted):
        environment_image(client, Environment(packages=("iniconfig==0.0.99",)))
    assert client.images(filters={"label": f"{KIND}=stage"}) == []


@needs_docker
def test_images_that_are_not_to_be_had_are_named(client: Any) -> None:
    with pytest.raises(
        EnvironmentBuildError, match=r"localhost:1/none:1 is not on the daemon and cannot be pulled"
    ):
        environment_image(client, Environment(image="localhost:1/none:1"))
    with pytest.raises(
        EnvironmentBuildError, match=r"no base image for Python 3\.99: .*; run: make docker-base"
    ):
        environment_image(client, Environment(python="3.99"))


@needs_docker
def test_two_that_build_the_same_at_once_build_it_once(client: Any) -> None:
    text = f"ARG BASE\nFROM ${{BASE}}\nRUN sleep 1; echo {os.getpid()} >/who\n"
    base = base_image(client, "3.11")["Id"]
    told: list[list[str]] = [[], []]
    ids: list[str] = []

    def make(at: int) -> None:
        made = images._made(connect(), images.PREPARED, base, text, {}, {}, told[at].append)
        ids.append(made["Id"])

    threads = [threading.Thread(target=make, args=(at,)) for at in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids[0] == ids[1]
    assert sorted(map(bool, told)) == [False, True]
    client.remove_image(ids[0], force=True)


@needs_docker
def test_the_guest_runtime_runs_from_an_image_that_holds_nothing_else(client: Any) -> None:
    name = guest_image(client)
    code = (
        "import sys; sys.path.insert(0, '/gym-code/lib')\n"
        "import ctypes, hashlib, socket, subprocess, threading, traceback, os\n"
        "from gym_code.sandbox import guest, container_keeper\n"
        "print(os.listdir('/'), ctypes.CDLL(None).getpid(), hashlib.sha256(b'').hexdigest()[:8], sys.prefix)"
    )
    said = in_container(client, name, *runtime.command(runtime.PLACE), "-c", code)
    assert said.endswith("] 1 e3b0c442 /gym-code\n")
    assert "'bin'" not in said
    assert guest_image(client) == name


@needs_docker
@pytest.mark.sandbox
def test_law_1_an_image_without_python_is_the_same_box_in_both_backends(
    client: Any, small: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = home / "small.tar"
    with archive.open("wb") as file:
        for piece in client.get_image(small):
            file.write(piece)
    found = []
    backends: list[tuple[Backend, str]] = [
        (NamespaceBackend(home / "state", spare=0), small),
        (NamespaceBackend(home / "other", spare=0), str(archive)),
        (DockerBackend(spare=0), small),
    ]
    for backend, image in backends:
        try:
            environment = Environment(image=image, env={"EXTRA": "yes"})
            start = start_tree({"a.txt": File(content=b"1\n")})
            with backend.open(BoxSpec(start=start, environment=environment, workdir="/srv/deep/work")) as box:
                said = box.exec("special; echo $GREETING $EXTRA $HOME $PATH; pwd; cat a.txt /etc/hostname")
                expected = b"only here\nhello yes /home/agent /bin\n/srv/deep/work\n1\ngym\n"
                assert (said.stdout, said.stderr) == (expected, b"")
                for place in ("/bin/x", "/x", "/etc/hostname", "/srv/x", "/gym-code/x"):
                    assert box.exec(["touch", place]).exit_code == 1
                assert box.exec(["python3"]).exit_code == 127
                box.write("new/b.txt", b"2\n")
                assert box.read("new/b.txt") == b"2\n"
                found.append((box.digest(), box.diff()))
        finally:
            backend.close()
    assert found[0] == found[1] == found[2]
    assert b"+++ b/new/b.txt" in found[0][1]
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    with NamespaceBackend(home / "state", spare=0) as again:
        again.prepare(
            BoxSpec(start=start_tree({}), environment=Environment(image=small))
        )  # it is there already
    with (
        NamespaceBackend(home / "other", spare=0) as other,
        pytest.raises(EnvironmentBuildError, match="docker save"),
    ):
        other.prepare(BoxSpec(start=start_tree({}), environment=Environment(image="never-seen:1")))


@pytest.mark.sandbox
def test_a_runtime_runs_where_nothing_else_is_and_is_the_same_each_time(home: Path) -> None:
    for name in ("one", "two"):
        (home / name).mkdir()
        runtime.collect(home / name, ROOT)
    first, second = (
        {
            path.relative_to(home / name): path.read_bytes()
            for path in (home / name).rglob("*")
            if path.is_file()
        }
        for name in ("one", "two")
    )
    assert first == second
    command = ["bwrap", "--unshare-all", "--ro-bind", str(home / "one"), "/gym-code", "--proc", "/proc"]
    command += ["--dev", "/dev", "--clearenv", *runtime.command("/gym-code")]
    code = "import sys; sys.path.insert(0, '/gym-code/lib')\n"
    code += (
        "from gym_code.sandbox import guest, keeper\nprint(sorted({path.split('/')[1] for path in sys.path}))"
    )
    said = subprocess.run([*command, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (said.stdout, said.stderr) == ("['gym-code']\n", "")


def test_a_runtime_brings_all_that_its_sources_import() -> None:
    names = {Path(name).stem for name in runtime.sources(ROOT)}
    assert {
        "guest",
        "container_keeper",
        "keeper",
        "changes",
        "mounts",
        "removal",
        "seccomp",
        "ignore",
    } <= names
    assert "images" not in names
    assert len(runtime.identity(ROOT)) == 24


def info(
    name: str, kind: str, size: int, used: float, parent: str = "", *, in_use: bool = False
) -> ImageInfo:
    return ImageInfo(
        name=name, id=name, kind=kind, bytes=size, last_used=used, in_use=in_use, parent=parent, made_from=""
    )


def gone(held: list[ImageInfo], cap: int, before: float = 100, *, bases: bool = False) -> list[str]:
    """The names of what goes, in order."""
    names = []
    while found := next_to_go(held, cap_bytes=cap, before=before, bases=bases):
        names.append(found.name)
        held = [other for other in held if other is not found]
    return names


def test_what_was_used_longest_ago_goes_first_until_the_rest_is_under_the_cap() -> None:
    held = [
        info("base", "base", 50, 1),
        info("prepared", "prepared", 10, 2, "base"),
        info("a", "env", 20, 5, "prepared"),
        info("b", "env", 20, 3, "prepared"),
        info("c", "env", 20, 4, "prepared", in_use=True),
        info("g2", "guest", 5, 9),
        info("g1", "guest", 5, 8),
    ]
    assert gone(held, cap=1000) == ["g1"]  # another version's runtime goes in any case
    assert gone(held, cap=105) == ["g1", "b"]
    # `c` is in use, so what it is built on stays too, and the newest runtime falls to the cap.
    assert gone(held, cap=0) == ["g1", "b", "a", "g2"]
    free = [replace(one, in_use=False) for one in held]
    assert gone(free, cap=0) == ["g1", "b", "c", "a", "prepared", "g2"]
    assert gone(free, cap=0, bases=True) == ["g1", "b", "c", "a", "prepared", "base", "g2"]
    assert gone(free, cap=0, before=4) == ["b", "c"]


@needs_docker
def test_images_are_listed_with_their_own_size_and_a_dry_run_removes_none(client: Any) -> None:
    made = environment_image(client, starter())
    before = list_images(client)
    (row,) = (row for row in before if row.name == made.name)
    assert row.kind == "env"
    assert 1 << 20 < row.bytes < 100 << 20
    assert "pytest==9.2.0" in row.made_from
    (base,) = (other for other in before if other.name == "gym-code/base:3.11")
    assert base.bytes > 100 << 20
    assert base.name not in {
        other.name for other in gc_images(client, cap_bytes=0, older_than=0, dry_run=True)
    }
    assert {other.id for other in list_images(client)} >= {other.id for other in before}


def test_pips_settings_travel_where_they_make_sense(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificates = tmp_path / "ca.pem"
    certificates.write_bytes(b"-----BEGIN-----\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_CERT", str(certificates))
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "file:///srv/simple https://other.example/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/srv/wheels")
    assert pip_settings()["index-url"] == "https://mirror.example/simple"
    files = pip_files(("toy==1",))
    rows = files["pip/pip.conf"].decode().splitlines()
    assert {
        "index-url = https://mirror.example/simple",
        "extra-index-url = https://other.example/simple",
    } < set(rows)
    assert "cert = /pip/certificates.pem" in rows
    assert not [row for row in rows if "/srv" in row]
    assert files["pip/certificates.pem"] == b"-----BEGIN-----\n"
    assert files["pip/requirements.txt"] == b"toy==1\n"
    with pytest.raises(EnvironmentBuildError, match="not a package requirement"):
        pip_files(("--index-url=http://x",))


def test_what_the_command_takes() -> None:
    assert [parse_size(text) for text in ("20G", "1.5k", "7", "2GiB", "3MB")] == [
        20 << 30,
        1536,
        7,
        2 << 30,
        3 << 20,
    ]
    with pytest.raises(InputError, match="a size like 20G, found lots"):
        parse_size("lots")
    assert environments("", "3.12", ["b==1", "a==2"]) == [
        Environment(python="3.12", packages=("a==2", "b==1"))
    ]
    assert environments("", "", []) == []
    with pytest.raises(InputError, match="goes without"):
        environments("starter", "3.11", [])
    with pytest.raises(InputError, match=r"a version like 3\.11, found 3\.11; rm"):
        environments("", "3.11; rm", [])


@needs_docker
def test_the_command_tells_people_and_machines(client: Any) -> None:
    command = [str(ROOT / ".venv/bin/gym-code"), "images"]
    if not Path(command[0]).exists():
        command[:1] = [shutil.which("gym-code") or "gym-code"]
    said = subprocess.run([*command, "list", "--json"], capture_output=True, text=True, check=True)
    assert "gym-code/base:3.11" in {row["name"] for row in json.loads(said.stdout)["images"]}
    lost = subprocess.run(
        [*command, "list"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "DOCKER_HOST": "unix:///nowhere"},
    )
    assert lost.returncode == 2
    assert lost.stdout == ""
    assert "no Docker daemon answers at unix:///nowhere" in lost.stderr
