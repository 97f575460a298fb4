"""Rows are read with their places; what breaks off, comes twice or has another schema is said with them."""

from __future__ import annotations

import contextlib
import datetime
import json
from pathlib import Path

import pytest
from family_rows import ALL, CLASSIC, DJANGO, F2P, FIX, P2P, REBENCH, SMITH, SYMPY, VERIFIED, VERSION_5
from hypothesis import given
from hypothesis import strategies as st

from gym_code.errors import InputError
from gym_code.interop import DataError, read_instances, read_predictions, read_rows
from gym_code.interop.instance import instance_of
from gym_code.interop.problems import Problems


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def problems(source: Path) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_instances(str(source))
    return [str(problem).removeprefix(f"{source}:") for problem in caught.value.problems]


def test_jsonl_json_list_and_json_object_hold_the_same_rows(tmp_path: Path) -> None:
    lines = jsonl(tmp_path / "a.jsonl", CLASSIC, SMITH)
    (tmp_path / "a.json").write_text(json.dumps([CLASSIC, SMITH], indent=1))
    by_id = {row["instance_id"]: row for row in (CLASSIC, SMITH)}
    (tmp_path / "b.json").write_text("\ufeff" + json.dumps(by_id, indent=1), encoding="utf-8")
    first = list(read_rows(str(lines)))
    assert [row.line for row in first] == [1, 2]
    for name in ("a.json", "b.json"):
        rows = list(read_rows(str(tmp_path / name)))
        assert [dict(row.data) for row in rows] == [CLASSIC, SMITH]
        assert [row.line for row in rows] == [2, 16]  # `[` or `{`, then 12 columns, and a brace on each side


def test_a_key_of_an_object_is_the_id_of_a_row_that_has_none(tmp_path: Path) -> None:
    row = {key: value for key, value in CLASSIC.items() if key != "instance_id"}
    (tmp_path / "a.json").write_text(json.dumps({"x__y-1": row}))
    [found] = read_instances(str(tmp_path / "a.json"))
    assert found.instance_id == "x__y-1"


def test_parquet_keeps_types_and_writes_times_as_text(tmp_path: Path) -> None:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    when = datetime.datetime(2020, 10, 12, 13, 21, 50)
    path = tmp_path / "a.parquet"
    pq.write_table(pa.Table.from_pylist([{**REBENCH, "created_at": when}]), path)
    [row] = read_rows(str(path))
    assert row.data["created_at"] == "2020-10-12T13:21:50"
    assert row.data["FAIL_TO_PASS"] == F2P
    assert row.data["meta"] == REBENCH["meta"]
    assert list(row.data) == list(REBENCH)
    assert row.where == (f"{path} row 1", 0)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"a\.parquet: : expected Parquet, whole"):
        list(read_rows(str(path)))


def test_a_hub_name_is_loaded_through_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets")
    (tmp_path / "toy" / "set").mkdir(parents=True)
    jsonl(tmp_path / "toy" / "set" / "test.jsonl", CLASSIC, DJANGO)
    monkeypatch.chdir(tmp_path)  # `datasets` takes org/name for a directory where there is one.
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = list(read_rows("toy/set:test"))
    assert [row.data["instance_id"] for row in rows] == ["astropy__astropy-12907", "django__django-11099"]
    assert rows[1].where == ("toy/set:test row 2", 0)
    with pytest.raises(InputError, match=r"toy/set: cannot be loaded from the hub .*nosuch"):
        list(read_rows("toy/set:nosuch"))


