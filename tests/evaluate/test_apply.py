"""Patches that drifted: SWE-bench's commands, in a box that a hostile patch cannot leave."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from gym_code.diff import parse_patch
from gym_code.evaluate.apply import normalised
from gym_code.gitrepo import base_commit
from gym_code.grading.plan import MAX_PATCH_BYTES, Refused, make_plan
from gym_code.patch import apply_patch
from gym_code.sandbox import open_backend
from gym_code.sandbox.base import BoxSpec
from gym_code.types import Answer, File, StartTree, Task, tree_digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gym_code.sandbox.base import Backend

OLD = "".join(f"line {number}\n" for number in range(1, 13))
NOW = OLD.replace("line 3\n", "line three\n")
"""What the file has become since the patches below were written."""
FILES = {
    "code.py": File(content=NOW.encode()),
    "before.py": File(content=OLD.encode()),
    "mixed.txt": File(content=b"one\r\ntwo\r\n"),
    "blob.bin": File(content=bytes(range(256))),
}
TASK = Task(id="toy__drift-1", instruction="", base_commit=base_commit(FILES))
ANSWER = Answer(
    task_id=TASK.id, fail_to_pass=(), pass_to_pass=("test_it.T.test",), gold_patch=b"", test_patch=b""
)


class Drifted:
    """A suite of one task."""

    name = "drifted"

    def ids(self) -> list[str]:
        return [TASK.id]

    def task(self, task_id: str) -> Task:
        return TASK

    def answer(self, task_id: str) -> Answer:
        return ANSWER

    def start(self, task_id: str) -> StartTree:
        return StartTree(digest=tree_digest(FILES), files=lambda: FILES)


@dataclass(frozen=True)
class Place:
    """A backend, and whether its boxes have the program `patch`."""

    backend: Backend
    has_patch: bool


@pytest.fixture(
    scope="module",
    params=[
        pytest.param("namespace", marks=pytest.mark.sandbox),
        pytest.param("docker", marks=pytest.mark.docker),
    ],
)
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    backend = open_backend(request.param)
    try:
        with backend.open(BoxSpec(start=Drifted().start(TASK.id))) as box:
            has_patch = box.exec("command -v patch").ok
        yield Place(backend, has_patch)
    finally:
        backend.close()


def change(
    body: str, path: str = "code.py", index: str = "", start: str = "-3,7 +3,7", mode: str = ""
) -> bytes:
    """A diff of one hunk."""
    head = f"diff --git a/{path} b/{path}\n{mode}{index}--- a/{path}\n+++ b/{path}\n"
    return f"{head}@@ {start} @@\n{body}".encode()


SIX = " line 3\n line 4\n line 5\n-line 6\n+line SIX\n line 7\n line 8\n line 9\n"
FIXED = NOW.replace("line 6\n", "line SIX\n").encode()


def blob(text: str) -> str:
    """The id that git gives to a file."""
    command = ["git", "hash-object", "--stdin"]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=True).stdout.strip()


def made(place: Place, patch: bytes) -> dict[str, File | None] | None:
    """What the patch comes to: the changes of the diff it was turned into."""
    plan = make_plan(TASK, ANSWER, FILES, patch)
    assert isinstance(plan, Refused), "our own reader takes it"
    found = normalised(Drifted(), TASK.id, patch, place.backend)
    return None if found is None else apply_patch(FILES, found)


def test_a_patch_of_another_state_is_merged_where_its_state_is_known(place: Place) -> None:
    new = OLD.replace("line 6\n", "line SIX\n")
    index = f"index {blob(OLD)}..{blob(new)} 100644\n"
    assert made(place, change(SIX, index=index)) == {"code.py": File(content=FIXED)}


def test_without_that_state_it_takes_fuzz_and_leaves_no_copies(place: Place) -> None:
    found = made(place, change(SIX))
    assert found == ({"code.py": File(content=FIXED)} if place.has_patch else None)


def test_ends_of_lines_may_differ(place: Place) -> None:
    body = SIX.replace("line 3\n", "line three\n")
    found = made(place, change(body).replace(b"\n", b"\r\n"))
    assert found == ({"code.py": File(content=FIXED)} if place.has_patch else None)


def test_counts_of_lines_may_be_wrong(place: Place) -> None:
    found = made(place, change(SIX.replace("line 3\n", "line three\n"), start="-3,9 +3,9"))
    assert found == ({"code.py": File(content=FIXED)} if place.has_patch else None)


def test_what_fits_anyway_comes_to_the_same(place: Place) -> None:
    body = SIX.replace("line 3\n", "line three\n")
    patch = change(body, start="-2,7 +2,7")
    assert not isinstance(make_plan(TASK, ANSWER, FILES, patch), Refused)
    found = normalised(Drifted(), TASK.id, patch, place.backend)
    assert found is not None
    assert apply_patch(FILES, found) == apply_patch(FILES, patch) == {"code.py": File(content=FIXED)}


@pytest.mark.parametrize(
    "patch",
    [
        b"I have fixed it.\n",
        change(" line 90\n-line 91\n+x\n line 92\n", start="-90,3 +90,3"),
        b"diff --git a/blob.bin b/blob.bin\nindex 0000000..1111111 100644\nGIT binary patch\ndelta 9\nx\n\n",
        b"\0" * 1000,
    ],
    ids=["words", "elsewhere", "binary", "nul"],
)
def test_what_fits_nowhere_stays_refused(place: Place, patch: bytes) -> None:
    assert made(place, patch) is None


LINK = b"""\
diff --git a/way b/way
new file mode 120000
--- /dev/null
+++ b/way
@@ -0,0 +1 @@
+%s
\\ No newline at end of file
"""
NEW = "new file mode 100755\n"
ESCAPES = {
    "up": change("+x\n", path="../../escaped", start="-0,0 +1", mode=NEW),
    "root": b"--- /dev/null\n+++ /tmp/escaped\n@@ -0,0 +1 @@\n+x\n",
    "git": change("+[core]\n+\tfsmonitor = touch /tmp/escaped\n", path=".git/config", start="-0,0 +1,2"),
    "hook": change("+touch /tmp/escaped\n", path=".git/hooks/post-checkout", start="-0,0 +1", mode=NEW),
    "link": LINK % b"/tmp" + change("+x\n", path="way/escaped", start="-0,0 +1", mode=NEW),
    "ed": b"--- code.py\n+++ code.py\n1a\nx\n.\n!touch /tmp/escaped\nw\n",
}  # fmt: skip


@pytest.mark.parametrize("name", ESCAPES)
def test_no_patch_reaches_beyond_the_tree(place: Place, name: str) -> None:
    escaped = Path("/tmp/escaped")
    assert not escaped.exists()
    found = made(place, ESCAPES[name])
    assert not escaped.exists()
    assert not found or set(found) <= {"code.py", "way", "tmp/escaped"}
    again = normalised(
        Drifted(), TASK.id, change(SIX, index=f"index {blob(OLD)}..{'1' * 40} 100644\n"), place.backend
    )
    assert again is not None
    assert [part.new for part in parse_patch(again)] == ["code.py"]


def test_a_huge_patch_opens_no_box() -> None:
    class NoBoxes:
        def open(self, spec: BoxSpec) -> None:
            raise AssertionError("a box was opened")

    assert normalised(Drifted(), TASK.id, b"x" * (MAX_PATCH_BYTES + 1), NoBoxes()) is None  # type: ignore[arg-type]
