"""Everything that is wrong with a suite on disk, found without running a test."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from gym_code.diff import touched_paths
from gym_code.errors import InputError
from gym_code.gitrepo import base_commit
from gym_code.patch import apply_patch
from gym_code.suite import directory, harness_files
from gym_code.suite.fields import Problem, read_json, read_text, read_yaml
from gym_code.suite.task_yaml import task_meta
from gym_code.suite.tree import read_tree
from gym_code.suite.write import digest_on_disk
from gym_code.types import tree_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gym_code.suite.task_yaml import TaskMeta
    from gym_code.types import File

REQUIRED_FILES = (
    directory.STATEMENT_FILE,
    directory.TESTS_FILE,
    directory.GOLD_FILE,
    directory.TEST_FILE,
)
HARNESS_FILES = ("eval.sh", "Dockerfile")
"""For SWE-bench's own harness; a task whose tree lies in an image may come without."""


def check_suite(path: str | Path) -> list[Problem]:
    """Every problem of the suite and its tasks, in reading order; an empty list is a sound suite."""
    root = Path(path)
    try:
        config = directory.suite_fields(root)
    except InputError as error:
        return [_problem(error, directory.SUITE_FILE)]
    problems = list(config.problems)
    ids = directory.task_ids(root)
    if not ids:
        problems.append(Problem(file="tasks", field="", expected="at least one task", found="none"))
    sources: dict[str, Mapping[str, File]] = {}
    for task_id in ids:
        problems += _check_task(root, task_id, set(config.strings("datasets", [])), sources)
    tasks = root / "tasks"
    for entry in sorted(tasks.iterdir()) if tasks.is_dir() else ():
        if entry.is_dir() and entry.name not in ids:
            problems.append(
                Problem(file=f"tasks/{entry.name}", field="", expected=directory.TASK_FILE, found="none")
            )
    return problems


def _check_task(
    root: Path, task_id: str, datasets: set[str], sources: dict[str, Mapping[str, File]]
) -> list[Problem]:
    where = f"tasks/{task_id}"
    path = root / "tasks" / task_id
    try:
        fields = read_yaml(path / directory.TASK_FILE, f"{where}/{directory.TASK_FILE}")
        meta = task_meta(fields, task_id)
    except InputError as error:
        return [_problem(error, where)]
    for name in fields.strings("datasets", []):
        if name not in datasets:
            fields.problem("datasets", f"one of {directory.SUITE_FILE}: {', '.join(sorted(datasets))}", name)
    problems = list(fields.problems)
    required = REQUIRED_FILES if meta.checkout else (*REQUIRED_FILES, *HARNESS_FILES)
    missing = [name for name in required if not (path / name).is_file()]
    problems += [
        Problem(file=f"{where}/{name}", field="", expected="a file", found="none") for name in missing
    ]
    if problems:
        return problems
    try:
        problems += _check_contents(root, path, meta, sources)
        digest = digest_on_disk(path, fields.data)
    except InputError as error:
        return [*problems, _problem(error, where)]
    if digest != meta.digest:
        fields.problems.clear()
        fields.problem("gym.digest", digest, meta.digest)
        problems += fields.problems
    return problems


def _check_contents(
    root: Path, path: Path, meta: TaskMeta, sources: dict[str, Mapping[str, File]]
) -> Iterator[Problem]:
    where = f"tasks/{path.name}"

    def problem(name: str, field: str, expected: str, found: object) -> Problem:
        return Problem(file=f"{where}/{name}", field=field, expected=expected, found=str(found))

    tests = read_json(path / directory.TESTS_FILE, f"{where}/{directory.TESTS_FILE}")
    fail, keep = tests.strings(directory.F2P), tests.strings(directory.P2P)
    yield from tests.problems
    gold, hidden = (path / directory.GOLD_FILE).read_bytes(), (path / directory.TEST_FILE).read_bytes()
    if not fail:
        yield problem(directory.TESTS_FILE, directory.F2P, "at least one test", "none")
    for both in sorted(set(fail) & set(keep)):
        yield problem(directory.TESTS_FILE, directory.P2P, f"no test of {directory.F2P}", both)
    if meta.checkout is not None:
        touched_paths(gold)  # What it raises is a problem of this task.
        touched_paths(hidden)
        return
    files = touched_paths(hidden)
    for test in fail:
        if not files.intersection(_candidates(test, meta.runner)):
            yield problem(
                directory.TESTS_FILE, directory.F2P, f"tests of files in {directory.TEST_FILE}", test
            )
    if not gold.strip():
        yield problem(directory.GOLD_FILE, "", "a diff", "nothing")
    if not read_text(path / directory.STATEMENT_FILE, f"{where}/{directory.STATEMENT_FILE}").strip():
        yield problem(directory.STATEMENT_FILE, "", "text", "nothing")
    script = read_text(path / "eval.sh", f"{where}/eval.sh")
    for marker in (harness_files.START_MARKER, harness_files.END_MARKER):
        if marker not in script:
            yield problem("eval.sh", "", f"the marker {marker!r}", "none")
    if meta.source not in sources:
        sources[meta.source] = read_tree(root / "repos" / meta.source)
    start = directory.start_files(sources[meta.source], gold, hidden)
    apply_patch(start, hidden)  # As the grader will; what it raises is a problem of this task.
    for field, expected, found in (
        ("gym.start_digest", tree_digest(start), meta.start_digest),
        ("base_commit", base_commit(start), meta.base_commit),
    ):
        if expected != found:
            yield problem(directory.TASK_FILE, field, expected, found)
    for test in meta.visible_tests or ():
        if not set(_candidates(test, meta.runner)).intersection(start):
            yield problem(directory.TASK_FILE, "gym.visible_tests", "tests of files in the start tree", test)
        elif test in fail:
            yield problem(directory.TASK_FILE, "gym.visible_tests", f"no test of {directory.F2P}", test)


def _candidates(test_id: str, runner: str) -> list[str]:
    """The paths a test id may live in."""
    if runner == "unittest":
        parts = test_id.split(".")
        return ["/".join(parts[:end]) + ".py" for end in range(1, len(parts) - 1)]
    return [test_id.split("::")[0]]


def _problem(error: InputError, where: str) -> Problem:
    return Problem(
        file=error.where or where, field=error.message, expected=error.expected or "", found=str(error.found)
    )
