"""Agents on instances that live in images: fetched for an episode, told of where they cannot be had."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from agents.best_of import choose
from agents.players import agent_player
from agents.predict import predict
from gym_code.evaluate.images import Images
from gym_code.interop import import_rows, read_predictions
from gym_code.sandbox.docker import DockerBackend
from gym_code.suite import DirectorySuite
from tests.conftest import DOCKER_BASE
from tests.evaluate.registry import Registry, packed

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.docker

NAME = f"gym-code-test/played-{os.getpid()}:1"
PATCH = """\
diff --git a/area.py b/area.py
--- a/area.py
+++ b/area.py
@@ -1 +1 @@
-area = 1
+area = 2
"""


@pytest.fixture
def image(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An image with a start tree on the daemon; the state directory is the test's own."""
    with tempfile.TemporaryDirectory(prefix="gym-code-home-") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("GYM_CODE_HOME", folder)
        recipe = f"FROM {DOCKER_BASE}\nCOPY area.py /testbed/area.py\n"
        context = packed({"Dockerfile": recipe.encode(), "area.py": b"area = 1\n"})
        subprocess.run(["docker", "build", "-q", "-t", NAME, "-"], input=context, check=True)
        yield NAME
    subprocess.run(["docker", "rmi", "-f", NAME], check=True, capture_output=True)


def suite_of(tmp_path: Path, **images: str) -> DirectorySuite:
    rows = [
        {
            "instance_id": key,
            "repo": "o/r",
            "image": image,
            "patch": PATCH,
            "test_patch": "",
            "problem_statement": f"The area of {key} is wrong.",
            "FAIL_TO_PASS": ["test_area.py::test_area"],
            "PASS_TO_PASS": [],
        }
        for key, image in images.items()
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_rows(str(tmp_path / "rows.jsonl"), tmp_path / "suite")
    return DirectorySuite(tmp_path / "suite")


def test_an_image_that_cannot_be_had_is_no_empty_patch(image: str, tmp_path: Path) -> None:
    with Registry({}) as registry:
        suite = suite_of(tmp_path, there=image, gone=f"{registry.host}/nowhere:1")
        backend = DockerBackend(spare=0)
        try:
            with (
                Images(suite, backend) as images,
                agent_player("oracle", {}, suite, backend, jobs=2, hold=images.use) as player,
            ):
                out = tmp_path / "out"
                played = predict(
                    player, suite, ["there", "gone"], samples=2, out=out, retries=0, arrange=images.ordered
                )
                first = read_predictions(played.files[0])
                patches = {
                    name: [None if prediction.patch is None else prediction.patch.encode()]
                    for name, prediction in first.items()
                }
                chosen = choose(suite, patches, "majority", backend, hold=images.use, arrange=images.ordered)
        finally:
            backend.close()
    assert [(task_id, sample) for task_id, sample, _ in played.faults] == [("gone", 0), ("gone", 1)]
    assert all("nowhere:1" in error for _, _, error in played.faults)
    assert first["gone"].patch is None
    assert "+area = 2" in (first["there"].patch or "")
    assert [choice.why for choice in chosen] == ["1 of 1 samples agree on it", "no sample has a patch"]
