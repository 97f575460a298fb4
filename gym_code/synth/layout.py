"""Where a repository keeps its sources and its tests, and what runs them. Read from the files alone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from gym_code.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gym_code.types import File

_TEST_FILE = re.compile(r"^(test_.*|.*_test|tests?)\.py$")
_TEST_DIR = re.compile(r"^(tests?|testing|unit_?tests?)$")
_NOT_SOURCE = frozenset(
    {"tests", "test", "testing", "doc", "docs", "example", "examples", "sample", "samples", "benchmark"}
    | {"benchmarks", "bench", "scripts", "script", "tools", "utils", "ci", "requirements", "contrib"}
)
_NOT_MODULE = frozenset(
    {
        "setup.py",
        "conftest.py",
        "noxfile.py",
        "versioneer.py",
        "ez_setup.py",
        "tasks.py",
        "conf.py",
        "fabfile.py",
    }
)
_PYTEST_SIGN = re.compile(rb"\bpytest\b|\bpy\.test\b")
_CONFIG_FILES = ("pyproject.toml", "setup.cfg", "tox.ini", "pytest.ini", "noxfile.py", "setup.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What lies where in a repository."""

    root: str
    """The directory that must be importable: `src` or an empty string."""
    modules: tuple[str, ...]
    """Importable top-level names."""
    sources: tuple[str, ...]
    """Python files of the package itself, tests left out."""
    tests: tuple[str, ...]
    """Files with tests in them."""
    runner: Literal["pytest", "unittest"]

    def module(self, path: str) -> str:
        """The dotted name of a source file: `src/pkg/a/__init__.py` is `pkg.a`."""
        inner = PurePosixPath(path).relative_to(self.root) if self.root else PurePosixPath(path)
        parts = list(inner.with_suffix("").parts)
        return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_layout(files: Mapping[str, File], *, where: str = "") -> Layout:
    """Read the layout off the file names. Raises `InputError` when there is no package or no test."""
    python = sorted(p for p, f in files.items() if p.endswith(".py") and f.link is None)
    root = "src" if any(p.startswith("src/") and p.count("/") >= 1 for p in python) else ""
    modules = _modules(python, root)
    tests = tuple(p for p in python if is_test(p) and _has_tests(files[p].content))
    if not modules:
        raise InputError("no importable package found", where=where, expected="src/NAME, NAME/ or NAME.py")
    if not tests:
        raise InputError("no tests in it", where=where, expected="files named test_*.py or *_test.py")
    prefix = f"{root}/" if root else ""
    tops = tuple(f"{prefix}{name}/" for name in modules)
    single = {f"{prefix}{name}.py" for name in modules}
    sources = tuple(p for p in python if (p.startswith(tops) or p in single) and not in_tests(p))
    return Layout(root=root, modules=modules, sources=sources, tests=tests, runner=_runner(files, tests))


def is_test(path: str) -> bool:
    """Whether a file is named like a test module."""
    return bool(_TEST_FILE.match(PurePosixPath(path).name))


def in_tests(path: str) -> bool:
    """Whether a file belongs to the tests: named like one, or in a directory of tests."""
    pure = PurePosixPath(path)
    return is_test(path) or pure.name == "conftest.py" or any(_TEST_DIR.match(p) for p in pure.parts[:-1])


def _modules(python: list[str], root: str) -> tuple[str, ...]:
    prefix = f"{root}/" if root else ""
    names = set()
    for path in python:
        if not path.startswith(prefix):
            continue
        head, *rest = path.removeprefix(prefix).split("/")
        if rest and f"{prefix}{head}/__init__.py" in python and (root or head not in _NOT_SOURCE):
            names.add(head)
        elif not rest and not is_test(path) and head not in _NOT_MODULE:
            names.add(head.removesuffix(".py"))
    return tuple(sorted(names))


def _has_tests(content: bytes) -> bool:
    return bool(
        re.search(rb"^\s*(async\s+)?def\s+test|^\s*class\s+\w*Test|\bTestCase\b", content, re.MULTILINE)
    )


def _runner(files: Mapping[str, File], tests: tuple[str, ...]) -> Literal["pytest", "unittest"]:
    """`pytest`, unless the repository knows nothing of it and every test is a `unittest.TestCase`."""
    mentions = [p for p in (*_CONFIG_FILES, *tests) if p in files and _PYTEST_SIGN.search(files[p].content)]
    conftest = any(PurePosixPath(p).name == "conftest.py" for p in files)
    bare = any(re.search(rb"^def test", files[p].content, re.MULTILINE) for p in tests)
    return "pytest" if mentions or conftest or bare else "unittest"