def test_what_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rows\.jsonl: no such data set \(expected a file"):
        list(read_rows("data/rows.jsonl"))
    with pytest.raises(InputError, match=r"not a task repository \(expected a file sweb\.yaml"):
        list(read_rows(str(tmp_path)))
    (tmp_path / "rows.csv").write_text("")
    with pytest.raises(InputError, match=r"unknown kind of data set .* found \.csv"):
        list(read_rows(str(tmp_path / "rows.csv")))


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.jsonl", '{"a": 1}\n{"b": "cut in the mid', ":2: : expected a row of JSON, found the end"),
        ("a.jsonl", '{"a": 1}\n[1]\n', ":2: : expected a row: an object, found a list"),
        (
            "a.jsonl",
            '{"a": 1}\n\n{"b": 1, "b": 2}\n',
            ":3: : expected a row of JSON, found the key 'b' twice",
        ),
        ("a.jsonl", '{"a": 1} {"b": 2}\n', ':1: : expected the end, found \'{"b": 2}'),
        ("a.json", '[\n{"a": 1},\n{"b": ', ":3: : expected a value, found the end: the file is cut"),
        ("a.json", '[\n{"a": 1}\n{"b": 2}]', ":3: : expected `,` or `]`, found '{"),
        ("a.json", '{"x": {},\n\n"x": {}}', ":3: x: expected an id once (first on line 1), found it again"),
        ("a.json", '"text"', ":1: : expected a list or an object, found"),
        ("a.json", "", ":1: : expected a list or an object, found the end: the file is cut"),
        ("a.json", '[\n{"a": "\udcff"}]', ":2: : expected UTF-8, found the byte 0xff"),
    ],
)
def test_a_broken_file_names_its_line(tmp_path: Path, name: str, text: str, expected: str) -> None:
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError) as caught:
        list(read_rows(str(tmp_path / name)))
    assert f"{name}{expected}" in str(caught.value)


def test_the_families_are_understood(tmp_path: Path) -> None:
    found = read_instances(str(jsonl(tmp_path / "a.jsonl", *ALL)))
    assert [dict(instance.row) for instance in found] == list(ALL)
    classic, django, sympy, five, smith, rebench = found
    assert [instance.runner for instance in found] == [
        "pytest", "django", "sympy", "pytest", "pytest", "pytest",
    ]  # fmt: skip
    assert classic.image == "swebench/sweb.eval.x86_64.astropy_1776_astropy-12907:latest"
    assert classic.fail_to_pass == tuple(F2P)
    assert (classic.hints, classic.difficulty, classic.eval_script) == ("", None, None)
    assert django.pass_to_pass == ('Help text: it\'s all "fine" (auth_tests.test_validators.PasswordTest)',)
    assert sympy.pass_to_pass == ("test_equality", "test_piecewise")
    assert (five.log_parser, five.eval_script) == ("parse_log_pytest_options", VERSION_5["eval_script"])
    assert (smith.image_holds, smith.test_patch, smith.image) == ("solution", None, SMITH["image_name"])
    assert smith.gold_patch == FIX
    assert rebench.test_commands == ("pytest --no-header -rA --tb=line --color=no",)
    assert rebench.install == REBENCH["install_config"]
    assert list(rebench.extra) == [
        "meta", "requirements", "environment", "FAIL_TO_FAIL", "PASS_TO_FAIL", "license_name",
    ]  # fmt: skip
    assert rebench.pass_to_pass == tuple(P2P)


def test_null_hints_and_empty_hints_are_two_things(tmp_path: Path) -> None:
    [found] = read_instances(str(jsonl(tmp_path / "a.jsonl", VERIFIED)))
    assert found.hints is None
    assert found.difficulty == "15 min - 1 hour"


def test_a_parser_that_is_not_ours_is_left_to_the_official_grader(tmp_path: Path) -> None:
    [found] = read_instances(str(jsonl(tmp_path / "a.jsonl", {**VERSION_5, "log_parser": "parse_log_cargo"})))
    assert found.runner == "official"


