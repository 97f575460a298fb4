"""An evaluation from end to end in the embedded sandbox: verdicts, resuming, regrading, reports."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from gym_code.evaluate.results import load_evaluation
from gym_code.evaluate.session import Request, evaluate, report_run
from gym_code.evaluate.store import read_attempts
from gym_code.task import load_suite

pytestmark = pytest.mark.sandbox

PROCEDURAL = "procedural:seed=7,count=6"
WRONG = "--- a/{0}\n+++ b/{0}\n@@ -1 +1 @@\n-no such line\n+nor this one\n"


def request(out: Path, **more: Any) -> Request:
    defaults: dict[str, Any] = {"dataset": PROCEDURAL, "sandbox": "namespace", "jobs": 2, "name": out.name}
    return Request(out=out, **defaults | more)


def predictions_file(path: Path, patches: dict[str, str | None]) -> str:
    rows = (
        {"instance_id": name, "model_name_or_path": "toy/model", "model_patch": patch}
        for name, patch in patches.items()
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_gold_resolves_and_the_rest_does_not(tmp_path: Path) -> None:
    suite = load_suite(PROCEDURAL)
    names = sorted(suite.ids())
    gold = {name: suite.answer(name).gold_patch.decode() for name in names}
    harmless = (
        "diff --git a/NOTES b/NOTES\nnew file mode 100644\n--- /dev/null\n+++ b/NOTES\n@@ -0,0 +1 @@\n+x\n"
    )
    patches = {names[0]: gold[names[0]], names[1]: "", names[2]: None, names[3]: harmless}
    patches[names[4]] = WRONG.format("setup.py")
    preds = predictions_file(tmp_path / "preds.jsonl", patches)
    found = evaluate(request(tmp_path / "run", predictions=[preds]))
    said = {each.instance_id: (each.status, each.resolved, each.applied) for each in found.results}
    assert said == {
        names[0]: ("resolved", True, True),
        names[1]: ("empty", False, False),
        names[2]: ("empty", False, False),
        names[3]: ("unresolved", False, True),
        names[4]: ("unresolved", False, False),
        names[5]: ("incomplete", False, False),
    }
    assert found.model == "toy/model"
    assert load_evaluation(tmp_path / "run") == found
    assert len(read_attempts(tmp_path / "run")) == 3


def test_a_regrade_needs_only_the_directory(tmp_path: Path) -> None:
    first = evaluate(request(tmp_path, predictions=["gold", "gold"], limit=2, timeout=60.0))
    assert [each.status for each in first.results] == ["resolved"] * 4
    assert len(read_attempts(tmp_path)) == 2, "one content, one grading"
    again = evaluate(Request(out=tmp_path, sandbox="namespace", regrade=True))
    assert [each.gradings for each in again.results] == [(True, True)] * 4
    assert [attempt.cycle for attempt in read_attempts(tmp_path)] == [1, 1, 2, 2]
    evaluate(Request(out=tmp_path, sandbox="namespace"))
    assert len(read_attempts(tmp_path)) == 4, "nothing was left to do"


def test_an_error_of_the_agent_s_endpoint_is_no_failure(tmp_path: Path) -> None:
    [name] = sorted(load_suite(PROCEDURAL).ids())[:1]
    row = {
        "instance_id": name,
        "model_name_or_path": "m",
        "model_patch": None,
        "gym": {"error": "no endpoint"},
    }
    (tmp_path / "p.jsonl").write_text(json.dumps(row) + "\n")
    [result] = evaluate(
        request(tmp_path / "run", predictions=[str(tmp_path / "p.jsonl")], instances=[name])
    ).results
    assert (result.status, result.resolved, result.reason) == ("infrastructure", None, "no endpoint")


def test_killed_five_times_it_ends_with_the_same_reports(tmp_path: Path) -> None:
    dataset = "procedural:seed=11,count=40"
    whole = tmp_path / "whole" / "run"
    evaluate(request(whole, dataset=dataset, predictions=["gold"]))
    report_run(whole)
    torn = tmp_path / "torn" / "run"
    program = str(Path(sys.executable).with_name("gym-code"))
    command = [program, "evaluate", "-d", dataset, "-p", "gold", "-j", "2", "--out", str(torn)]
    command += ["--sandbox", "namespace"]
    draw = random.Random(5)
    for kill in range(5):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until = kill * 7 + draw.randint(1, 6)
        deadline = time.monotonic() + 120
        while _lines(torn / "attempts.jsonl") < until and time.monotonic() < deadline:
            assert process.poll() is None, "it ended before it was killed"
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert _lines(torn / "attempts.jsonl") < 40
    subprocess.run(command, check=True, capture_output=True)
    assert _lines(torn / "attempts.jsonl") == 40, "nothing was graded twice"
    for name in ("gold.run.json", "report.json", "report.md"):
        assert (torn / name).read_bytes() == (whole / name).read_bytes(), name
    reports = sorted(path.relative_to(whole) for path in whole.glob("logs/**/report.json"))
    assert len(reports) == 40
    assert [(torn / path).read_bytes() for path in reports] == [
        (whole / path).read_bytes() for path in reports
    ]


def _lines(path: Path) -> int:
    return path.read_bytes().count(b"\n") if path.is_file() else 0
