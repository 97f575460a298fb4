"""SWE-bench's logs and run reports of ours, read by SWE-bench."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import swebench_oracle
from family_rows import VERSION_5
from hypothesis import event, example, given
from hypothesis import strategies as st

from benchmarks.evaluation.official import LISTS
from gym_code.evaluate.results import Evaluation, Result
from gym_code.evaluate.swebench_logs import write_swebench_logs
from gym_code.interop import import_rows, reports, verdicts
from gym_code.interop.reports import FORMS, Grading
from gym_code.suite import DirectorySuite
from gym_code.types import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

reporting = swebench_oracle.module("swebench.harness.reporting")
theirs = swebench_oracle.module("swebench.harness.grading")
utils = swebench_oracle.module("swebench.harness.utils")

NEW, OLD = ("tests/test_a.py::test_new", "tests/test_a.py::test_more"), ("tests/test_a.py::test_old",)
PATCH = b"diff --git a/a b/a\n--- a/a\n+++ b/a\n@@ -1 +1 @@\n-x\n+y\n"
PASSED = dict.fromkeys((*NEW, *OLD), "passed")


def result(instance_id: str, **changes: Any) -> Result:
    values: dict[str, Any] = {
        "model": "acme/gpt",
        "patch": PATCH,
        "status": "resolved",
        "resolved": True,
        "applied": True,
        "outcomes": PASSED,
        "fail_to_pass": NEW,
        "pass_to_pass": OLD,
        "grader": "clean-box 4 namespace",
    }
    return Result(instance_id=instance_id, **{**values, **changes})


FAILED = {"status": "unresolved", "resolved": False}
RESULTS = {
    "toy__a-1": result("toy__a-1"),
    "toy__a-2": result("toy__a-2", **FAILED, outcomes={**PASSED, NEW[0]: "failed"}),
    "toy__a-3": result("toy__a-3", **FAILED, outcomes={**PASSED, OLD[0]: "missing"}),
    "toy__a-4": result("toy__a-4", **FAILED, applied=False, outcomes={}, reason="hunk 1 does not apply"),
    "toy__a-5": result("toy__a-5", **FAILED, outcomes={}, flags=("timed-out",), seconds=60.2),
    "toy__a-6": result("toy__a-6", **FAILED, outcomes=dict.fromkeys(PASSED, "missing"), flags=("crashed",)),
    "toy__a-7": result(
        "toy__a-7", status="infrastructure", resolved=None, applied=False, outcomes={}, reason="no space left"
    ),
    "toy__a-8": result("toy__a-8", patch=None, status="empty", resolved=False, applied=False, outcomes={}),
    "toy__a-9": result("toy__a-9", patch=b"", status="empty", resolved=False, applied=False, outcomes={}),
    "toy__b-1": result("toy__b-1", patch=None, status="incomplete", resolved=False, outcomes={}),
    "toy__b-2": result("toy__b-2", status="incomplete", resolved=None, applied=False, outcomes={}),
    "toy__b-3": result("toy__b-3", outcomes={**PASSED, NEW[1]: "xfailed"}),
    "toy__b-4": result("toy__b-4", **FAILED, outcomes={**PASSED, NEW[1]: "error", OLD[0]: "skipped"}),
    "toy__b-5": result("toy__b-5", **FAILED, outcomes={**PASSED, NEW[1]: "duplicated"}),
    "toy__b-6": result("toy__b-6", patch=b"\n", status="empty", resolved=False, applied=False, outcomes={}),
    "toy__b-7": result("toy__b-7", **FAILED, flags=("runner-tampered",)),
}  # fmt: skip


def row(name: str) -> dict[str, Any]:
    columns = {"FAIL_TO_PASS": list(NEW), "PASS_TO_PASS": list(OLD), "log_parser": "parse_log_pytest"}
    return {**VERSION_5, "instance_id": name, "repo": "toy/a", "image": "gym-code-test/none:1", **columns}


@pytest.fixture
def run(tmp_path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A run's directory with SWE-bench's logs, the directory to be in for SWE-bench, and its run report."""
    rows = [row(name) for name in RESULTS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    import_rows(str(tmp_path / "rows.jsonl"), tmp_path / "suite")
    evaluation = Evaluation(
        name="night",
        model="acme/gpt",
        dataset="rows",
        dataset_digest="0",
        samples=1,
        results=tuple(RESULTS.values()),
    )
    before = Path.cwd()
    [path] = write_swebench_logs(evaluation, DirectorySuite(tmp_path / "suite"), tmp_path)
    assert path == tmp_path / "acme__gpt.night.json"
    os.chdir(tmp_path)
    yield tmp_path, json.loads(path.read_text())
    os.chdir(before)


def predictions() -> dict[str, dict[str, Any]]:
    submitted = {name: each for name, each in RESULTS.items() if name != "toy__b-1"}
    return {
        name: {
            "instance_id": name,
            "model_name_or_path": each.model,
            "model_patch": None if each.patch is None else each.patch.decode(),
        }
        for name, each in submitted.items()
    }


def test_swebench_makes_the_same_run_report_of_our_logs(run: tuple[Path, dict[str, Any]]) -> None:
    folder, ours = run
    path = reporting.make_run_report(predictions(), [row(name) for name in RESULTS], "night", None, "theirs")
    made = json.loads((folder / path).read_text())
    extra = {"unstopped_instances": 0, "unstopped_containers": [], "unremoved_images": []}
    assert ours == {**made, **extra}
    assert path.name == "acme__gpt.night.json"
    assert ours["resolved_ids"] == ["toy__a-1", "toy__b-3"]
    assert ours["error_ids"] == ["toy__a-4", "toy__a-5", "toy__a-7", "toy__b-2", "toy__b-6"]
    assert ours["empty_patch_ids"] == ["toy__a-8", "toy__a-9"]
    assert ours["incomplete_ids"] == ["toy__b-1"]
    assert ours["infra_failure_ids"] == ["toy__a-7", "toy__b-2"]
    assert ours["ambiguous_failure_ids"] == ["toy__a-5"]
    assert ours["failure_reasons"]["toy__a-5"] == "tests_timed_out"


def test_without_the_package_our_own_logs_are_classified_the_same(
    run: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, ours = run
    monkeypatch.setitem(sys.modules, "swebench.harness.infra_failure", None)
    evaluation = Evaluation(
        name="night", model="acme/gpt", dataset="rows", dataset_digest="0", samples=1,
        results=tuple(RESULTS.values()),
    )  # fmt: skip
    [path] = write_swebench_logs(evaluation, DirectorySuite(folder / "suite"), folder)
    assert json.loads(path.read_text()) == ours


def test_swebench_grades_our_logs_to_our_reports(run: tuple[Path, dict[str, Any]]) -> None:
    folder, ours = run
    seen = 0
    for name in (*ours["resolved_ids"], *ours["unresolved_ids"]):
        logs = folder / "logs/run_evaluation/night/acme__gpt" / name
        assert sorted(path.name for path in logs.iterdir()) == [
            "patch.diff", "report.json", "run_instance.log", "test_output.txt",
        ]  # fmt: skip
        report = theirs.get_eval_report(
            utils.make_test_spec(row(name)), predictions()[name], logs / "test_output.txt", True
        )
        report[name].pop("infra_failure_reason", None)
        assert json.loads((logs / "report.json").read_text()) == report, name
        assert report[name]["resolved"] is RESULTS[name].resolved
        seen += 1
    assert seen == 8


def test_a_second_writing_leaves_nothing_of_the_first(run: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = run
    evaluation = Evaluation(
        name="night", model="acme/gpt", dataset="rows", dataset_digest="0", samples=1,
        results=(RESULTS["toy__a-4"],),
    )  # fmt: skip
    write_swebench_logs(evaluation, DirectorySuite(folder / "suite"), folder)
    assert [path.name for path in (folder / "logs/run_evaluation/night/acme__gpt").iterdir()] == ["toy__a-4"]
    assert [path.name for path in (folder / "logs").iterdir()] == ["run_evaluation"]


def test_samples_are_runs_of_their_own_and_no_name_leads_out(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row("toy__a-1")) + "\n")
    import_rows(str(tmp_path / "rows.jsonl"), tmp_path / "suite")
    pair = (result("toy__a-1", model=".."), result("toy__a-1", model="../../x", sample=1))
    evaluation = Evaluation(name="n", model="..", dataset="rows", dataset_digest="0", samples=2, results=pair)
    paths = write_swebench_logs(evaluation, DirectorySuite(tmp_path / "suite"), tmp_path)
    assert [path.name for path in paths] == ["_...n.json", "..__..__x.n-1.json"]
    logs = tmp_path / "logs/run_evaluation"
    assert (logs / "n/_../toy__a-1/report.json").is_file()
    assert (logs / "n-1/..__..__x/toy__a-1/report.json").is_file()


@pytest.mark.parametrize("model", ["\U0001f600" * 100, "a\ud800b", "x" * 500, "a\0b"])
def test_any_model_has_a_name_that_a_file_can_have(tmp_path: Path, model: str) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row("toy__a-1")) + "\n")
    import_rows(str(tmp_path / "rows.jsonl"), tmp_path / "suite")
    evaluation = Evaluation(
        name="n" * 300, model=model, dataset="rows", dataset_digest="0", samples=2,
        results=(
            result("toy__a-1", model=model, reason="\ud800"),
            result("toy__a-1", model=model, sample=1),
        ),
    )  # fmt: skip
    path, other = write_swebench_logs(evaluation, DirectorySuite(tmp_path / "suite"), tmp_path)
    assert json.loads(path.read_text())["resolved_ids"] == ["toy__a-1"]
    assert len(other.name.encode()) <= 255
    assert len(list((tmp_path / "logs/run_evaluation").glob("*/*/toy__a-1/report.json"))) == 2


