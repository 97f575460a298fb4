"""Which files decide how tests are started, found and imported, and so are not the agent's to change."""

from __future__ import annotations

import configparser
import posixpath
import tomllib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from gym_code.types import File

_ALWAYS = frozenset({"conftest.py", "pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml",
                     "sitecustomize.py", "usercustomize.py", "entry_points.txt"})  # fmt: skip
_INI_FILES = frozenset({"setup.cfg", "tox.ini"})
_INI_SECTIONS = ("[pytest", "[tool:pytest")
_TEST_DIRECTORIES = frozenset({"test", "tests"})
_MAX_TOML_BYTES = 1024**2
"""A longer file is not read; any change of it counts."""


def is_startup_change(path: str, before: File | None, after: File | None) -> bool:
    """Whether changing a file so could steer the runner or the interpreter.

    Of `setup.cfg`, `tox.ini` and `pyproject.toml` only the part that pytest reads counts; the rest is the
    agent's. `entry_points.txt` in a directory of metadata names plugins that pytest loads.
    """
    name = posixpath.basename(path)
    if name in _ALWAYS or name.endswith(".pth"):
        return True
    if name in _INI_FILES:
        return _ini_sections(before) != _ini_sections(after)
    if name == "pyproject.toml":
        return _toml_section(before) != _toml_section(after)
    return False


def is_bytecode(path: str) -> bool:
    """Whether a path holds compiled Python, which an interpreter may take in place of the source."""
    return path.endswith((".pyc", ".pyo")) or "__pycache__" in path.split("/")


def directories_for_tests(test_files: Iterable[str]) -> frozenset[str]:
    """The directories that are for tests alone: the outermost `test` or `tests` above each test file."""
    found = set()
    for path in test_files:
        parts = path.split("/")[:-1]
        for end, part in enumerate(parts, 1):
            if part in _TEST_DIRECTORIES:
                found.add("/".join(parts[:end]))
                break
    return frozenset(found)


def shadows(path: str, test_files: Iterable[str]) -> bool:
    """Whether a file could be imported in place of a test file or of a package on the way to one."""
    for test in test_files:
        stem = test.removesuffix(".py")
        parts = stem.split("/")
        for end in range(1, len(parts) + 1):
            prefix = "/".join(parts[:end])
            is_module = prefix == stem
            if path.startswith(prefix + "/") and is_module:
                return True
            beside = path.startswith(prefix + ".") and "/" not in path[len(prefix) :]
            if beside and path != test and path.endswith((".py", ".so", ".pyd")):
                return True
    return False


def _ini_sections(file: File | None) -> tuple[str, ...] | bytes:
    """The lines of what could be a section for pytest; the whole content where it cannot be read.

    Taken line by line: what one parser has for a comment or the rest of a line, pytest may have for a head.
    """
    if file is None:
        return ()
    try:
        lines = file.content.decode().splitlines()
        configparser.RawConfigParser().read_string("\n".join(lines))
    except (configparser.Error, UnicodeDecodeError):
        return file.content
    found, inside = [], False
    for line in lines:
        if line.startswith("["):
            inside = line.startswith(_INI_SECTIONS)
        if inside and line.strip() and not line.startswith(("#", ";")):
            found.append(line.rstrip())
    return tuple(found)


def _toml_section(file: File | None) -> object:
    if file is None:
        return None
    if len(file.content) > _MAX_TOML_BYTES:
        return file.content
    try:
        tools = tomllib.loads(file.content.decode()).get("tool", {})
    except (ValueError, RecursionError):  # Not TOML, not UTF-8, a number too long or lists too deep.
        return file.content
    return tools.get("pytest") if isinstance(tools, dict) else None
