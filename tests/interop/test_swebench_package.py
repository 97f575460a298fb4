"""What we write, as the package `swebench` itself reads it (extra `swebench`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import swebench_oracle
from family_rows import VERSION_5

from gym_code.data import tasks_directory
from gym_code.interop import export_rows, import_rows
from gym_code.suite import DirectorySuite

checks = swebench_oracle.module("swebench.task.checks")
repo = swebench_oracle.module("swebench.task.repo")
publish = swebench_oracle.module("swebench.task.publish")

STARTER = tasks_directory() / "starter"


def test_it_loads_the_same_rows_from_our_suite() -> None:
    ours = [{key: value for key, value in row.items() if key != "dockerfile"} for row in rows(STARTER)]
    assert [json.dumps(row) for row in repo.load_task_repo(STARTER)] == [json.dumps(row) for row in ours]


def rows(suite: Path) -> list[dict[str, object]]:
    return list(export_rows(DirectorySuite(suite)))


@pytest.mark.parametrize("source", ["ours", "theirs"])
def test_an_imported_suite_is_checked_and_compiled(tmp_path: Path, source: str) -> None:
    data = rows(STARTER) if source == "ours" else [VERSION_5]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in data))
    import_rows(str(tmp_path / "rows.jsonl"), tmp_path / "suite")
    assert checks.check_task_repo(tmp_path / "suite") == []
    [(dataset, by_split)] = publish.compile_datasets(tmp_path / "suite").items()
    assert dataset == ("gym-code/starter" if source == "ours" else "imported/suite")
    compiled = {row["instance_id"]: row for row in by_split["test"]}
    for row in data:
        kept = {key: value for key, value in row.items() if key not in ("split", "datasets", "dockerfile")}
        assert {key: compiled[str(row["instance_id"])][key] for key in kept} == kept