def test_fewer_samples_and_another_model_leave_nothing_of_the_run_before(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row("toy__a-1")) + "\n")
    import_rows(str(tmp_path / "rows.jsonl"), tmp_path / "suite")
    for name in ("keep.json", "m.nn.json", "m.n-x.json"):
        (tmp_path / name).write_text("{}")
    for model, samples in (("m", 2), ("other", 1)):
        found = tuple(result("toy__a-1", model=model, sample=sample) for sample in range(samples))
        evaluation = Evaluation(
            name="n", model=model, dataset="rows", dataset_digest="0", samples=samples, results=found
        )
        write_swebench_logs(evaluation, DirectorySuite(tmp_path / "suite"), tmp_path)
    left = {path.name for path in tmp_path.glob("*.json")}
    assert left == {"keep.json", "m.nn.json", "m.n-x.json", "other.n.json"}
    assert [path.name for path in (tmp_path / "logs/run_evaluation").iterdir()] == ["n"]


def test_logs_of_the_official_grader_are_taken_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps(row("toy__a-1")) + "\n")
    import_rows(str(tmp_path / "rows.jsonl"), tmp_path / "suite")
    for number, (patch, resolved) in enumerate(((b"other", True), (PATCH, False), (PATCH, True))):
        kept = tmp_path / f"attempts/toy__a-1/key-{number}"
        kept.mkdir(parents=True)
        (kept / "patch.diff").write_bytes(patch)
        (kept / "test_output.txt").write_text(f"log {number}")
        (kept / "report.json").write_text(json.dumps({"toy__a-1": {"resolved": resolved}}))
    evaluation = Evaluation(
        name="n", model="m", dataset="rows", dataset_digest="0", samples=1,
        results=(result("toy__a-1", grader="official 5.0.2", model="m"),),
    )  # fmt: skip
    write_swebench_logs(evaluation, DirectorySuite(tmp_path / "suite"), tmp_path)
    assert (tmp_path / "logs/run_evaluation/n/m/toy__a-1/test_output.txt").read_text() == "log 2"


