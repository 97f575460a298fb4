"""What SWE-bench's parsers read of Django's and SymPy's own runners, beside our outcomes in the same box."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import swebench_oracle

from gym_code.errors import InputError
from gym_code.gitrepo import base_commit
from gym_code.grading.run import Plan, run_in_box
from gym_code.sandbox import open_backend
from gym_code.sandbox.base import BoxSpec
from gym_code.synth.sources import open_source
from gym_code.types import Environment, File, Limits, StartTree, Task, tree_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

parsers = swebench_oracle.module("swebench.harness.log_parsers.python")
pytestmark = pytest.mark.sandbox

LIMITS = Limits(exec_seconds=300.0, memory_bytes=1024**3, processes=128)
TEST = "import sys, sympy; sympy.test(*sys.argv[1:], verbose=True)"
CASES = {
    "django": (
        "Django==5.1.4",
        ("asgiref==3.8.1", "sqlparse==0.5.1"),
        ("tests/get_or_create/tests.py", "tests/signing/tests.py", "tests/empty/tests.py"),
        "PYTHONPATH=. python3 tests/runtests.py --verbosity 2 --settings=test_sqlite --parallel 1"
        " get_or_create.tests signing.tests empty.tests 2>&1",
        "parse_log_django",
        {"PASSED": 59, "SKIPPED": 1},
    ),
    "sympy": (
        "sympy==1.12",
        ("mpmath==1.3.0",),
        ("sympy/core/tests/test_noncommutative.py", "sympy/core/tests/test_truediv.py"),
        f'SYMPY_USE_CACHE=no python3 -c "{TEST}" test_noncommutative.py test_truediv.py 2>&1',
        "parse_log_sympy",
        {"PASSED": 14},
    ),
}
"""Distribution, packages, test files, the runner's own command, SWE-bench's parser, how many end how (of
SymPy it does not read the last of a file, whose line ends with [OK])."""


def needed(files: Mapping[str, File], tests: tuple[str, ...]) -> dict[str, File]:
    """The package, in English, its runner, and the directories of the wanted tests."""
    folders = tuple(path.rpartition("/")[0] + "/" for path in tests)
    top = (
        "django/",
        "sympy/",
        "tests/runtests.py",
        "tests/test_sqlite.py",
        "tests/urls.py",
        "tests/templates/",
    )

    def is_needed(path: str) -> bool:
        foreign = "/locale/" in path and "/en/" not in path and not path.endswith("locale/__init__.py")
        others = path.startswith("sympy/") and "/tests/" in path and path not in tests
        return path.startswith((*top, *folders)) and not foreign and not others

    return {path: file for path, file in files.items() if is_needed(path)}


@pytest.mark.parametrize("runner", CASES)
def test_ours_ends_every_test_as_the_parser_reads_it(runner: str) -> None:
    requirement, packages, tests, command, parser, expected = CASES[runner]
    try:
        files = needed(open_source(f"pypi:{requirement}").files, tests)
    except InputError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no package index answers: {error}")
    environment = Environment(packages=packages)
    start = StartTree(digest=tree_digest(files), files=lambda: files)
    spec = BoxSpec(start=start, environment=environment, limits=LIMITS)
    with open_backend("namespace") as backend, backend.open(spec) as box:
        log = box.exec(command, timeout=300.0, output_bytes=4 * 1024**2).stdout.decode()
        read = getattr(parsers, parser)(log, None)
        task = Task(
            id="a__b-1",
            instruction="",
            base_commit=base_commit(files),
            runner=runner,
            ids="swebench",
            environment=environment,
            limits=LIMITS,
        )
        run = run_in_box(box, task, Plan(ids=tuple(read), files=tests), timeout=300.0)
    assert {end: list(read.values()).count(end) for end in set(read.values())} == expected
    assert {test: end.value.upper() for test, end in run.report.outcomes.items()} == read
    assert run.flags == ()
