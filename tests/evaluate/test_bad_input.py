"""What is wrong with data sets and predictions is told with its place; nothing is graded, nothing lost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gym_code.cli import main
from gym_code.evaluate.store import ATTEMPTS

SUITE = "procedural:seed=7,count=6"
GOOD = {"instance_id": "", "model_name_or_path": "m", "model_patch": ""}
ROW = {
    "instance_id": "toy__one-1", "repo": "toy/one", "base_commit": "0" * 40, "version": "1",
    "patch": "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-x\n+y\n",
    "test_patch": "", "problem_statement": "Mend it.", "FAIL_TO_PASS": ["t.py::a"], "PASS_TO_PASS": [],
}  # fmt: skip


def run(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capfd.readouterr()
    with pytest.raises(SystemExit) as ended:
        main(["evaluate", *arguments])
    return int(ended.value.code or 0), capfd.readouterr().err


def first_id() -> str:
    from gym_code.task import load_suite

    return sorted(load_suite(SUITE).ids())[0]


def lines(*rows: dict[str, Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def with_id(**more: Any) -> dict[str, Any]:
    return GOOD | {"instance_id": first_id()} | more


PREDICTIONS = {
    "unknown instance": (
        lambda: lines(with_id(), with_id(instance_id=first_id() + "x")),
        ["preds.jsonl:2: instance_id", "one of the 6 ids", f"nearest: '{first_id()}'"],
    ),
    "duplicate": (
        lambda: lines(with_id(), with_id(model_patch=None)),
        ["preds.jsonl:2: instance_id", "one prediction for an instance (first: line 1)"],
    ),
    "no diff": (
        lambda: lines(with_id(model_patch="I could not do it, sorry.")),
        ["preds.jsonl:1: model_patch", "expected a diff", "I could not do it"],
    ),
    "50 MB": (
        lambda: lines(with_id(model_patch="diff --git a/a b/a\n" + "+x\n" * 17_000_000)),
        ["preds.jsonl:1:", "at most", "bytes"],
    ),
    "cut in the middle": (
        lambda: lines(with_id(), with_id())[:-30],
        ["preds.jsonl:2:", "a prediction of JSON"],
    ),
    "wrong schema": (
        lambda: lines({"instance_id": first_id(), "model_patch": 7}),
        [
            "preds.jsonl:1: model_name_or_path: expected text, found nothing",
            "model_patch: expected a diff as text",
        ],
    ),
}


@pytest.mark.parametrize("case", PREDICTIONS)
def test_predictions(tmp_path: Path, capfd: pytest.CaptureFixture[str], case: str) -> None:
    content, said = PREDICTIONS[case]
    (tmp_path / "preds.jsonl").write_text(content())
    status, err = run(
        capfd,
        "-d",
        SUITE,
        "-p",
        str(tmp_path / "preds.jsonl"),
        "--out",
        str(tmp_path / "run"),
        "--sandbox",
        "memory",
    )
    assert status == 2
    assert [part for part in said if part not in err] == [], err
    assert not (tmp_path / "run" / ATTEMPTS).exists(), "nothing was graded"
    assert not (tmp_path / "run" / "run.json").exists(), "nothing half-written stays"


DATASETS = {
    "no FAIL_TO_PASS": (
        lines(
            ROW,
            {key: value for key, value in ROW.items() if key != "FAIL_TO_PASS"}
            | {"instance_id": "toy__two-2"},
        ),
        ["data.jsonl:2: FAIL_TO_PASS", "a list of tests", "no such key"],
    ),
    "cut in the middle": (lines(ROW, ROW)[:-40], ["data.jsonl:2:", "a row of JSON"]),
    "wrong schema": (
        lines(ROW | {"patch": 5, "instance_id": "../../etc"}),
        ["data.jsonl:1: instance_id", "data.jsonl:1: patch: expected text, found a number"],
    ),
    "one id twice": (lines(ROW, ROW), ["data.jsonl:2: instance_id", "ids once (first:"]),
    "nothing": ("", ["no rows"]),
}


@pytest.mark.parametrize("case", DATASETS)
def test_data_sets(tmp_path: Path, capfd: pytest.CaptureFixture[str], case: str) -> None:
    content, said = DATASETS[case]
    (tmp_path / "data.jsonl").write_text(content)
    out = tmp_path / "run"
    status, err = run(capfd, "-d", str(tmp_path / "data.jsonl"), "-p", "gold", "--out", str(out))
    assert status == 2
    assert [part for part in said if part not in err] == [], err
    assert [path.name for path in out.iterdir()] == [".lock"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("-d", SUITE), "nothing to grade"),
        (("-d", SUITE, "-p", "gold", "--agent", "noop"), "one of --predictions, --agent and --model"),
        (
            ("-d", SUITE, "-p", "gold", "--grader", "none"),
            "no such grader (expected auto | clean-box | official",
        ),
        (("-d", SUITE, "-p", "gold", "-i", "nobody"), "--instance: no such instance (expected one of 6 ids"),
        (("-d", "nowhere.jsonl", "-p", "gold"), "no such data set"),
        (("-d", SUITE, "-p", "nowhere.jsonl"), "no predictions"),
        (("--out", "empty"), "no data set"),
    ],
)
def test_options(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    status, err = run(capfd, *arguments, *(() if "--out" in arguments else ("--sandbox", "memory")))
    assert (status, said in err) == (2, True), err


def test_predictions_of_another_data_set_are_not_taken_for_none(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "run")
    (tmp_path / "preds.jsonl").write_text(lines(with_id()))
    assert (
        run(capfd, "-d", SUITE, "-p", str(tmp_path / "preds.jsonl"), "--out", out, "--sandbox", "memory")[0]
        == 0
    )
    status, err = run(capfd, "-d", "starter", "--out", out, "--sandbox", "memory")
    assert (status, "predictions-0.jsonl:1: instance_id" in err) == (2, True), err


def test_a_file_that_is_mended_is_graded_whole(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """After an error nothing is lost: the same command with the mended file does the rest."""
    preds, out = tmp_path / "preds.jsonl", tmp_path / "run"
    arguments = ("-d", SUITE, "-p", str(preds), "--out", str(out), "--sandbox", "memory")
    preds.write_text(lines(with_id(), with_id()))
    assert run(capfd, *arguments)[0] == 2
    preds.write_text(lines(with_id()))
    assert run(capfd, *arguments)[0] == 0
    assert json.loads((out / "report.json").read_text())["counts"]["empty"] == 1