@pytest.mark.docker
def test_swebench_report_goes_on_from_a_gold_run_of_ours(tmp_path: Path) -> None:
    rows = [row("toy__a-1"), row("toy__a-2")]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    import_rows(str(tmp_path / "rows.jsonl"), tmp_path / "suite")
    gold = VERSION_5["patch"].encode()
    results = tuple(replace(RESULTS[name], model="gold", patch=gold) for name in ("toy__a-1", "toy__a-2"))
    evaluation = Evaluation(
        name="golden", model="gold", dataset="rows", dataset_digest="0", samples=1, results=results
    )
    [ours] = write_swebench_logs(evaluation, DirectorySuite(tmp_path / "suite"), tmp_path)
    before = json.loads(ours.read_text())
    program = f"{LISTS}\nfrom swebench.cli.cli import main\nmain()"
    command = [sys.executable, "-c", program, "report", "golden", "-d", "rows.jsonl", "--report-dir", "again"]
    ran = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    again = json.loads((tmp_path / "again/gold.golden.json").read_text())
    assert again == before
    assert again["resolved_ids"] == ["toy__a-1"]


RUNNERS = {"parse_log_django": "django", "parse_log_sympy": "sympy"}
NAMES = st.one_of(
    st.text(max_size=12).filter(lambda text: "\n" not in text),
    st.from_regex(r"\Atests/test_[ab]\.py::test_[a-c](\[[a-z0-9 /.*m\[\]-]{0,8}\]?)?\Z"),
    st.from_regex(r"\Atest_[a-z_]{1,8}( \([a-z.A-Z]{1,9}\))?\Z"),
    st.sampled_from(
        ["ok then", "FAIL: x", "a ... b", "test_x[1m]", "t[x - y]", "t[MouseButton.LEFT]", "[100%]"]
    ),
)
OUTCOMES = st.sampled_from(
    ["passed", "failed", "error", "skipped", "xfailed", "xpassed", "missing", "duplicated"]
)


