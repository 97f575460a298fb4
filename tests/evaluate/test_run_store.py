"""A run's directory: attempts survive a crash, and what was altered is told with its place."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from gym_code.errors import ConfigError, InputError, RecordError
from gym_code.evaluate.cases import Graded
from gym_code.evaluate.store import ATTEMPTS, Attempt, content_key, open_run, read_attempts, read_choices

if TYPE_CHECKING:
    from pathlib import Path

    from gym_code.task import Suite

ATTEMPT = Attempt(
    key="k" * 64,
    instance_id="toy__one-1",
    cycle=1,
    grader="told 1",
    graded=Graded(resolved=False, outcomes={"t::x": "failed"}, flags=("timed_out",), reason="r", seconds=1.5),
)


def test_attempts_come_back_as_they_were(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.add(ATTEMPT)
        run.add(replace(ATTEMPT, graded=Graded(resolved=None, reason="\udcff torn \ud800")))
        kept = list(run.attempts)
    assert read_attempts(tmp_path) == kept


@pytest.mark.parametrize("cut", [1, 20, 200])
def test_a_line_cut_off_in_writing_costs_that_line_alone(tmp_path: Path, cut: int) -> None:
    with open_run(tmp_path) as run:
        run.add(ATTEMPT)
        run.add(ATTEMPT)
    file = tmp_path / ATTEMPTS
    file.write_bytes(file.read_bytes()[:-cut])
    with open_run(tmp_path) as run:
        left = len(run.attempts)
        assert left == (2 if cut == 1 else 1)
        run.add(ATTEMPT)
    assert read_attempts(tmp_path) == [ATTEMPT] * (left + 1)


def test_an_altered_line_is_an_error_with_its_place(tmp_path: Path) -> None:
    with open_run(tmp_path) as run:
        run.add(ATTEMPT)
        run.add(ATTEMPT)
    file = tmp_path / ATTEMPTS
    first, second = file.read_text().splitlines()
    file.write_text(json.dumps(json.loads(first) | {"cycle": "one"}) + "\n" + second + "\n")
    with pytest.raises(RecordError, match=r"attempts.jsonl:1: cycle: wrong value \(expected an integer"):
        read_attempts(tmp_path)


def test_two_runs_do_not_share_a_directory(tmp_path: Path) -> None:
    with open_run(tmp_path), pytest.raises(ConfigError, match="another run is at work"), open_run(tmp_path):
        pass
    with open_run(tmp_path):
        pass


def test_the_key_is_of_content(suite: Suite) -> None:
    task = suite.task(suite.ids()[0])
    other = suite.task(suite.ids()[1])
    keys = [
        content_key(task, b"a", "told", "1", None),
        content_key(task, b"b", "told", "1", None),
        content_key(task, b"a", "told", "2", None),
        content_key(task, b"a", "other", "1", None),
        content_key(task, b"a", "told", "1", 60.0),
        content_key(other, b"a", "told", "1", None),
    ]
    assert len(set(keys)) == len(keys)
    assert content_key(replace(task, id="renamed"), b"a", "told", "1", None) == keys[0]
    with pytest.raises(InputError, match="has no digest"):
        content_key(replace(task, digest=""), b"a", "told", "1", None)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"instance_id": "b", "sample": 0, "selector": "first"}, "chosen.jsonl:1: wrong instance"),
        ({"instance_id": "a", "sample": 2, "selector": "first"}, "expected a sample from 0 to 1, found 2"),
        ({"instance_id": "a", "selector": "first"}, "chosen.jsonl:1: sample: field is missing"),
        ([], "chosen.jsonl:1: not a record"),
    ],
)
def test_choices_are_checked(tmp_path: Path, row: object, said: str) -> None:
    file = tmp_path / "chosen.jsonl"
    file.write_text(json.dumps(row) + "\n")
    with pytest.raises(InputError, match=said):
        read_choices(file, {"a": 2})
