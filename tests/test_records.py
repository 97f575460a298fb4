"""Trajectory files: nothing lost, nothing invented, every error says where."""

from __future__ import annotations

import errno
import json
import os
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gym_code import records
from gym_code.errors import RecordError
from gym_code.types import (
    Completion,
    Limits,
    Outcome,
    Reward,
    Stop,
    TestReport,
    ToolCall,
    ToolResult,
    Trajectory,
    Turn,
    Verdict,
)

if TYPE_CHECKING:
    from pathlib import Path

EPISODE = Trajectory(
    task_id="calc__add-1",
    task_digest="ab" * 32,
    suite="starter",
    agent="oracle",
    seed=7,
    sampling={"temperature": 1.0, "top_p": 1},
    backend="memory",
    limits=Limits(turns=3, cost=0.5),
    turns=(
        Turn(
            messages=({"role": "user", "content": "Add. \N{SNOWMAN}"},),
            prompt_token_ids=(1, 2),
            completion=Completion(token_ids=(3, 4), logprobs=(-0.5, -1.25), text="ok", finish_reason="stop"),
            calls=(
                ToolCall(id="c1", name="bash", arguments={"command": "ls\n", "deep": [1, None, {"a": 2.5}]}),
            ),
            results=(ToolResult(call_id="c1", content="calc.py\n"),),
            state_digest="cd" * 32,
        ),
    ),
    stop=Stop.SUBMITTED,
    patch=b"--- a/x\n+++ b/x\n",
    reward=Reward(
        value=1.0,
        parts={"f2p": 1.0},
        verdict=Verdict(resolved=True, report=TestReport(outcomes={"t::a": Outcome.PASSED}, seconds=0.25)),
    ),
    timings={"seconds": 1.5},
)


def line_with(change: dict[str, Any]) -> bytes:
    return json.dumps(json.loads(records.encode(EPISODE)) | change).encode() + b"\n"


any_text = st.text(st.characters(exclude_categories=()), max_size=20)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | any_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(any_text, inner, max_size=3),
    max_leaves=8,
)
json_objects = st.dictionaries(any_text, json_values, max_size=3)
floats = st.floats(allow_nan=False)


