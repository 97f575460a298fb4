"""What SWE-bench's harness writes of a run (5.0.2), written of ours, so that its tools go on from there.

    logs/run_evaluation/RUN_ID/MODEL/INSTANCE/{patch.diff, run_instance.log, test_output.txt, report.json}
    MODEL.RUN_ID.json                              the run report, schema 2

Our grader reads no console. `test_output.txt` is therefore written from the outcomes, in the form that the
instance's log parser reads: its own grading of that file comes to our report. As in its own runs there is
no report.json where the patch does not apply, where the tests did not end in time, and where there is no
verdict; the run report counts those as errors.

What a parser cannot read cannot be written for it: names with spaces in pytest's summary, and the like. The
first line of test_output.txt then says how many tests that concerns, and only report.json holds the verdict.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from gym_code.interop.verdicts import FAIL_TO_PASS, PASS_TO_PASS, Status, is_resolved
from gym_code.types import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

START, END, CODE = ">>>>> Start Test Output", ">>>>> End Test Output", ">>>>> Test Exit Code"
SCHEMA_VERSION = 2
ENVIRONMENT, AMBIGUOUS = "environment", "ambiguous"
"""How sure SWE-bench is that a failure is the infrastructure's."""

_WORDS = {
    Outcome.PASSED: "PASSED", Outcome.FAILED: "FAILED", Outcome.ERROR: "ERROR",
    Outcome.SKIPPED: "SKIPPED", Outcome.XFAILED: "XFAIL",
}  # fmt: skip
_FAILURES = frozenset({Outcome.FAILED, Outcome.ERROR, Outcome.DUPLICATED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Grading:
    """One instance of a run: what was submitted for it, and what came of it."""

    instance_id: str
    submitted: bool = True
    """Whether there is a prediction."""
    patch: bytes | None = None
    """None: the prediction has none; b"": it changed nothing."""
    resolved: bool | None = None
    """None: no verdict."""
    applied: bool = True
    timed_out: float | None = None
    """Seconds after which the tests were ended."""
    status: Status = field(default_factory=dict)
    """How each test counts (`verdicts.tests_status`)."""
    outcomes: Mapping[str, str] = field(default_factory=dict)
    log_parser: str = "parse_log_pytest"
    reason: str = ""


def files_of(grading: Grading) -> dict[str, bytes]:
    """The files of one instance by name; none where nothing was submitted or the patch is empty."""
    if not grading.submitted or not grading.patch:
        return {}
    files = {
        "patch.diff": grading.patch,
        "run_instance.log": _instance_log(grading).encode("utf-8", "replace"),
    }
    if grading.resolved is None or not grading.applied:
        return files
    files["test_output.txt"] = test_output(grading).encode("utf-8", "replace")
    if grading.timed_out is None:
        report = {grading.instance_id: report_of(grading)}
        files["report.json"] = json.dumps(report, indent=4).encode()
    return files


def report_of(grading: Grading) -> dict[str, Any]:
    """The entry of report.json, as SWE-bench makes it of `test_output`."""
    read = _reported(grading) and not _refused(grading)
    report: dict[str, Any] = {
        "patch_is_None": grading.patch is None,
        "patch_exists": grading.patch is not None,
        "patch_successfully_applied": read,
        "resolved": bool(grading.resolved),
        "infra_failure": False,
    }
    return {**report, "tests_status": grading.status} if read else report


def test_output(grading: Grading) -> str:
    """A console log that the instance's parser reads as these outcomes."""
    form = FORMS.get(grading.log_parser, _pytest)
    lines, lost = [], 0
    for test, outcome in _told(grading).items():
        line = form(test, outcome)
        lines += [] if line is None else [line]
        lost += line is None
    note = f"; {grading.log_parser} cannot read the names of {lost} tests" if lost else ""
    head = f"gym-code: written from the outcomes of a clean-box grading, no console was read{note}\n"
    head += f"+ : '{START}'\n"
    if grading.timed_out is not None:
        return f"{head}\n\nTimeout error: {math.ceil(grading.timed_out)} seconds exceeded."
    failed = any(outcome in (Outcome.FAILED, Outcome.ERROR) for outcome in _told(grading).values())
    code = int(failed or _refused(grading) or not _reported(grading))
    return head + "".join(f"{line}\n" for line in lines) + f"+ : '{END}'\n{CODE}: {code}\n"


def _told(grading: Grading) -> dict[str, str]:
    """The outcomes to write, by test: those that count as success, and failures and errors.

    What failed without saying so (skipped, missing, passed unexpectedly) is not in the log: to the parsers it
    did not run.
    """
    told: dict[str, str] = {}
    for kind in (PASS_TO_PASS, FAIL_TO_PASS):
        for verdict, words in (("success", _WORDS), ("failure", _FAILURES)):
            for test in grading.status.get(kind, {}).get(verdict, ()):
                outcome = grading.outcomes.get(test, Outcome.MISSING)
                if outcome in words:
                    told.setdefault(test, Outcome.FAILED if outcome == Outcome.DUPLICATED else outcome)
    return told


def _reported(grading: Grading) -> bool:
    return bool(_told(grading))


def _refused(grading: Grading) -> bool:
    """Whether all tests passed and are not believed: the log then says so by its exit code."""
    return grading.resolved is False and bool(grading.status) and is_resolved(grading.status)


def _instance_log(grading: Grading) -> str:
    if grading.resolved is None:
        # The second line is one of those by which SWE-bench tells a fault of the infrastructure.
        return f"gym-code: no verdict, for a fault of ours: {grading.reason}\nError response from daemon\n"
    if not grading.applied:
        return f">>>>> Patch Apply Failed:\n{grading.reason}\n"
    return ">>>>> Applied Patch\n"


# A form gives None where its parser could not read the line.


def _one_word(test: str) -> bool:
    return test.split() == [test]


def _pytest(test: str, outcome: str) -> str | None:
    readable = _one_word(test) and outcome in _WORDS
    return f"{_WORDS[Outcome(outcome)]} {test}" if readable else None


def _pytest_options(test: str, outcome: str) -> str | None:
    """Of an option that is a path its parser keeps the last part, and nothing after the last bracket."""
    main, bracket, option = test.partition("[")
    option = option.removesuffix("]")
    shortened = option.startswith("/") and not option.startswith("//") and "*" not in option
    whole = (
        not bracket or "]" not in test or (test.endswith("]") and (not shortened or option.count("/") == 1))
    )
    return _pytest(test, outcome) if main and whole else None


def _pytest_v2(test: str, outcome: str) -> str | None:
    """Names may have single spaces; what looks like a colour is taken out, and ` - ` ends a failure's."""
    plain = test == " ".join(test.split()) and test.isprintable()
    colours = any(part.split("m")[0].isdigit() for part in test.split("[")[1:] if "m" in part)
    cut = outcome == Outcome.FAILED and " - " in test
    readable = plain and test and not colours and not cut and outcome in _WORDS
    return f"{_WORDS[Outcome(outcome)]} {test}" if readable else None


def _matplotlib(test: str, outcome: str) -> str | None:
    return None if "MouseButton." in test else _pytest(test, outcome)


def _seaborn(test: str, outcome: str) -> str | None:
    """Its parser knows passed and failed tests alone; an error is a failure."""
    if outcome == Outcome.ERROR:
        return _pytest(test, Outcome.FAILED)
    return _pytest(test, outcome) if outcome in (Outcome.PASSED, Outcome.FAILED) else None


def _django(test: str, outcome: str) -> str | None:
    words = {
        Outcome.PASSED: "ok", Outcome.FAILED: "FAIL", Outcome.ERROR: "ERROR", Outcome.SKIPPED: "skipped 'so'",
    }  # fmt: skip
    plain = test == test.strip() and len(test.splitlines()) == 1 and " ... " not in test
    readable = plain and not test.startswith(("ok", "FAIL:", "ERROR:")) and outcome in words
    return f"{test} ... {words[Outcome(outcome)]}" if readable else None


def _sympy(test: str, outcome: str) -> str | None:
    words = {Outcome.PASSED: "ok", Outcome.FAILED: "F", Outcome.ERROR: "E"}
    readable = _one_word(test) and test.startswith("test_") and outcome in words
    return f"{test} {words[Outcome(outcome)]}" if readable else None


FORMS: dict[str, Callable[[str, str], str | None]] = {
    **dict.fromkeys(
        ("astroid", "flask", "marshmallow", "pytest", "pvlib", "pyvista", "sqlfluff", "xarray"), _pytest
    ),
    **dict.fromkeys(("pydicom", "pylint", "pytest_options", "requests"), _pytest_options),
    **dict.fromkeys(("astropy", "pytest_v2", "scikit", "sphinx"), _pytest_v2),
    "matplotlib": _matplotlib,
    "seaborn": _seaborn,
    "django": _django,
    "sympy": _sympy,
}
FORMS = {f"parse_log_{name}": form for name, form in FORMS.items()}
"""The line for a test and its outcome, by log parser."""


def run_report(
    instances: Mapping[str, str],
    reasons: Mapping[str, tuple[str, str]],
    unremoved_images: Sequence[str] = (),
) -> dict[str, Any]:
    """The run report.

    instances: for each instance `resolved`, `unresolved`, `error`, `empty_patch` or `incomplete` (nothing
    submitted). reasons: for failures that look like the infrastructure's, the reason and how sure it is.
    """
    ids = {kind: sorted(name for name in instances if instances[name] == kind) for kind in _KINDS}
    tiers = {
        tier: sorted(name for name in reasons if reasons[name][1] == tier)
        for tier in (ENVIRONMENT, AMBIGUOUS)
    }
    completed = sorted(ids["resolved"] + ids["unresolved"])
    submitted = sorted(name for name in instances if instances[name] != "incomplete")
    return {
        "total_instances": len(instances),
        "submitted_instances": len(submitted),
        "completed_instances": len(completed),
        "resolved_instances": len(ids["resolved"]),
        "unresolved_instances": len(ids["unresolved"]),
        "infra_failure_instances": len(tiers[ENVIRONMENT]),
        "ambiguous_failure_instances": len(tiers[AMBIGUOUS]),
        "empty_patch_instances": len(ids["empty_patch"]),
        "error_instances": len(ids["error"]),
        "completed_ids": completed,
        "incomplete_ids": ids["incomplete"],
        "empty_patch_ids": ids["empty_patch"],
        "submitted_ids": submitted,
        "resolved_ids": ids["resolved"],
        "unresolved_ids": ids["unresolved"],
        "infra_failure_ids": tiers[ENVIRONMENT],
        "ambiguous_failure_ids": tiers[AMBIGUOUS],
        "failure_reasons": {name: reasons[name][0] for name in sorted(reasons)},
        "error_ids": ids["error"],
        "schema_version": SCHEMA_VERSION,
        "unstopped_instances": 0,
        "unstopped_containers": [],
        "unremoved_images": sorted(unremoved_images),
    }


_KINDS = ("resolved", "unresolved", "error", "empty_patch", "incomplete")


def kind_of(grading: Grading, files: Mapping[str, bytes]) -> str:
    """What the run report counts an instance as, given its files."""
    if not grading.submitted:
        return "incomplete"
    if not grading.patch:
        return "empty_patch"
    if "report.json" not in files:
        return "error"
    report = json.loads(files["report.json"])[grading.instance_id]
    return "resolved" if report["resolved"] else "unresolved"
