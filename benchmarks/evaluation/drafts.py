"""Drafts of instances: a finished repository, a function taken out of it, the tests that then fail hidden.

`instances.toml` says what they are made from. Nothing is measured here; `corpus.py` does that.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gym_code.diff import touched_paths
from gym_code.errors import InputError
from gym_code.patch import apply_patch, with_changes
from gym_code.sandbox import open_backend
from gym_code.suite import DirectorySuite
from gym_code.synth.make import make_suite
from gym_code.synth.patches import git_patch
from gym_code.synth.removal import functions, stub
from gym_code.synth.sources import open_source
from gym_code.types import File

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gym_code.synth.removal import Function

LIST = Path(__file__).with_name("instances.toml")
PYTEST = "pytest -rA --color=no -p no:cacheprovider -o addopts= {}"
"""`addopts` ask for plugins (coverage) that the images do not hold."""
PYTEST_PIN = "pytest==9.2.0"
SYMPYS_BIN_TEST = b"""#!/usr/bin/env python
import os, sys
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
os.environ["SYMPY_USE_CACHE"] = "no" if "-C" in sys.argv else "yes"
from sympy.testing.runtests import test
paths = [word for word in sys.argv[1:] if not word.startswith("-")]
sys.exit(not test(*paths, verbose="--verbose" in sys.argv))
"""
"""sympy's repository has bin/test, which calls this; its sdist leaves it out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What an instance is made of before its tests are known."""

    instance_id: str
    repo: str
    version: str
    start: Mapping[str, File]
    solved: Mapping[str, File]
    """The start tree with the gold patch."""
    function: Function
    """The one taken out, as it lies in `start`."""
    gold_patch: bytes
    test_patch: bytes
    statement: str
    command: str
    """What runs the test files."""
    log_parser: str
    packages: tuple[str, ...]
    import_from: str = ""
    """The directory of the tree that must be importable."""


def listed() -> tuple[Mapping[str, Any], ...]:
    """The entries of the list, packages first."""
    with LIST.open("rb") as file:
        found = tomllib.load(file)
    return (*found["package"], *found["feature"])


def drafts(entry: Mapping[str, Any], folder: Path, seed: int) -> Iterator[Draft]:
    """The drafts of an entry. folder: where suites made from packages are kept; seed: which functions go."""
    if "function" in entry:
        yield _of_feature(entry)
    else:
        yield from _of_package(entry, folder, seed)


def _of_package(entry: Mapping[str, Any], folder: Path, seed: int) -> Iterator[Draft]:
    name = entry["source"].removeprefix("pypi:").partition("#")[0].replace("==", "-")
    out = folder / f"{name}-seed{seed}-{entry['tasks']}"
    made = out / "made"
    if not made.exists():
        backend = open_backend()
        try:
            make_suite(entry["source"], out, backend=backend, workers=4, limit=entry["tasks"], seed=seed)
        finally:
            backend.close()
        made.touch()
    suite = DirectorySuite(out)
    for task_id in suite.ids():
        task, answer = suite.task(task_id), suite.answer(task_id)
        start = suite.start(task_id).files()
        solved = with_changes(start, apply_patch(start, answer.gold_patch))
        hidden = apply_patch(start, answer.test_patch)
        tests = sorted(path for path, file in hidden.items() if file is not None)
        yield Draft(
            instance_id=task_id,
            repo=entry["repo"],
            version=str(task.provenance.get("version", "1")),
            start=start,
            solved=solved,
            function=_taken_out(start, solved, answer.gold_patch),
            gold_patch=answer.gold_patch,
            test_patch=answer.test_patch,
            statement=task.instruction,
            command=PYTEST.format(" ".join(tests)),
            log_parser=entry["log_parser"],
            packages=_with_pytest(task.environment.packages),
            import_from=task.environment.env.get("PYTHONPATH", "").strip("."),
        )


def _with_pytest(packages: tuple[str, ...]) -> tuple[str, ...]:
    """Tests that need nothing but unittest are run by pytest, too, as in most of SWE-bench's rows."""
    there = any(name.startswith("pytest==") for name in packages)
    return packages if there else (*packages, PYTEST_PIN)


def _taken_out(start: Mapping[str, File], solved: Mapping[str, File], gold: bytes) -> Function:
    [path] = touched_paths(gold)
    full = {f.key: solved[path].content[f.start : f.end] for f in functions(path, solved[path].content)}
    for function in functions(path, start[path].content):
        if full.get(function.key) != start[path].content[function.start : function.end]:
            return function
    raise InputError("the gold patch changes no function", where=path)


def _of_feature(entry: Mapping[str, Any]) -> Draft:
    source = open_source(entry["source"])
    solved = dict(source.files)
    if entry["repo"] == "sympy/sympy":
        solved["bin/test"] = File(content=SYMPYS_BIN_TEST, executable=True)
    tests = {entry["tests"]: solved.pop(entry["tests"])}
    path = entry["function"].partition("::")[0]
    [removed] = [f for f in functions(path, solved[path].content) if f.key == entry["function"]]
    start = stub(solved, [removed])
    return Draft(
        instance_id=entry["instance_id"],
        repo=entry["repo"],
        version=source.version,
        start=start,
        solved=solved,
        function=next(f for f in functions(path, start[path].content) if f.key == removed.key),
        gold_patch=git_patch(start, solved),
        test_patch=git_patch({}, tests),
        statement=f"`{removed.qualname}` in `{path}` has lost its body. Write it again.",
        command=entry["command"],
        log_parser=entry["log_parser"],
        packages=tuple(entry["packages"]),
    )
