"""Rows and suites, each made from the other: field by field, type by type, in the order of the keys."""

from __future__ import annotations

import filecmp
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from family_rows import ALL, BUG, CLASSIC, F2P, FIX, REBENCH, SMITH, TESTS, VERIFIED, VERSION_5
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gym_code.cli import main
from gym_code.data import tasks_directory
from gym_code.errors import InputError
from gym_code.interop import DataError, export_rows, import_rows, read_rows
from gym_code.suite import DirectorySuite, check_suite
from gym_code.task import load_suite

STARTER = tasks_directory() / "starter"


def write(path: Path, *rows: object) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def export(suite: Path) -> str:
    return "".join(json.dumps(row) + "\n" for row in export_rows(DirectorySuite(suite)))


def there_and_back(tmp_path: Path, *rows: Any) -> list[Any]:
    import_rows(write(tmp_path / "rows.jsonl", *rows), tmp_path / "suite")
    exported = export(tmp_path / "suite")
    (tmp_path / "again.jsonl").write_text(exported)
    import_rows(str(tmp_path / "again.jsonl"), tmp_path / "suite-2")
    assert export(tmp_path / "suite-2") == exported
    return [json.loads(line) for line in exported.splitlines()]


def test_every_family_comes_back_as_it_went(tmp_path: Path) -> None:
    back = there_and_back(tmp_path, *ALL, {**VERIFIED, "instance_id": "x__null-1"})
    rows = [*ALL, {**VERIFIED, "instance_id": "x__null-1"}]
    by_id = sorted(rows, key=lambda row: row["instance_id"])  # as the directories are
    assert [json.dumps(row) for row in back] == [json.dumps(row) for row in by_id]


def test_an_imported_suite_is_sound_and_its_halves_load(tmp_path: Path) -> None:
    report = import_rows(write(tmp_path / "rows.jsonl", *ALL), tmp_path / "suite")
    assert report.tasks == report.images == 6
    assert report.runners == {"django": 1, "pytest": 4, "sympy": 1}
    assert (report.without_script, report.missing_sources) == (5, ())
    assert check_suite(tmp_path / "suite") == []
    suite = load_suite(str(tmp_path / "suite"))
    classic = suite.task(CLASSIC["instance_id"])
    assert classic.instruction == CLASSIC["problem_statement"]
    assert (classic.base_commit, classic.family) == (CLASSIC["base_commit"], "astropy/astropy")
    assert classic.environment.image == "swebench/sweb.eval.x86_64.astropy_1776_astropy-12907:latest"
    assert classic.visible_tests == ("tests/test_line.py::test_len[a b]",)  # the other file is patched
    answer = suite.answer(CLASSIC["instance_id"])
    assert answer.fail_to_pass == tuple(F2P)
    assert (answer.gold_patch, answer.test_patch) == (FIX.encode(), TESTS.encode())
    smith = suite.answer(SMITH["instance_id"])
    assert (smith.gold_patch, smith.test_patch) == (FIX.encode(), b"")
    assert BUG != FIX


