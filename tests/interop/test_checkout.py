"""Start trees that lie in images: read without running anything, known by the image's id afterwards."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from family_rows import CLASSIC, SMITH

from gym_code.errors import EnvironmentBuildError
from gym_code.interop import import_rows
from gym_code.sandbox import checkout
from gym_code.suite import DirectorySuite
from gym_code.types import File, tree_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "gym-code-test/checkout"
BROKEN = {
    "run.sh": File(content=b"#!/bin/sh\n", executable=True),
    "src/area.py": File(content=b"def area(w, h):\n    return w + h\n"),
    "src/same.py": File(link="area.py"),
    "twin.sh": File(content=b"#!/bin/sh\n", executable=True),
}
SOUND = {**BROKEN, "src/area.py": File(content=b"def area(w, h):\n    return w * h\n")}


def make_image(name: str, files: dict[str, File]) -> None:
    """An image with the files at /testbed, git's and Python's leftovers beside them, and no program."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        leftovers = {".git/config": File(), "src/__pycache__/area.cpython-311.pyc": File()}
        for path, file in sorted({**files, **leftovers}.items()):
            entry = tarfile.TarInfo(f"testbed/{path}")
            entry.mode = 0o755 if file.executable else 0o644
            if file.link is not None:
                entry.type, entry.linkname = tarfile.SYMTYPE, file.link
            elif path == "twin.sh":
                entry.type, entry.linkname = tarfile.LNKTYPE, "testbed/run.sh"
            else:
                entry.size = len(file.content)
            archive.addfile(entry, io.BytesIO(file.content) if entry.isreg() else None)
    subprocess.run(["docker", "import", "-", name], input=packed.getvalue(), check=True, capture_output=True)


@pytest.fixture(scope="module")
def images() -> Iterator[dict[str, str]]:
    names = {"broken": f"{NAME}:broken", "sound": f"{NAME}:sound"}
    for state, files in (("broken", BROKEN), ("sound", SOUND)):
        make_image(names[state], files)
    yield names
    subprocess.run(["docker", "rmi", "-f", *names.values()], check=True, capture_output=True)


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A state directory of the test's own, which the boxes' user may enter (pytest's own are closed)."""
    with tempfile.TemporaryDirectory(prefix="gym-code-home-") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("GYM_CODE_HOME", folder)
        yield


def imported(tmp_path: Path, *rows: dict[str, object]) -> DirectorySuite:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_rows(str(tmp_path / "rows.jsonl"), tmp_path / "suite")
    return DirectorySuite(tmp_path / "suite")


@pytest.mark.docker
def test_the_start_tree_is_what_the_image_holds(tmp_path: Path, images: dict[str, str]) -> None:
    suite = imported(tmp_path, {**CLASSIC, "image": images["broken"]})
    start = suite.start(CLASSIC["instance_id"])
    assert start.digest == tree_digest(BROKEN)
    assert dict(start.files()) == BROKEN
    again = DirectorySuite(suite.path).start(CLASSIC["instance_id"])  # Its digest is known by the image.
    assert again.digest == start.digest
    assert dict(again.files()) == BROKEN
    left = ["docker", "ps", "-aq", "--filter", f"ancestor={images['broken']}"]
    assert subprocess.run(left, check=True, capture_output=True).stdout == b""


@pytest.mark.docker
def test_many_threads_read_an_image_once(
    tmp_path: Path, images: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    suite = imported(tmp_path, {**CLASSIC, "image": images["broken"]})
    read, asked = checkout._from_container, []
    monkeypatch.setattr(checkout, "_from_container", lambda *of: asked.append(of) or read(*of))  # type: ignore[func-returns-value]
    for opened in (suite, DirectorySuite(suite.path)):  # the digest is known to the second
        asked.clear()
        with ThreadPoolExecutor(8) as executor:
            starts = list(executor.map(opened.start, [CLASSIC["instance_id"]] * 8))
            trees = list(executor.map(lambda start: start.files(), starts))
        assert all(dict(each) == BROKEN for each in trees)
        assert len(asked) == 1


@pytest.mark.docker
def test_the_bug_is_put_into_an_image_that_holds_the_solution(tmp_path: Path, images: dict[str, str]) -> None:
    suite = imported(tmp_path, {**SMITH, "image_name": images["sound"]})
    assert dict(suite.start(SMITH["instance_id"]).files()) == BROKEN


@pytest.mark.docker
def test_an_archive_needs_no_daemon(
    tmp_path: Path, images: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = tmp_path / "image.tar"
    subprocess.run(["docker", "save", images["broken"], "-o", str(saved)], check=True, capture_output=True)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
    suite = imported(tmp_path, {**CLASSIC, "image": str(saved)})
    assert suite.start(CLASSIC["instance_id"]).digest == tree_digest(BROKEN)


@pytest.mark.docker
def test_an_image_without_the_tree_is_our_fault_in_words(tmp_path: Path) -> None:
    name = f"{NAME}:empty"
    make_image(name, {})
    try:
        suite = imported(tmp_path, {**CLASSIC, "image": name})
        with pytest.raises(
            EnvironmentBuildError, match=r"cannot read /testbed of the image .*: there is no file"
        ):
            suite.start(CLASSIC["instance_id"])
    finally:
        subprocess.run(["docker", "rmi", "-f", name], check=True, capture_output=True)
