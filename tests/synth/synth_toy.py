"""A toy repository of our own, and a box that is a plain subprocess: for tests of the stages alone."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from gym_code.types import ExecResult, File

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SHAPES = b'''"""Plane figures."""

UNIT = 1


def double(x):
    return 2 * x


TWO = double(UNIT)


def area(w, h):
    """The area of a rectangle.

    Raises ValueError for a negative side.
    """
    # both sides are checked before anything is computed
    if w < 0 or h < 0:
        raise ValueError("a side is negative")
    return w * h


class Square:
    """A square."""

    def __init__(self, side):
        self.side = side

    def grow(self, by=1):
        self.side += by
        return area(self.side, self.side)

    @property
    def name(self):
        return "square"

    def halves(self):
        for _ in range(2):
            yield self.side / 2
        # nothing follows


def nothing():
    """Does nothing."""
    pass
'''

TESTS = b"""import pytest

from shapes import TWO, Square, area


def test_two():
    assert TWO == 2


# sides and areas
@pytest.mark.parametrize(("w", "h", "want"), [(1, 2, 2), (3, 3, 9)])
def test_area(w, h, want):
    assert area(w, h) == want


class TestSquare:
    def test_grow(self):
        assert Square(2).grow() == 9


class TestHalves:
    side = 4

    def test_halves(self):
        assert list(Square(self.side).halves()) == [2, 2]


def test_name():
    assert Square(1).name == "square"
"""

UNITTESTS = b"""import unittest

from shapes import Square


class Base:
    make = Square

    def test_name(self):
        self.assertEqual(self.make(1).name, "square")


class SquareTest(Base, unittest.TestCase):
    def test_grow(self):
        self.assertEqual(self.make(2).grow(), 9)

    @unittest.skip("later")
    def test_later(self):
        pass
"""

TOY: Mapping[str, File] = {
    "shapes/__init__.py": File(content=SHAPES),
    "tests/test_shapes.py": File(content=TESTS),
    "docs/index.rst": File(
        content=b"Shapes\n======\n\n.. function:: area(w, h)\n\n   Width times height, in units.\n\nMore.\n"
    ),
    "pyproject.toml": File(content=b'[project]\nname = "Toy_Shapes"\nversion = "1.2"\nlicense = "MIT"\n'),
}


class PlainBox:
    """`exec` of the Sandbox contract over a temporary directory; runs our own toy code only."""

    def __init__(self, files: Mapping[str, File], folder: Path) -> None:
        self.folder = folder
        for path, file in files.items():
            target = folder / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(file.content)

    def exec(
        self,
        command: Sequence[str],
        *,
        timeout: float | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        channel: bool = False,
    ) -> ExecResult:
        with tempfile.TemporaryFile() as private:
            done = subprocess.run(
                [sys.executable if command[0] == "python3" else command[0], *command[1:]],
                cwd=self.folder,
                env={**os.environ, "GYM_CODE_CHANNEL": str(private.fileno()), **(env or {})},
                input=stdin,
                capture_output=True,
                timeout=timeout,
                pass_fds=(private.fileno(),),
                check=False,
            )
            private.seek(0)
            said = private.read()
        return ExecResult(exit_code=done.returncode, stdout=done.stdout, stderr=done.stderr, channel=said)
