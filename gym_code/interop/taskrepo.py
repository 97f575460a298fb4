"""A task directory as a row, as `swebench.task.repo.load_task` reads it, and what it leaves out kept too.

task.yaml             every key is a column, in order
gold.patch test.patch eval.sh problem_statement.md hints.md tests.json Dockerfile
row.json              ours, where the row it was imported from looked otherwise:
                      {"order": [columns], "json_text": [columns], "values": {column: value}}
"""

from __future__ import annotations

import datetime
import json
from typing import TYPE_CHECKING, Any

from gym_code.interop.problems import fail
from gym_code.suite import directory
from gym_code.suite.directory import task_ids
from gym_code.suite.fields import read_json, read_text, read_yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from gym_code.types import JSON

ROW_FILE = "row.json"
HINTS_FILE, SCRIPT_FILE, DOCKERFILE = "hints.md", "eval.sh", "Dockerfile"
PATCHES = {"patch": directory.GOLD_FILE, "test_patch": directory.TEST_FILE}
TESTS = (directory.F2P, directory.P2P)
FILE_COLUMNS = frozenset({*PATCHES, *TESTS, "eval_script", "problem_statement", "hints_text", "dockerfile"})
_KNOWN_FILES = frozenset({
    directory.TASK_FILE, directory.STATEMENT_FILE, directory.TESTS_FILE, HINTS_FILE, SCRIPT_FILE, DOCKERFILE,
    ROW_FILE, *PATCHES.values(),
})  # fmt: skip


def directory_rows(root: Path) -> Iterator[tuple[str, dict[str, JSON]]]:
    """(task.yaml's path, row) of every task of a repository, sorted by id. Raises `TaskError`."""
    for task_id in task_ids(root):
        path = root / "tasks" / task_id
        yield str(path / directory.TASK_FILE), task_row(path)


def task_row(path: Path) -> dict[str, JSON]:
    """The row of a task directory: the one it was imported from, where it was. Raises `TaskError`."""
    plain = plain_row(path)
    if not (path / ROW_FILE).is_file():
        return plain
    fields = read_json(path / ROW_FILE, str(path / ROW_FILE))
    order, texts = fields.strings("order"), fields.strings("json_text")
    values = fields.mapping("values")
    for column in order:
        if column not in plain and column not in values:
            fields.problem("order", "columns of the task or of `values`", column)
    directory.raise_first(fields)
    return restored(plain, {"order": order, "json_text": texts, "values": values})


def restored(plain: Mapping[str, JSON], shape: Mapping[str, Any]) -> dict[str, JSON]:
    """The row whose shape was kept (see `shape_of`)."""
    row = {}
    for column in shape["order"]:
        value = shape["values"][column] if column in shape["values"] else plain[column]
        row[column] = json.dumps(value) if column in shape["json_text"] else value
    return row


def shape_of(row: Mapping[str, JSON], plain: Mapping[str, JSON]) -> dict[str, JSON] | None:
    """What `plain` does not tell of `row`; None where they are the same."""
    texts = [column for column in TESTS if column in plain and row[column] == json.dumps(plain[column])]
    values = {
        column: value
        for column, value in row.items()
        if column not in texts and (column not in plain or not same(value, plain[column]))
    }
    if not texts and not values and list(row) == list(plain):
        return None
    return {"order": list(row), "json_text": texts, "values": values}


def same(one: JSON, other: JSON) -> bool:
    """Whether two values are the same JSON: types count, and so does the order of keys."""
    return json.dumps(one) == json.dumps(other)


def plain_row(path: Path) -> dict[str, JSON]:
    """What the files of a task directory say, `row.json` apart."""
    where = (str(path / directory.TASK_FILE), 0)
    meta = read_yaml(path / directory.TASK_FILE, where[0]).data
    row = {key: plain_value(value, where, key) for key, value in meta.items()}
    for column, name in PATCHES.items():
        row[column] = (path / name).read_bytes().decode("utf-8", "surrogateescape")
    if (path / SCRIPT_FILE).is_file():
        row["eval_script"] = _text(path, SCRIPT_FILE)
    row["problem_statement"] = _text(path, directory.STATEMENT_FILE)
    row["hints_text"] = _text(path, HINTS_FILE) if (path / HINTS_FILE).is_file() else ""
    row |= read_json(path / directory.TESTS_FILE, str(path / directory.TESTS_FILE)).data
    if (path / DOCKERFILE).is_file():
        row["dockerfile"] = _text(path, DOCKERFILE)
    return row


def plain_value(value: Any, where: tuple[str, int], field: str) -> JSON:
    """A value of YAML or Arrow as JSON has it: times become ISO 8601 text. Raises `DataError`."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, datetime.date):  # A datetime is one, too.
        return value.isoformat()
    if isinstance(value, list | tuple):
        return [plain_value(item, where, field) for item in value]
    if isinstance(value, dict):
        return {str(key): plain_value(item, where, field) for key, item in value.items()}
    raise fail(where, field, "text, a number, a list or an object", type(value).__name__)


def _text(path: Path, name: str) -> str:
    return read_text(path / name, str(path / name))


def left_out(path: Path) -> list[str]:
    """The entries of a task directory that no row can hold (`test_assets`, what a Dockerfile copies)."""
    return sorted(entry.name for entry in path.iterdir() if entry.name not in _KNOWN_FILES)