def tuples(of: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(of, max_size=3).map(tuple)


turns = st.builds(
    Turn,
    messages=tuples(json_objects),
    prompt_token_ids=tuples(st.integers()),
    completion=st.none()
    | st.builds(Completion, token_ids=tuples(st.integers()), logprobs=tuples(floats), text=any_text),
    calls=tuples(st.builds(ToolCall, id=any_text, name=any_text, arguments=json_objects)),
    results=tuples(st.builds(ToolResult, call_id=any_text, content=any_text)),
    state_digest=any_text,
)
trajectories = st.builds(
    Trajectory,
    schema_version=st.just(1),
    task_id=any_text,
    agent=any_text,
    sampling=json_objects,
    turns=tuples(turns),
    stop=st.none() | st.sampled_from(Stop),
    patch=st.binary() | any_text.map(lambda text: text.encode("utf-8", "replace")),
    reward=st.none() | st.builds(Reward, value=st.none() | floats, parts=st.dictionaries(any_text, floats)),
    error=st.none() | any_text,
)


@given(trajectories)
def test_round_trip_is_lossless(trajectory: Trajectory) -> None:
    line = records.encode(trajectory)
    assert line.count(b"\n") == 1
    assert records.decode(line) == trajectory


@pytest.mark.parametrize(
    "text", ["a\ud83d", "\ude00b", "\ud83d\ude00", "\ud83d\ud83d\ude00\ude00", "😀", "\0\u2028"]
)
def test_surrogates_stay_apart(text: str) -> None:
    assert records.decode(records.encode(replace(EPISODE, error=text))).error == text


def test_a_lone_surrogate_leaves_the_line_valid_utf8() -> None:
    line = records.encode(replace(EPISODE, error="\ud83d"))
    assert rb'"error":"\ud83d"' in line
    line.decode("utf-8", "strict")


def test_bytes_are_text_where_they_can_be_and_base64_elsewhere() -> None:
    assert json.loads(records.encode(EPISODE))["patch"] == {"text": "--- a/x\n+++ b/x\n"}
    latin = replace(EPISODE, patch=b"+caf\xe9\n")
    assert json.loads(records.encode(latin))["patch"] == {"base64": "K2NhZukK"}
    assert records.decode(records.encode(latin)) == latin


def test_append_and_read(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.jsonl"
    second = replace(EPISODE, seed=8)
    records.append(path, EPISODE)
    records.append(path, second, EPISODE)
    assert records.read(path) == records.Reading(trajectories=(EPISODE, second, EPISODE), torn=None)


def test_a_torn_tail_loses_nothing_before_it_wherever_it_is_torn(tmp_path: Path) -> None:
    first, second = records.encode(EPISODE), records.encode(replace(EPISODE, seed=8))
    path = tmp_path / "a.jsonl"
    for kept in range(1, len(second) - 1):
        path.write_bytes(first + second[:kept])
        reading = records.read(path)
        assert reading.trajectories == (EPISODE,)
        assert (
            reading.torn == f"{path}:2: the last line was cut off in writing: its {kept} bytes were left out"
        )
    records.append(path, replace(EPISODE, seed=9))
    assert [t.seed for t in records.read(path).trajectories] == [7, 9]
    assert records.read(path).torn is None


def test_a_last_line_that_lacks_only_its_newline_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(records.encode(EPISODE).rstrip(b"\n"))
    assert records.read(path) == records.Reading(trajectories=(EPISODE,), torn=None)
    records.append(path, replace(EPISODE, seed=8))
    assert [t.seed for t in records.read(path).trajectories] == [7, 8]


def test_a_torn_tail_longer_than_one_read_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(records.encode(EPISODE) + b'{"schema_version":1,"error":"' + b"x" * 200_000)
    records.append(path, replace(EPISODE, seed=8))
    assert [t.seed for t in records.read(path).trajectories] == [7, 8]


def test_a_full_disk_leaves_whole_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    records.append(path, EPISODE)
    before, write, calls = path.read_bytes(), os.write, []

    def half_then_full(descriptor: int, data: memoryview) -> int:
        calls.append(len(data))
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data[: len(data) // 2])

    monkeypatch.setattr(os, "write", half_then_full)
    with pytest.raises(OSError, match="No space left"):
        records.append(path, EPISODE)
    assert len(calls) == 2
    assert path.read_bytes() == before


def test_writers_side_by_side_do_not_mix_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    big = replace(EPISODE, error="x" * 100_000)

    def write(seed: int) -> None:
        for _ in range(5):
            records.append(path, replace(big, seed=seed))

    threads = [threading.Thread(target=write, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(t.seed for t in records.read(path).trajectories) == sorted([0, 1, 2, 3] * 5)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            b"{\n",
            "FILE:2: not JSON (expected a JSON object, found Expecting property name",
        ),
        (b'"caf\xe9"\n', "FILE:2: not UTF-8 (expected UTF-8 text, found byte 0xe9 at offset 4)"),
        (b"[1]\n", "FILE:2: not a record (expected a JSON object, found [1])"),
        (
            line_with({"schema_version": 2}),
            "FILE:2: schema_version: this gym-code cannot read records of that schema version",
        ),
        (b"{}\n", "FILE:2: schema_version: this gym-code cannot read records of that schema version"),
        (line_with({"seed": "7"}), 'FILE:2: seed: wrong value (expected an integer, found "7")'),
        (line_with({"seed": True}), "FILE:2: seed: wrong value (expected an integer, found true)"),
        (
            line_with({"limits": {"turns": None}}),
            "FILE:2: limits.turns: wrong value (expected an integer, found null)",
        ),
        (
            line_with({"limits": {"exec_seconds": float("nan")}}),
            "FILE:2: limits.exec_seconds: wrong value (expected a number from 0 to 1e+09, found NaN)",
        ),
        (
            line_with({"limits": {"output_bytes": -5}}),
            "FILE:2: limits.output_bytes: wrong value (expected a number from 0 to 9.22337e+18, found -5)",
        ),
        (
            line_with({"limits": {"memory_bytes": 10**30}}),
            "FILE:2: limits.memory_bytes: wrong value (expected a number from 0 to 9.22337e+18, found 1000",
        ),
        (
            line_with({"limits": {"tuns": 3}}),
            "FILE:2: limits.tuns: unknown field (expected one of turns, tokens,",
        ),
        (
            line_with(
                {"turns": [{"calls": [{"id": "a", "name": "x", "arguments": {}}, {"id": "b", "name": 3}]}]}
            ),
            "FILE:2: turns[0].calls[1].arguments: field is missing (expected Mapping",
        ),
        (
            line_with({"turns": [{"calls": [{"id": "b", "name": 3, "arguments": {}}]}]}),
            "FILE:2: turns[0].calls[0].name: wrong value (expected a string, found 3)",
        ),
        (line_with({"stop": "bored"}), "FILE:2: stop: wrong value (expected one of submitted, turn limit,"),
        (line_with({"patch": {"base64": "?"}}), "FILE:2: patch: wrong value (expected base64 text, found"),
        (line_with({"patch": "x"}), 'FILE:2: patch: wrong value (expected an object, found "x")'),
        (
            line_with({"reward": {"value": 1, "verdict": {"resolved": 1, "report": {"outcomes": {}}}}}),
            "FILE:2: reward.verdict.resolved: wrong value (expected true or false, found 1)",
        ),
        (
            line_with({"reward": {"value": 10**400}}),
            "FILE:2: reward.value: wrong value (expected a number, found",
        ),
    ],
)
def test_an_error_in_the_middle_names_file_line_field_expected_found(
    tmp_path: Path, line: bytes, message: str
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(records.encode(EPISODE) + line + records.encode(EPISODE))
    with pytest.raises(RecordError) as caught:
        records.read(path)
    assert str(caught.value).replace(str(path), "FILE").startswith(message)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="No such file or directory"):
        records.read(tmp_path / "none.jsonl")
