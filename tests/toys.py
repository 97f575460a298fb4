"""A toy suite, held in memory: small enough to read, real enough to solve. For tests of any room.

toy__add-1     `add` subtracts; test_add fails, test_sub passes                 kind fix
toy__word-1    `shout` forgets the mark and has Unicode in it                   kind fix
toy__new-1     an empty package, `area` to be written                           kind build
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gym_code.errors import TaskError
from gym_code.gitrepo import base_commit
from gym_code.types import Answer, Environment, File, Limits, StartTree, Task, canonical_digest, tree_digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Literal

LIMITS = Limits(turns=10, exec_seconds=20.0, episode_seconds=120.0, output_bytes=8192, processes=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """The start files, what the solution and the hidden tests make of them, and the ids of the tests."""

    id: str
    kind: Literal["fix", "build"]
    instruction: str
    start: Mapping[str, str]
    gold: Mapping[str, str]
    hidden: Mapping[str, str]
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]


ADD = Toy(
    id="toy__add-1",
    kind="fix",
    instruction="`add` must return the sum of its arguments.",
    start={
        "README.md": "# calc \U0001f9ee\n\nAdds – and subtracts.\n",
        "calc.py": "def add(a, b):\n    return a - b\n\n\ndef sub(a, b):\n    return a - b\n",
        "tests/test_calc.py": "from calc import add, sub\n\n\ndef test_sub():\n"
        "    assert sub(5, 3) == 2\n\n\ndef test_add_zero():\n    assert add(4, 0) == 4\n",
    },
    gold={"calc.py": "def add(a, b):\n    return a + b\n\n\ndef sub(a, b):\n    return a - b\n"},
    hidden={"tests/test_hidden.py": "from calc import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n"},
    fail_to_pass=("tests/test_hidden.py::test_add",),
    pass_to_pass=("tests/test_calc.py::test_sub", "tests/test_calc.py::test_add_zero"),
)

WORD = Toy(
    id="toy__word-1",
    kind="fix",
    instruction="`shout` must end in “!”, also for “größe” and “\U0001f40d”.",
    start={
        "word.py": 'MARK = "!"\n\n\ndef shout(text):\n    return text.upper()\n',
        "tests/test_word.py": "from word import shout\n\n\ndef test_upper():\n"
        '    assert shout("ä")[0] == "Ä"\n',
    },
    gold={"word.py": 'MARK = "!"\n\n\ndef shout(text):\n    return text.upper() + MARK\n'},
    hidden={
        "tests/test_hidden.py": "from word import shout\n\n\ndef test_mark():\n"
        '    assert shout("größe\U0001f40d") == "GRÖSSE\U0001f40d!"\n'
    },
    fail_to_pass=("tests/test_hidden.py::test_mark",),
    pass_to_pass=("tests/test_word.py::test_upper",),
)

NEW = Toy(
    id="toy__new-1",
    kind="build",
    instruction="Write a module `shape` with `area(width, height)`.",
    start={"tests/test_smoke.py": "def test_smoke():\n    assert True\n"},
    gold={"shape.py": "def area(width, height):\n    return width * height\n"},
    hidden={
        "tests/test_hidden.py": "from shape import area\n\n\ndef test_area():\n    assert area(3, 4) == 12\n"
    },
    fail_to_pass=("tests/test_hidden.py::test_area",),
    pass_to_pass=("tests/test_smoke.py::test_smoke",),
)


class ToySuite:
    """The toys as a suite; `limits` and `packages` for all of them."""

    name = "toy"

    def __init__(
        self,
        *toys: Toy,
        limits: Limits = LIMITS,
        packages: tuple[str, ...] = ("pytest==9.2.0",),
    ) -> None:
        self._toys = {toy.id: toy for toy in toys or (ADD, WORD, NEW)}
        self._limits, self._packages = limits, packages

    def ids(self) -> tuple[str, ...]:
        return tuple(self._toys)

    def task(self, task_id: str) -> Task:
        toy = self._toy(task_id)
        files = _files(toy.start)
        task = Task(
            id=toy.id,
            instruction=toy.instruction,
            base_commit=base_commit(files),
            environment=Environment(packages=self._packages),
            visible_tests=toy.pass_to_pass,
            kind=toy.kind,
            repo="gym-code/toy",
            family=toy.id.split("__")[1].split("-")[0],
            limits=self._limits,
        )
        return replace(task, digest=canonical_digest([task.id, tree_digest(files), toy.fail_to_pass]))

    def start(self, task_id: str) -> StartTree:
        files = _files(self._toy(task_id).start)
        return StartTree(digest=tree_digest(files), files=lambda: files)

    def answer(self, task_id: str) -> Answer:
        toy = self._toy(task_id)
        return Answer(
            task_id=task_id,
            fail_to_pass=toy.fail_to_pass,
            pass_to_pass=toy.pass_to_pass,
            gold_patch=patch(toy.start, toy.gold),
            test_patch=patch(toy.start, toy.hidden),
        )

    def _toy(self, task_id: str) -> Toy:
        if task_id not in self._toys:
            raise TaskError("no such task", where="toy", expected=", ".join(self._toys), found=task_id)
        return self._toys[task_id]


def patch(before: Mapping[str, str], after: Mapping[str, str]) -> bytes:
    """A git patch that makes the `after` files of the `before` files."""
    text = ""
    for path, new in after.items():
        old = before.get(path)
        text += f"diff --git a/{path} b/{path}\n" + ("new file mode 100644\n" if old is None else "")
        names = ("/dev/null" if old is None else f"a/{path}", f"b/{path}")
        lines = (old or "").splitlines(keepends=True), new.splitlines(keepends=True)
        text += "".join(difflib.unified_diff(*lines, *names))
    return text.encode()


def _files(texts: Mapping[str, str]) -> dict[str, File]:
    return {path: File(content=text.encode()) for path, text in texts.items()}
