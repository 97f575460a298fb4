"""Suites on disk: the halves load apart; what is wrong is named by file, field, expected and found."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gym_code.data import shipped_suites, tasks_directory
from gym_code.errors import PatchError, TaskError
from gym_code.gitrepo import base_commit
from gym_code.suite import DirectorySuite, TaskDraft, check_suite, create_suite, write_task, write_tree
from gym_code.task import load_suite
from gym_code.types import Environment, File, Limits, tree_digest

if TYPE_CHECKING:
    from collections.abc import Callable

ID = "calc__add-1"
START = {
    "calc.py": File(content=b"def add(a, b):\n    return a - b\n"),
    "run.sh": File(content=b"#!/bin/sh\n", executable=True),
    "tests/test_calc.py": File(
        content=b"from calc import add\n\n\ndef test_zero():\n    assert add(1, 0) == 1\n"
    ),
}
GOLD = b"""diff --git a/calc.py b/calc.py
--- a/calc.py
+++ b/calc.py
@@ -1,2 +1,2 @@
 def add(a, b):
-    return a - b
+    return a + b
"""
HIDDEN = b"from calc import add\n\n\ndef test_add():\n    assert add(1, 2) == 3\n"
TESTS = b"""diff --git a/tests/test_hidden.py b/tests/test_hidden.py
new file mode 100644
--- /dev/null
+++ b/tests/test_hidden.py
@@ -0,0 +1,5 @@
+from calc import add
+
+
+def test_add():
+    assert add(1, 2) == 3
"""
SOURCE = {
    **START,
    "calc.py": File(content=b"def add(a, b):\n    return a + b\n"),
    "tests/test_hidden.py": File(content=HIDDEN),
}
DRAFT = TaskDraft(
    instance_id=ID,
    source="calc",
    instruction="Make `add` add. \u2013 \U0001f9ee\n",
    gold_patch=GOLD,
    test_patch=TESTS,
    fail_to_pass=("tests/test_hidden.py::test_add",),
    pass_to_pass=("tests/test_calc.py::test_zero",),
    environment=Environment(packages=("pytest==9.2.0",), env={"COLOUR": "no"}),
    limits={"turns": 20, "tokens": None, "exec_seconds": 12},
    difficulty=0.25,
    removed=("calc.add",),
    level="line",
    evidence={"gold_runs": 3, "noop_runs": 3, "gold_seconds": 0.5},
)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    root = create_suite(tmp_path / "suite", name="toy", description="A toy: one task")
    write_tree(root / "repos" / "calc", SOURCE)
    write_task(root, DRAFT)
    return root


def file(suite: Path, name: str) -> Path:
    return suite / "tasks" / ID / name


def change_yaml(suite: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = file(suite, "task.yaml")
    data = yaml.safe_load(path.read_text())
    change(data)
    path.write_text(yaml.safe_dump(data, sort_keys=False))


def test_a_written_task_is_sound_and_reads_back(suite: Path) -> None:
    assert check_suite(suite) == []
    loaded = load_suite(str(suite))
    assert (loaded.name, loaded.ids()) == ("toy", (ID,))
    task, answer = loaded.task(ID), loaded.answer(ID)
    assert task.instruction == DRAFT.instruction
    assert task.base_commit == base_commit(START)
    assert task.environment == DRAFT.environment
    assert task.limits == Limits(turns=20, exec_seconds=12.0)
    assert task.visible_tests == ("tests/test_calc.py::test_zero",)
    assert (task.runner, task.kind, task.repo, task.difficulty) == ("pytest", "fix", "gym-code/calc", 0.25)
    assert task.provenance == {
        "level": "line", "licence": "Apache-2.0", "grade": "train", "seed": None, "gold_seconds": 0.5,
    }  # fmt: skip
    assert (answer.fail_to_pass, answer.pass_to_pass) == (DRAFT.fail_to_pass, DRAFT.pass_to_pass)
    assert (answer.gold_patch, answer.test_patch) == (GOLD, TESTS)


def test_law_1_the_start_tree_is_the_source_without_tests_and_solution(suite: Path) -> None:
    start = load_suite(str(suite)).start(ID)
    assert start.files() == dict(sorted(START.items()))
    assert start.digest == tree_digest(START)


def test_law_1_a_changed_source_is_noticed_when_the_start_is_built(suite: Path) -> None:
    (suite / "repos" / "calc" / "run.sh").write_bytes(b"#!/bin/bash\n")
    start = load_suite(str(suite)).start(ID)
    with pytest.raises(
        TaskError, match=r"tasks/calc__add-1/task.yaml: gym.start_digest .*expected [0-9a-f]{64}"
    ):
        start.files()


def test_the_public_half_loads_without_the_secret_files(suite: Path) -> None:
    public = DirectorySuite(suite).task(ID)
    for name in ("tests.json", "gold.patch", "test.patch"):
        file(suite, name).unlink()
    assert DirectorySuite(suite).task(ID) == public
    with pytest.raises(TaskError, match=r"tasks/calc__add-1/tests.json: file is missing"):
        DirectorySuite(suite).answer(ID)


def test_nothing_secret_stands_in_a_task(suite: Path) -> None:
    public = repr(DirectorySuite(suite).task(ID))
    assert "test_hidden" not in public
    assert "a + b" not in public


def test_visible_tests_default_to_pass_to_pass(suite: Path) -> None:
    change_yaml(suite, lambda data: data["gym"].pop("visible_tests"))
    assert DirectorySuite(suite).task(ID).visible_tests == DRAFT.pass_to_pass


def test_writing_again_replaces_the_task_and_leaves_nothing(suite: Path) -> None:
    before = {path.name: path.read_bytes() for path in (suite / "tasks" / ID).iterdir()}
    write_task(suite, DRAFT)
    assert {path.name: path.read_bytes() for path in (suite / "tasks" / ID).iterdir()} == before
    assert sorted(path.name for path in suite.iterdir()) == ["repos", "sweb.yaml", "tasks"]


def test_a_patch_that_does_not_fit_the_source_writes_nothing(suite: Path) -> None:
    from dataclasses import replace

    with pytest.raises(PatchError, match=r"calc.py: hunk 1 does not apply"):
        write_task(
            suite, replace(DRAFT, instance_id="calc__add-2", gold_patch=GOLD.replace(b"a + b", b"a * b"))
        )
    assert DirectorySuite(suite).ids() == (ID,)


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "sp ace"])
def test_a_bad_id_is_refused(suite: Path, name: str) -> None:
    from dataclasses import replace

    with pytest.raises(TaskError, match="instance_id"):
        write_task(suite, replace(DRAFT, instance_id=name))
    with pytest.raises(TaskError, match="no such task"):
        DirectorySuite(suite).task(name)


FIELDS = [
    (lambda d: d["gym"].update(kind="fxi"), "gym.kind", "build or fix", "'fxi'"),
    (
        lambda d: d["gym"].update(limits={"turns": -3}),
        "gym.limits.turns",
        "a number from 0 to 9.22337e+18",
        "-3",
    ),
    (lambda d: d["gym"].update(limits={"turns": 2.5}), "gym.limits.turns", "a whole number above 0", "2.5"),
    (lambda d: d["gym"].update(limits={"trns": 3}), "gym.limits.trns", "one of cost, cpu_seconds", "'trns'"),
    (
        lambda d: d["gym"].update(visible_test=[]),
        "gym.visible_test",
        "one of checkout, difficulty, digest",
        "'visible_test'",
    ),
    (lambda d: d["gym"].update(checkout="half"), "gym.checkout", "solution or start", "'half'"),
    (
        lambda d: d["gym"].update(checkout="start"),
        "gym.source",
        "nothing beside gym.checkout",
        "'calc'",
    ),
    (
        lambda d: d["gym"].update(checkout="start"),
        "gym.environment.image",
        "the image that holds the tree",
        "nothing",
    ),
    (lambda d: d["gym"].update(visible_tests="x"), "gym.visible_tests", "a list of text", "'x'"),
    (lambda d: d["gym"].update(start_digest="abc"), "gym.start_digest", "text like [0-9a-f]{64}", "'abc'"),
    (
        lambda d: d["gym"]["environment"].update(packages=["pytest"]),
        "gym.environment.packages",
        "pinned",
        "'pytest'",
    ),
    (lambda d: d["gym"].update(difficulty=7), "gym.difficulty", "a number from 0 to 1", "7"),
    (lambda d: d.update(version=1.0), "version", "text", "1.0"),
    (
        lambda d: d.update(image="other"),
        "image",
        "swebench/sweb.eval.x86_64.calc_1776_add-1:latest",
        "'other'",
    ),
    (lambda d: d.pop("base_commit"), "base_commit", "text", "nothing"),
    (lambda d: d.update(instance_id="other"), "instance_id", "calc__add-1", "'other'"),
    (lambda d: d.update(gym=[]), "gym.environment.python", "text", "nothing"),
]


@pytest.mark.parametrize(("change", "field", "expected", "found"), FIELDS)
def test_a_wrong_field_is_named_with_expected_and_found(
    suite: Path, change: Callable[[dict[str, Any]], object], field: str, expected: str, found: str
) -> None:
    change_yaml(suite, change)
    with pytest.raises(TaskError, match=r"tasks/calc__add-1/task\.yaml"):
        DirectorySuite(suite).task(ID)
    problem = next(problem for problem in check_suite(suite) if problem.field == field)
    assert expected in problem.expected
    assert problem.found == found
    assert problem.file == "tasks/calc__add-1/task.yaml"


def test_the_line_of_a_wrong_field_is_given(suite: Path) -> None:
    path = file(suite, "task.yaml")
    text = path.read_text().replace("  runner: pytest", "  runner: nose")
    path.write_text(text)
    line = text.split("\n").index("  runner: nose") + 1
    with pytest.raises(TaskError) as caught:
        DirectorySuite(suite).task(ID)
    known = "django or official or pytest or sympy or unittest"
    expected = f"tasks/calc__add-1/task.yaml:{line}: gym.runner (expected {known}, found 'nose')"
    assert str(caught.value) == expected


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("task.yaml", b"a: [1\nb: 2\n", r"task.yaml:2: not valid YAML"),
        ("task.yaml", b"- 1\n", r"task.yaml: not a mapping \(expected a mapping, found \[1\]\)"),
        ("task.yaml", b"\xff\xfe", r"task.yaml: file cannot be read \(expected UTF-8 text"),
        ("task.yaml", b"a: 1\na: 2\n", r"task.yaml:2: a \(expected a field once, found 'it twice'\)"),
        ("task.yaml", b"", r"task.yaml: not a mapping"),
        ("tests.json", b"{,", r"tests.json:1: not valid JSON"),
        ("tests.json", b"[" * 100_000, r"tests.json: not valid JSON"),
        ("tests.json", b'{"a": ' + b"9" * 5000 + b"}", r"tests.json: not valid JSON"),
        ("task.yaml", b"[" * 3000, r"task.yaml: not valid YAML"),
        (
            "task.yaml",
            b"split: 0x" + b"f" * 5000,
            r"task.yaml:1: split \(expected text, found int, too large",
        ),
        (
            "tests.json",
            b'{"FAIL_TO_PASS": 3}',
            r"tests.json: FAIL_TO_PASS \(expected a list of text, found 3\)",
        ),
    ],
)
def test_a_broken_file_is_named(suite: Path, name: str, content: bytes, message: str) -> None:
    file(suite, name).write_bytes(content)
    with pytest.raises(TaskError, match=message):
        DirectorySuite(suite).answer(ID)
    assert any(str(problem).startswith(f"tasks/{ID}/{name}") for problem in check_suite(suite))


def test_check_finds_what_only_the_whole_shows(suite: Path) -> None:
    tests = {
        "FAIL_TO_PASS": ["tests/test_calc.py::test_zero"],
        "PASS_TO_PASS": ["tests/test_calc.py::test_zero"],
    }
    file(suite, "tests.json").write_text(json.dumps(tests))
    file(suite, "problem_statement.md").write_text("\n")
    file(suite, "eval.sh").write_text("true\n")
    change_yaml(suite, lambda data: data.update(datasets=["other"], base_commit="0" * 40))
    (suite / "tasks" / "stray").mkdir()
    found = [(problem.file.removeprefix(f"tasks/{ID}/"), problem.field) for problem in check_suite(suite)]
    assert found == [("task.yaml", "datasets"), ("tasks/stray", "")]
    change_yaml(suite, lambda data: data.update(datasets=["gym-code/toy"]))
    found = [(problem.file.removeprefix(f"tasks/{ID}/"), problem.field) for problem in check_suite(suite)]
    assert found == [
        ("tests.json", "PASS_TO_PASS"),
        ("tests.json", "FAIL_TO_PASS"),
        ("problem_statement.md", ""),
        ("eval.sh", ""),
        ("eval.sh", ""),
        ("task.yaml", "base_commit"),
        ("task.yaml", "gym.visible_tests"),
        ("task.yaml", "gym.digest"),
        ("tasks/stray", ""),
    ]


def test_the_digest_covers_public_and_secret(suite: Path) -> None:
    first = DirectorySuite(suite).task(ID).digest
    from dataclasses import replace

    for other in (
        replace(DRAFT, instruction="Other."),
        replace(DRAFT, pass_to_pass=()),
        replace(DRAFT, limits={}),
        replace(DRAFT, test_patch=TESTS.replace(b"b/tests", b"b/tests")[:-1] + b"\n\n"),
    ):
        write_task(suite, other)
        digest = DirectorySuite(suite).task(ID).digest
        assert digest != first
        assert check_suite(suite) == []


@pytest.mark.parametrize(
    ("config", "field"),
    [("name: x\n", "datasets"), ("datasets: x\n", "datasets"), ("name: [1]\ndatasets: [a]\n", "name")],
)
def test_a_wrong_suite_file_is_named(suite: Path, config: str, field: str) -> None:
    (suite / "sweb.yaml").write_text(config)
    with pytest.raises(TaskError, match=rf"sweb.yaml(:\d)?: {field} \(expected"):
        load_suite(str(suite))
    assert check_suite(suite)[0].field == field


def test_a_reference_to_nothing_says_what_there_is() -> None:
    with pytest.raises(
        TaskError, match=r"no such suite \(expected .*a directory with a sweb.yaml, found 'nowhere'\)"
    ):
        load_suite("nowhere")


def test_shipped_suites_are_found_by_name() -> None:
    assert tasks_directory() == Path(__file__).resolve().parent.parent / "tasks"
    for name in shipped_suites():
        assert load_suite(name).ids()
