"""Scripts: what they do is written down in full."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from agents.policy import Decision, load_policy
from agents.scripted import NoOp, Oracle, Random, Replay, smallest_edit
from gym_code import records
from gym_code.errors import ConfigError, RecordError
from gym_code.tools import TOOLS, check_call, openai_tools
from gym_code.types import Answer, Completion, File, StartTree, Task, ToolCall, Trajectory, Turn, tree_digest
from tests.toys import ToySuite

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agents.policy import Policy

TOYS = ToySuite()


def script(policy: Policy, task: Task, seed: int = 0) -> list[list[tuple[str, Mapping[str, Any]]]]:
    """Names and arguments of all calls, decision by decision, until the script is spent."""
    policy.begin(task, openai_tools(), seed)
    decisions = []
    while (decision := policy.decide(())) != Decision():
        decisions.append([(call.name, call.arguments) for call in decision.calls])
    return decisions


class OneTask(ToySuite):
    """A suite of one task, from files and a patch."""

    def __init__(self, files: Mapping[str, File], gold: bytes) -> None:
        super().__init__()
        self._files, self._gold = files, gold

    def start(self, task_id: str) -> StartTree:
        return StartTree(digest=tree_digest(self._files), files=lambda: self._files)

    def answer(self, task_id: str) -> Answer:
        return replace(super().answer(task_id), gold_patch=self._gold)


def test_noop_submits() -> None:
    assert script(NoOp(), TOYS.task("toy__add-1")) == [[("submit", {})]]


def test_oracle_edits_what_is_there_and_writes_what_is_not() -> None:
    # One line differs; with the lines around it, until the piece stands once in the file.
    old, new = "def add(a, b):\n    return a - b\n\n", "def add(a, b):\n    return a + b\n\n"
    assert script(Oracle(suite=TOYS), TOYS.task("toy__add-1")) == [
        [("edit", {"path": "calc.py", "old": old, "new": new})],
        [("submit", {})],
    ]
    assert script(Oracle(suite=TOYS), TOYS.task("toy__new-1")) == [
        [("write", {"path": "shape.py", "content": "def area(width, height):\n    return width * height\n"})],
        [("submit", {})],
    ]


def test_oracle_deletes_links_modes_and_bytes_go_through_bash() -> None:
    files = {"old.py": File(content=b"x\n"), "run.sh": File(content=b"#!/bin/sh\n")}
    gold = (
        b"diff --git a/old.py b/old.py\ndeleted file mode 100644\n--- a/old.py\n+++ /dev/null\n"
        b"@@ -1 +0,0 @@\n-x\n"
        b"diff --git a/run.sh b/run.sh\nold mode 100644\nnew mode 100755\n"
        b"diff --git a/it's b/it's\nnew file mode 120000\n--- /dev/null\n+++ b/it's\n@@ -0,0 +1 @@\n+run.sh\n"
        b"\\ No newline at end of file\n"
        b"diff --git a/d/latin b/d/latin\nnew file mode 100644\n--- /dev/null\n+++ b/d/latin\n"
        b"@@ -0,0 +1 @@\n+\xe9\n"
    )
    suite = OneTask(files, gold)
    [changes, _] = script(Oracle(suite=suite), suite.task("toy__add-1"))
    assert changes == [
        ("bash", {"command": "rm -f -- old.py"}),
        ("bash", {"command": "chmod +x -- run.sh"}),
        ("bash", {"command": """ln -sfn -- run.sh 'it'"'"'s'"""}),
        ("bash", {"command": "mkdir -p -- d && : > d/latin"}),
        ("bash", {"command": "printf %s 6Qo= | base64 -d >> d/latin"}),
    ]


texts = st.text("ab\n\r", max_size=14)


@given(texts, texts)
@example("\na", "")
@example("a\na\na\n", "a\na\nb\n")
def test_smallest_edit_is_unique_and_right(before: str, after: str) -> None:
    found = smallest_edit(before, after)
    if found is not None and before != after:
        assert before.find(found[0]) == before.rfind(found[0]) >= 0
        assert before.replace(*found) == after


def test_smallest_edit_takes_only_the_lines_that_differ() -> None:
    assert smallest_edit("a\nb\nc\n", "a\nx\nc\n") == ("b\n", "x\n")
    assert smallest_edit("a\nb\n", "c\nd\n") is None


def test_random_calls_fit_the_schemas_and_follow_the_seed() -> None:
    task = TOYS.task("toy__add-1")
    calls = script(Random(turns=40), task, seed=1)
    assert len(calls) == 41
    assert calls[-1] == [("submit", {})]
    for [(name, arguments)] in calls:
        assert check_call(ToolCall(id="x", name=name, arguments=arguments), TOOLS).name == name
    assert {name for [(name, _)] in calls} == set(TOOLS)
    assert script(Random(turns=40), task, seed=1) == calls
    assert script(Random(turns=40), task, seed=2) != calls


RECORD = Trajectory(
    task_id="toy__add-1",
    task_digest="",
    turns=(
        Turn(
            completion=Completion(token_ids=(7,), logprobs=(-1.0,), text="hm", finish_reason="stop"),
            prompt_token_ids=(1, 2),
            calls=(ToolCall(id="a", name="view", arguments={"path": "."}),),
        ),
        Turn(calls=(ToolCall(id="b", name="submit", arguments={}),)),
    ),
)


def test_replay_plays_what_was_recorded(tmp_path: Path) -> None:
    records.append(tmp_path / "a.jsonl", replace(RECORD, turns=()), RECORD)
    policy = load_policy("replay", {"file": str(tmp_path / "a.jsonl"), "index": -1})
    policy.begin(TOYS.task("toy__add-1"), (), 0)
    first, second, third = (policy.decide(()) for _ in range(3))
    assert (first.text, first.prompt_token_ids, first.completion) == (
        "hm",
        (1, 2),
        RECORD.turns[0].completion,
    )
    assert [first.calls, second.calls] == [turn.calls for turn in RECORD.turns]
    assert third == Decision()


def test_replay_refuses_another_task_and_a_record_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected toy__new-1, found toy__add-1"):
        Replay(trajectory=RECORD).begin(TOYS.task("toy__new-1"), (), 0)
    records.append(tmp_path / "a.jsonl", RECORD)
    with pytest.raises(ConfigError, match="expected an index below 1, found 1"):
        Replay(file=str(tmp_path / "a.jsonl"), index=1)
    with pytest.raises(RecordError, match="No such file"):
        Replay(file=str(tmp_path / "b.jsonl"))


def test_only_the_oracle_is_handed_the_answers() -> None:
    assert load_policy("oracle", suite=TOYS).name == "oracle"
    with pytest.raises(ConfigError, match="unexpected keyword argument 'suite'"):
        load_policy("noop", {"suite": TOYS})
    assert load_policy("noop", suite=TOYS).name == "noop"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "nobody",
            r"agent: no such agent \(expected llm, noop, oracle, random, replay or module:Class, found",
        ),
        ("agents.nothing:X", r"agents.nothing:X: agent cannot be loaded .* No module named 'agents.nothing'"),
        ("agents.scripted:Missing", "agent cannot be loaded"),
        ("pathlib:Path", r"pathlib:Path: not a policy \(expected name, sampling, begin, decide"),
    ],
)
def test_agents_that_cannot_be_had(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_policy(name)