def test_our_suites_come_back_byte_for_byte(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(export(STARTER))
    report = import_rows(str(tmp_path / "rows.jsonl"), tmp_path / "suite")
    assert report.images == 0
    assert "textkit" in report.missing_sources
    files = tree(STARTER / "tasks")
    assert tree(tmp_path / "suite" / "tasks") == files
    _, differ, unread = filecmp.cmpfiles(
        STARTER / "tasks", tmp_path / "suite" / "tasks", files, shallow=False
    )
    assert (differ, unread) == ([], [])
    (tmp_path / "suite" / "repos").rmdir()
    (tmp_path / "suite" / "repos").symlink_to(STARTER / "repos")
    assert check_suite(tmp_path / "suite") == []


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def test_a_generated_suite_is_exported_too(tmp_path: Path) -> None:
    suite = load_suite("procedural:seed=7,count=3")
    rows = list(export_rows(suite))
    assert [row["instance_id"] for row in rows] == list(suite.ids())
    assert [row["gym"]["start_digest"] for row in rows] == [
        suite.start(task_id).digest for task_id in suite.ids()
    ]
    assert [row["base_commit"] for row in rows] == [
        suite.task(task_id).base_commit for task_id in suite.ids()
    ]
    import_rows(write(tmp_path / "rows.jsonl", *rows), tmp_path / "suite")
    assert export(tmp_path / "suite") == (tmp_path / "rows.jsonl").read_text()


def test_an_altered_row_of_ours_is_refused(tmp_path: Path) -> None:
    row = next(iter(export_rows(DirectorySuite(STARTER))))
    source = write(tmp_path / "rows.jsonl", {**row, "problem_statement": "Another one."})
    with pytest.raises(
        DataError, match=r"rows\.jsonl:1: .*: gym\.digest: expected [0-9a-f]{64}, of what the row"
    ):
        import_rows(source, tmp_path / "suite")
    source = write(tmp_path / "rows.jsonl", {**row, "gym": {**row["gym"], "runner": "nose"}})
    with pytest.raises(DataError, match=r":1: .*gym\.runner: expected .*, found 'nose'"):
        import_rows(source, tmp_path / "suite")
    assert list(tmp_path.iterdir()) == [tmp_path / "rows.jsonl"]


def test_nothing_is_written_where_a_row_is_wrong_or_the_place_is_taken(tmp_path: Path) -> None:
    binary = "diff --git a/b b/b\nGIT binary patch\nliteral 1\nIcmZPo0000200961\n\n"
    source = write(tmp_path / "rows.jsonl", CLASSIC, {**SMITH, "patch": binary})
    with pytest.raises(DataError, match=r"rows\.jsonl:2: oauthlib__\S+: patch: expected"):
        import_rows(source, tmp_path / "suite")
    assert list(tmp_path.iterdir()) == [tmp_path / "rows.jsonl"]
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "mine").touch()
    with pytest.raises(InputError, match="expected a new or empty directory"):
        import_rows(write(tmp_path / "rows.jsonl", CLASSIC), tmp_path / "suite")
    with pytest.raises(InputError, match="expected at least one"):
        import_rows(write(tmp_path / "rows.jsonl"), tmp_path / "other")


def test_what_a_row_cannot_hold_is_no_silent_loss(tmp_path: Path) -> None:
    import_rows(write(tmp_path / "rows.jsonl", CLASSIC), tmp_path / "suite")
    (tmp_path / "suite" / "tasks" / CLASSIC["instance_id"] / "test_assets").mkdir()
    with pytest.raises(InputError, match="found test_assets"):
        export(tmp_path / "suite")


def test_an_edit_of_a_task_is_in_its_row(tmp_path: Path) -> None:
    import_rows(write(tmp_path / "rows.jsonl", CLASSIC), tmp_path / "suite")
    path = tmp_path / "suite" / "tasks" / CLASSIC["instance_id"]
    (path / "problem_statement.md").write_text("Clearer.")
    (path / "tests.json").write_text(json.dumps({"FAIL_TO_PASS": ["a"], "PASS_TO_PASS": []}))
    [row] = read_rows(str(tmp_path / "suite"))
    changed = {"problem_statement": "Clearer.", "FAIL_TO_PASS": '["a"]', "PASS_TO_PASS": "[]"}
    assert row.data == {**CLASSIC, **changed}


def test_a_task_repository_of_swe_bench_is_a_data_set(tmp_path: Path) -> None:
    """As its maintainers write one: no `gym:` block, a date that YAML reads as a date."""
    path = tmp_path / "repo" / "tasks" / VERSION_5["instance_id"]
    path.mkdir(parents=True)
    (tmp_path / "repo" / "sweb.yaml").write_text("datasets: [org/set]\n")
    files = {"patch": "gold.patch", "test_patch": "test.patch", "eval_script": "eval.sh",
             "problem_statement": "problem_statement.md", "hints_text": "hints.md"}  # fmt: skip
    tests = ("FAIL_TO_PASS", "PASS_TO_PASS")
    meta = {key: value for key, value in VERSION_5.items() if key not in files and key not in tests}
    meta |= {"split": "test", "datasets": ["org/set"]}
    (path / "task.yaml").write_text(yaml.safe_dump(meta) + "noted_at: 2024-05-06\n")
    for column, name in files.items():
        (path / name).write_bytes(VERSION_5[column].encode())
    (path / "tests.json").write_text(json.dumps({key: VERSION_5[key] for key in tests}))
    (path / "Dockerfile").write_text("FROM scratch\n")
    [row] = read_rows(str(tmp_path / "repo"))
    expected = {**VERSION_5, "split": "test", "datasets": ["org/set"], "noted_at": "2024-05-06"}
    assert row.data == {**expected, "dockerfile": "FROM scratch\n"}
    import_rows(str(tmp_path / "repo"), tmp_path / "suite")
    assert yaml.safe_load((tmp_path / "suite" / "sweb.yaml").read_text())["datasets"] == ["org/set"]
    assert json.loads(export(tmp_path / "suite")) == row.data