@given(
    st.sampled_from(sorted(FORMS)),
    st.dictionaries(NAMES, OUTCOMES, min_size=1, max_size=5),
    st.booleans(),
)
@example("parse_log_pytest", {"tests/a.py::test_x": "passed"}, True)
def test_what_is_written_for_a_parser_is_what_it_reads(
    tmp_path_factory: pytest.TempPathFactory, parser: str, outcomes: dict[str, str], believed: bool
) -> None:
    tests = Answer(
        task_id="toy__a-1",
        fail_to_pass=tuple(outcomes)[::2],
        pass_to_pass=tuple(outcomes)[1::2],
        gold_patch=b"",
        test_patch=b"",
    )
    status = verdicts.tests_status(tests, outcomes, runner=RUNNERS.get(parser, "pytest"))
    grading = Grading(
        instance_id="toy__a-1",
        patch=PATCH,
        resolved=believed and verdicts.is_resolved(status),
        status=status,
        outcomes=outcomes,
        log_parser=parser,
    )
    files = reports.files_of(grading)
    log = tmp_path_factory.getbasetemp() / "test_output.txt"
    log.write_bytes(files["test_output.txt"])
    if b"cannot read the names of" in files["test_output.txt"].split(b"\n")[0]:
        event("unreadable")
        return
    columns = {"FAIL_TO_PASS": tests.fail_to_pass, "PASS_TO_PASS": tests.pass_to_pass, "log_parser": parser}
    spec = utils.make_test_spec({**row("toy__a-1"), **columns})
    made = theirs.get_eval_report(spec, {"instance_id": "toy__a-1", "model_patch": "x"}, log, True)
    made["toy__a-1"].pop("infra_failure_reason", None)
    assert json.loads(json.dumps(made)) == json.loads(files["report.json"])


def test_a_name_that_a_parser_cannot_read_is_said_in_the_first_line() -> None:
    outcomes = {"tests/a.py::test_x[a b]": "passed", "tests/a.py::test_y": "passed"}
    tests = Answer(task_id="t", fail_to_pass=tuple(outcomes), pass_to_pass=(), gold_patch=b"", test_patch=b"")
    status = verdicts.tests_status(tests, outcomes, runner="pytest")
    grading = Grading(instance_id="t", patch=PATCH, resolved=True, status=status, outcomes=outcomes)
    lines = reports.test_output(grading).splitlines()
    assert lines[0].endswith("; parse_log_pytest cannot read the names of 1 tests")
    assert lines[2:] == [
        "PASSED tests/a.py::test_y",
        "+ : '>>>>> End Test Output'",
        ">>>>> Test Exit Code: 0",
    ]
    assert reports.report_of(grading)["resolved"] is True


def test_every_python_parser_of_swebench_has_a_form() -> None:
    python = swebench_oracle.module("swebench.harness.log_parsers.python")
    registry = swebench_oracle.module("swebench.harness.log_parsers").PARSER_REGISTRY
    assert {name for name, parser in registry.items() if parser.__module__ == python.__name__} == set(FORMS)
