"""One small task for each runner, held in memory."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gym_code.gitrepo import base_commit
from gym_code.grading import grade
from gym_code.types import Answer, Environment, File, Limits, Reward, StartTree, Task, tree_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gym_code.sandbox.base import Backend

WRONG = "def add(a, b):\n    return a - b\n"
RIGHT = "def add(a, b):\n    return a + b\n"
LIMITS = Limits(exec_seconds=20.0, memory_bytes=512 * 1024**2, processes=64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Toy:
    """A task in memory."""

    task: Task
    answer: Answer
    base: Mapping[str, File]

    @property
    def start(self) -> StartTree:
        return StartTree(digest=tree_digest(self.base), files=lambda: self.base)

    def patch(self, changes: Mapping[str, str | None]) -> bytes:
        """A diff that makes files hold this text (None: removes them)."""
        return b"".join(one_file(path, self.base.get(path), text) for path, text in changes.items())

    def grade(self, backend: Backend, patch: bytes, *, timeout: float | None = None) -> Reward:
        return grade(self.task, self.answer, patch, backend, self.start, timeout=timeout)


def one_file(path: str, before: File | None, text: str | None) -> bytes:
    """The part of a git diff that replaces a whole file."""
    header = f"diff --git a/{path} b/{path}\n"
    header += (
        "new file mode 100644\n" if before is None else "deleted file mode 100644\n" if text is None else ""
    )
    old = before.content.decode() if before else ""
    lines = difflib.unified_diff(
        old.splitlines(keepends=True),
        (text or "").splitlines(keepends=True),
        "/dev/null" if before is None else f"a/{path}",
        "/dev/null" if text is None else f"b/{path}",
    )
    return (header + "".join(lines)).encode()


def toy_of_unittest(hidden: str | None = None, visible: str | None = None) -> Toy:
    """`add` subtracts; the hidden test says so, a visible one does not."""
    hidden = hidden or (
        "import unittest\nfrom calc import add\n\n\nclass HiddenTest(unittest.TestCase):\n"
        "    def test_add(self):\n        self.assertEqual(add(2, 3), 5)\n\n"
        "    def test_more(self):\n        self.assertEqual(add(20, 3), 23)\n"
    )
    visible = visible or (
        "import unittest\nfrom calc import add\n\n\nclass VisibleTest(unittest.TestCase):\n"
        "    def test_zero(self):\n        self.assertEqual(add(4, 0), 4)\n"
    )
    return toy(
        runner="unittest",
        hidden=hidden,
        visible=visible,
        fail=("tests.test_hidden.HiddenTest.test_add", "tests.test_hidden.HiddenTest.test_more"),
        keep=("tests.test_visible.VisibleTest.test_zero",),
    )


def toy_of_pytest(hidden: str | None = None, visible: str | None = None) -> Toy:
    """The same for pytest, with a conftest and a configuration of its own."""
    hidden = hidden or (
        "import pytest\nfrom calc import add\n\n\n@pytest.mark.parametrize('n', [1, 2])\n"
        "def test_add(n):\n    assert add(n, 3) == n + 3\n\n\n"
        "def test_fixture(five):\n    assert add(five, 1) == 6\n"
    )
    visible = visible or "from calc import add\n\n\ndef test_zero():\n    assert add(4, 0) == 4\n"
    names = ("test_add[1]", "test_add[2]", "test_fixture")
    return toy(
        runner="pytest",
        hidden=hidden,
        visible=visible,
        fail=tuple(f"tests/test_hidden.py::{name}" for name in names),
        keep=("tests/test_visible.py::test_zero",),
        more={
            "tests/conftest.py": "import pytest\n\n\n@pytest.fixture\ndef five():\n    return 5\n",
            "pyproject.toml": '[project]\nname = "calc"\n\n[tool.pytest.ini_options]\naddopts = "--nope"\n',
        },
    )


def toy(
    *,
    runner: str,
    hidden: str,
    visible: str,
    fail: tuple[str, ...],
    keep: tuple[str, ...],
    more: Mapping[str, str] | None = None,
) -> Toy:
    texts = {"calc.py": WRONG, "tests/test_visible.py": visible, **(more or {})}
    base = {path: File(content=text.encode()) for path, text in sorted(texts.items())}
    packages = ("pytest==9.2.0",) if runner == "pytest" else ()
    task = Task(
        id=f"toy__{runner}-1",
        instruction="`add` must add.",
        base_commit=base_commit(base),
        environment=Environment(packages=packages),
        runner=runner,
        visible_tests=keep,
        limits=LIMITS,
    )
    answer = Answer(
        task_id=task.id,
        fail_to_pass=fail,
        pass_to_pass=keep,
        gold_patch=one_file("calc.py", base["calc.py"], RIGHT),
        test_patch=one_file("tests/test_hidden.py", None, hidden),
    )
    return Toy(task=task, answer=answer, base=base)


def with_limits(made: Toy, **limits: object) -> Toy:
    return replace(made, task=replace(made.task, limits=replace(LIMITS, **limits)))  # type: ignore[arg-type]