TEXT = st.text(st.characters(codec="utf-8"), max_size=30) | st.sampled_from(
    ["", "a\r\nb\r", "\x85\u2028", "no", "1e3"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
TESTS_OF = st.lists(TEXT, min_size=1, max_size=4)
EXTRA = st.dictionaries(
    TEXT
    | st.sampled_from(["gym", "gym.kind", "datasets", "split", "created_at", "difficulty", "null", "42"]),
    VALUES,
    max_size=4,
)


def as_it_may_come(tests: list[str], form: int) -> object:
    forms = (tests, json.dumps(tests), json.dumps(tests, ensure_ascii=False), json.dumps(tests, indent=1))
    return forms[form]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(
    texts=st.fixed_dictionaries({"problem_statement": TEXT, "repo": TEXT}),
    optional=st.fixed_dictionaries(
        {},
        optional={
            name: TEXT | st.none() for name in ("version", "hints_text", "test_patch", "dockerfile", "image")
        },
    ),
    fail=TESTS_OF,
    keep=TESTS_OF,
    forms=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    patch=st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape")),
    extra=EXTRA,
    shuffle=st.randoms(use_true_random=False),
)
def test_odd_rows_come_back_as_they_went(
    tmp_path_factory: pytest.TempPathFactory,
    texts: dict[str, str],
    optional: dict[str, str | None],
    fail: list[str],
    keep: list[str],
    forms: tuple[int, int],
    patch: str,
    extra: dict[str, Any],
    shuffle: Any,
) -> None:
    row = {
        **extra, "instance_id": "a__b-1", "patch": patch, **texts, **optional,
        "FAIL_TO_PASS": as_it_may_come(fail, forms[0]), "PASS_TO_PASS": as_it_may_come(keep, forms[1]),
    }  # fmt: skip
    row["test_patch"] = TESTS if optional.get("test_patch") else optional.get("test_patch")
    keys = list(row)
    shuffle.shuffle(keys)
    row = {key: row[key] for key in keys}
    folder = tmp_path_factory.mktemp("odd")
    import_rows(write(folder / "rows.jsonl", row), folder / "suite")
    assert export(folder / "suite") == (folder / "rows.jsonl").read_text()


def test_the_commands(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            main(("tasks", *arguments))
        out, err = capfd.readouterr()
        return int(caught.value.code or 0), out, err

    source, suite = write(tmp_path / "rows.jsonl", VERSION_5, REBENCH, SMITH), str(tmp_path / "suite")
    status, out, _ = run("import", source, "--out", suite, "--limit", "2", "--json")
    assert (status, json.loads(out)["tasks"], json.loads(out)["without_script"]) == (0, 2, 1)
    status, out, _ = run("export", suite, "--to", "swebench-jsonl")
    assert status == 0
    assert [json.loads(line) for line in out.splitlines()] == [REBENCH, VERSION_5]
    file = tmp_path / "new" / "out.jsonl"
    assert run("export", suite, "--out", str(file))[:2] == (0, "")
    assert file.read_text() == out
    assert run("export", suite, "--to", "harbor")[0] == 2
    (tmp_path / "rows.jsonl").write_text('{"instance_id": "a-1"}\n{"cut')
    status, out, err = run("import", source, "--out", str(tmp_path / "none"))
    assert (status, out) == (2, "")
    found = "the end: the file is cut (begins on line 2)"
    assert err == f"gym-code: {source}:2: : expected a row of JSON, found {found}\n"
    (tmp_path / "rows.jsonl").write_text('{"instance_id": "a-1"}\n')
    status, _, err = run("import", source, "--out", str(tmp_path / "none"))
    assert status == 2
    assert err.splitlines()[:2] == [
        "gym-code: 5 problems:",
        f"{source}:1: repo: expected text, found no such key",
    ]


def test_importing_the_room_is_light() -> None:
    heavy = "{'pyarrow', 'datasets', 'swebench', 'docker'}"
    code = f"import sys, gym_code.interop; print({heavy} & set(sys.modules))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "set()\n"
