"""A run report that SWE-bench's own harness wrote, as `gym-code compare` reads it (extra `swebench`)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import swebench_oracle

from gym_code.evaluate.compare import read_side

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

reporting = swebench_oracle.module("swebench.harness.reporting")

NAMES = [*(f"django__django-{n}" for n in (1, 2)), *(f"sympy__sympy-{n}" for n in (3, 4, 5)), "x__y-6"]


def test_a_run_report_is_a_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    patches = dict.fromkeys(NAMES[:4], "diff --git a/a b/a\n") | {"sympy__sympy-5": ""}
    predictions = {
        name: {"instance_id": name, "model_name_or_path": "acme/coder", "model_patch": patch}
        for name, patch in patches.items()
    }
    logs = tmp_path / "logs" / "run_evaluation" / "r" / "acme__coder"
    for name, resolved in zip(NAMES[:3], (True, False, False), strict=True):
        (logs / name).mkdir(parents=True)
        (logs / name / "report.json").write_text(json.dumps({name: {"resolved": resolved}}))
    (logs / NAMES[2] / "test_output.txt").write_text("Error response from daemon: no such container\n")
    file = reporting.make_run_report(predictions, [{"instance_id": name} for name in NAMES], "r")
    found = read_side(tmp_path / file)
    assert found.rates == {
        "django__django-1": 1.0,
        "django__django-2": 0.0,
        "sympy__sympy-4": 0.0,  # an error: it left no report
        "sympy__sympy-5": 0.0,  # an empty patch
        "x__y-6": 0.0,  # no prediction
    }
    assert (found.name, found.lost, found.errors) == ("acme__coder.r", ("sympy__sympy-3",), 1)
