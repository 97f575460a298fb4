"""The shipped suite `starter`: what it covers, what its statements tell, and law 4 for every task."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from gym_code.data import tasks_directory
from gym_code.diff import touched_paths
from gym_code.grading import check_task
from gym_code.patch import apply_patch, with_changes
from gym_code.sandbox import open_backend
from gym_code.suite import DirectorySuite, check_suite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gym_code.sandbox.base import Backend
    from gym_code.types import File

ROOT = tasks_directory() / "starter"
SUITE = DirectorySuite(ROOT)
IDS = SUITE.ids()
LEVELS = {"line": 7, "function": 7, "class": 2, "module": 3, "feature": 5, "application": 1}


def trees(task_id: str) -> tuple[Mapping[str, File], Mapping[str, File]]:
    """The start tree, and the same with gold patch and hidden tests."""
    start, answer = SUITE.start(task_id).files(), SUITE.answer(task_id)
    solved = with_changes(start, apply_patch(start, answer.gold_patch))
    return start, with_changes(solved, apply_patch(solved, answer.test_patch))


def node_of(tree: Mapping[str, File], test_id: str) -> ast.AST:
    """The syntax tree of a test, by the id of either runner."""
    path, *names = test_id.split("::")
    if not names:
        parts = test_id.split(".")
        path, names = "/".join(parts[:-2]) + ".py", parts[-2:]
    node: ast.AST = ast.parse(tree[path].content)
    for name in names:
        node = next(child for child in ast.iter_child_nodes(node) if getattr(child, "name", None) == name)
    return node


def has_expected_literal(node: ast.AST) -> bool:
    """Whether a test compares something with a value written out, so that twins can alter it."""
    for part in ast.walk(node):
        if isinstance(part, ast.Assert) and isinstance(part.test, ast.Compare):
            if isinstance(part.test.ops[0], ast.Eq | ast.Is):
                return True
        elif isinstance(part, ast.Call) and getattr(part.func, "attr", "") in ("assertEqual", "assertIs"):
            return True
    return False


def public_names(tree: Mapping[str, File]) -> set[str]:
    """Names of public functions, classes and methods defined in a tree, tests left out."""
    names = set()
    for path, file in tree.items():
        if path.endswith(".py") and not PurePosixPath(path).name.startswith("test_"):
            for node in ast.walk(ast.parse(file.content)):
                if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                    names.add(node.name)
    return names


def used_words(tree: Mapping[str, File], paths: frozenset[str]) -> set[str]:
    """Every name, attribute and keyword that some Python files use."""
    words: set[str] = set()
    for path in paths & tree.keys():
        for node in ast.walk(ast.parse(tree[path].content)):
            words |= {str(getattr(node, field, "")) for field in ("id", "attr", "arg")}
            if isinstance(node, ast.alias):
                words.add(node.name)
    return words


def test_the_suite_is_sound_on_disk() -> None:
    assert [str(problem) for problem in check_suite(ROOT)] == []


def test_levels_and_repositories() -> None:
    tasks = [SUITE.task(task_id) for task_id in IDS]
    assert Counter(task.provenance["level"] for task in tasks) == LEVELS
    assert len(tasks) == 25
    assert len({task.repo for task in tasks}) == 8
    assert [task.id for task in tasks if task.kind == "build"] == ["stockroom__rebuild-1"]
    assert {task.repo for task in tasks if task.runner == "unittest"} == {"gym-code/inikit"}


@pytest.mark.parametrize("task_id", IDS)
def test_tests_are_many_and_kept_apart(task_id: str) -> None:
    task, answer = SUITE.task(task_id), SUITE.answer(task_id)
    assert len(answer.fail_to_pass) >= 2
    assert len(answer.pass_to_pass) >= 2
    assert set(task.visible_tests) <= set(answer.pass_to_pass)
    source = touched_paths(answer.gold_patch)
    assert source.isdisjoint(touched_paths(answer.test_patch))
    assert not any("test" in path for path in source)


@pytest.mark.parametrize("task_id", IDS)
def test_every_hidden_test_expects_a_value_that_twins_can_alter(task_id: str) -> None:
    _, finished = trees(task_id)
    dull = [
        test_id
        for test_id in SUITE.answer(task_id).fail_to_pass
        if not has_expected_literal(node_of(finished, test_id))
    ]
    assert dull == []


@pytest.mark.parametrize("task_id", IDS)
def test_statements_name_what_hidden_tests_use(task_id: str) -> None:
    start, finished = trees(task_id)
    task = SUITE.task(task_id)
    new = public_names(finished) - public_names(start)
    used = new & used_words(finished, touched_paths(SUITE.answer(task_id).test_patch))
    readme = start["README.md"].content.decode() if task.kind == "build" else ""
    told = set(re.findall(r"\w+", task.instruction + readme))
    assert used - told == set()


def imported_and_listed(tree: Mapping[str, File]) -> set[str]:
    """What the Python files of a tree import, and what stands in their `__all__`."""
    words: set[str] = set()
    for path, file in tree.items():
        for node in ast.walk(ast.parse(file.content)) if path.endswith(".py") else ():
            if isinstance(node, ast.alias):
                words.add(node.name.rpartition(".")[2])
            elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                words |= set(ast.literal_eval(node.value))
    return words


@pytest.mark.parametrize("task_id", IDS)
def test_start_trees_neither_import_nor_list_what_is_missing(task_id: str) -> None:
    start, finished = trees(task_id)
    assert (public_names(finished) - public_names(start)) & imported_and_listed(start) == set()


def test_the_tasks_share_one_environment_of_pins() -> None:
    environments = {SUITE.task(task_id).environment.packages for task_id in IDS}
    (packages,) = environments - {()}
    assert [package for package in packages if not re.fullmatch(r"[\w.-]+==[\w.]+", package)] == []


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    opened = open_backend("namespace")
    yield opened
    opened.close()


@pytest.mark.sandbox
@pytest.mark.slow
@pytest.mark.parametrize("task_id", IDS)
def test_law_4_oracle_scores_1_and_noop_0(task_id: str, backend: Backend) -> None:
    check = check_task(SUITE, task_id, backend, runs=1)
    assert (check.oracle, check.noop, check.reasons) == ((1.0,), (0.0,), ())