def test_all_problems_of_the_rows_are_told_together(tmp_path: Path) -> None:
    silent = {key: value for key, value in CLASSIC.items() if key != "FAIL_TO_PASS"}
    lower = {**{key: value for key, value in SMITH.items() if key != "PASS_TO_PASS"}, "pass_to_pass": []}
    path = jsonl(
        tmp_path / "a.jsonl", CLASSIC, silent, lower, {**CLASSIC, "patch": 3}, CLASSIC,
        {**CLASSIC, "instance_id": "../up"}, {**DJANGO, "FAIL_TO_PASS": "[]"},
        {**SYMPY, "FAIL_TO_PASS": "a, b"}, {**VERSION_5, "problem_statement": "\ud800"},
    )  # fmt: skip
    assert problems(path) == [
        "2: FAIL_TO_PASS: expected a list of tests, or one as JSON text, found no such key",
        "3: PASS_TO_PASS: expected a list of tests, or one as JSON text, found no such key, "
        "but 'pass_to_pass'",
        "4: patch: expected text, found a number",
        f"5: instance_id: expected ids once (first: {path}:1), found 'astropy__astropy-12907'",
        "6: instance_id: expected text like [A-Za-z0-9][A-Za-z0-9_.-]*, found '../up'",
        "7: FAIL_TO_PASS: expected at least one test, found none: nothing would grade it",
        "8: FAIL_TO_PASS: expected a list of tests, or one as JSON text, found 'a, b'",
        "9: problem_statement: expected Unicode, found half of a surrogate pair at 0",
    ]


def test_twenty_problems_are_shown_and_all_are_counted(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", *[{"instance_id": f"x-{number}"} for number in range(10)])
    with pytest.raises(DataError) as caught:
        read_instances(str(path))
    assert (len(caught.value.problems), caught.value.total) == (
        20,
        50,
    )  # five columns are missing in each row
    assert str(caught.value).splitlines()[0] == "50 problems:"
    assert str(caught.value).splitlines()[-1] == "and 30 more"


def test_limit_reads_no_further(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", CLASSIC, SMITH)
    with path.open("a") as file:
        file.write("{broken")
    assert [instance.instance_id for instance in read_instances(str(path), 1)] == ["astropy__astropy-12907"]
    with pytest.raises(DataError, match=r":3: "):
        read_instances(str(path))


def test_a_file_cut_anywhere_is_noticed(tmp_path: Path) -> None:
    rows = [
        {**SMITH, "instance_id": f"a-{number}", "problem_statement": "\u2013 \U0001f9ee"} for number in (1, 2)
    ]
    whole = json.dumps(rows, ensure_ascii=False, indent=1).encode()
    for end in range(0, len(whole), 7):
        (tmp_path / "a.json").write_bytes(whole[:end])
        with pytest.raises(DataError, match=r"a\.json:\d+: "):
            read_instances(str(tmp_path / "a.json"))
    lines = [json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows]
    for end in range(1, len(lines[1]) - 1, 7):  # Without its line feed the row is still whole.
        (tmp_path / "a.jsonl").write_bytes(lines[0] + lines[1][:end])
        with pytest.raises(DataError, match=r"a\.jsonl:2: "):
            read_instances(str(tmp_path / "a.jsonl"))


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@given(content=st.binary(max_size=60) | st.text('[]{}",:1\\nulx \n', max_size=40).map(str.encode))
def test_no_bytes_break_the_reader(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    with contextlib.suppress(InputError):
        assert all(isinstance(dict(row.data), dict) for row in read_rows(str(path)))
    with contextlib.suppress(InputError):
        assert read_instances(str(path)) == []
    with contextlib.suppress(InputError):
        assert read_predictions(path) == {}


def test_deep_nesting_is_no_crash(tmp_path: Path) -> None:
    deep = "[" * 100_000
    path = jsonl(tmp_path / "a.jsonl", {**CLASSIC, "PASS_TO_PASS": deep})
    assert problems(path)[0].startswith("1: PASS_TO_PASS: expected a list of tests")
    path = tmp_path / "a.json"
    path.write_text(deep)
    assert problems(path)[0].startswith("1: : expected a value, found maximum recursion depth")


def test_an_instance_needs_no_file(tmp_path: Path) -> None:
    [row] = read_rows(str(jsonl(tmp_path / "a.jsonl", SMITH)))
    found = Problems()
    instance = instance_of(row, found)
    assert instance is not None
    assert instance.where == (str(tmp_path / "a.jsonl"), 1)
    assert found.total == 0
