"""Our verdicts are those of SWE-bench's own harness: `python -m benchmarks.evaluation parity` in small."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.evaluation import parity, variants
from benchmarks.evaluation.corpus import Instance
from benchmarks.evaluation.drafts import Draft
from benchmarks.evaluation.measure import eval_script, graded_tests
from benchmarks.evaluation.official import Official
from gym_code.errors import PatchError
from gym_code.evaluate.results import Result
from gym_code.patch import apply_patch
from gym_code.synth.patches import git_patch
from gym_code.synth.removal import functions, stub
from gym_code.types import File

ROOT = Path(__file__).parents[3]
AREA = b"""def area(w, h):
    if w < 0:
        return None
    return w * h


def length(text):
    count = 0
    for _ in text:
        count += 1
    return count
"""
F2P, P2P = ("t.py::test_area", "t.py::test_none"), ("t.py::test_length",)


def draft() -> Draft:
    solved = {"area.py": File(content=AREA)}
    start = stub(solved, [functions("area.py", AREA)[0]])
    return Draft(
        instance_id="toy__area-1",
        repo="toy/area",
        version="1",
        start=start,
        solved=solved,
        function=functions("area.py", start["area.py"].content)[0],
        gold_patch=git_patch(start, solved),
        test_patch=b"",
        statement="",
        command="pytest",
        log_parser="parse_log_pytest",
        packages=(),
    )


def bodies(patch: bytes) -> str:
    """area.py after a patch."""
    changed = apply_patch(draft().start, patch)["area.py"]
    assert changed is not None
    return changed.content.decode()


def test_answers_that_apply_are_python_and_each_does_something_else() -> None:
    toy = draft()
    patches = [*variants.wrong(toy), *variants.partial(toy)]
    patches += [make(toy, number) for make in (variants.hanging, variants.crashing) for number in range(4)]
    found = [bodies(patch) for patch in patches]
    for content in found:
        compile(content, "area.py", "exec")
    assert AREA.decode() not in found
    assert "    if not w < 0:\n        return None\n    return w * h\n" in "".join(found)
    # The solution whose neighbour is gone: it breaks what was whole.
    assert found[
        len(list(variants.wrong(toy))) + len(list(variants.partial(toy))) - 1
    ] == AREA.decode().replace(
        "    count = 0\n    for _ in text:\n        count += 1\n    return count",
        "    raise NotImplementedError",
    )


@pytest.mark.parametrize("number", range(3))
def test_what_does_not_apply_is_refused_by_git_as_well(tmp_path: Path, number: int) -> None:
    patch = variants.unfitting(draft(), number)
    with pytest.raises(PatchError):
        apply_patch(draft().start, patch)
    (tmp_path / "area.py").write_bytes(draft().start["area.py"].content)
    (tmp_path / "p.diff").write_bytes(patch)
    check = ["git", "apply", "--check", "p.diff"]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, check=False).returncode != 0


def test_graded_tests_are_those_that_pass_in_every_run_of_the_solution() -> None:
    before = {"a": "FAILED", "b": "PASSED", "c": "ERROR", "e": "SKIPPED", "f": "PASSED"}
    runs = [dict.fromkeys("abcdef", "PASSED"), {**dict.fromkeys("abcde", "PASSED"), "f": "FAILED"}]
    assert graded_tests(before, runs) == (("a", "c", "d"), ("b",))  # d was missing, f flakes


def test_the_script_is_that_of_a_row_of_version_5() -> None:
    lines = eval_script("c0ffee", b"diff --git a/t.py b/t.py\n", ["t.py"], "pytest -rA t.py").splitlines()
    assert lines[:3] == ["#!/bin/bash", "set -uxo pipefail", "cd /testbed"]
    start = lines.index("git apply -v - <<'EOF_114329324912'")
    assert lines[start - 1 :] == [
        "git checkout c0ffee t.py",
        "git apply -v - <<'EOF_114329324912'",
        "diff --git a/t.py b/t.py",
        "EOF_114329324912",
        ": '>>>>> Start Test Output'",
        "pytest -rA t.py",
        ": '>>>>> End Test Output'",
        "git checkout c0ffee t.py",
    ]


INSTANCE = Instance(row={"instance_id": "toy__area-1"}, predictions={}, packages=(), import_from="")
OURS = Result(
    instance_id="toy__area-1",
    status="resolved",
    resolved=True,
    outcomes=dict.fromkeys((*F2P, *P2P), "passed"),
    fail_to_pass=F2P,
    pass_to_pass=P2P,
)


def theirs(state: str, *failed: str) -> Official:
    def part(tests: tuple[str, ...]) -> dict[str, list[str]]:
        return {
            "success": [test for test in tests if test not in failed],
            "failure": [test for test in tests if test in failed],
        }

    return Official(state=state, status={"FAIL_TO_PASS": part(F2P), "PASS_TO_PASS": part(P2P)})


def test_verdicts_are_equal_where_both_or_neither_resolve() -> None:
    lost = dataclasses.replace(OURS, status="unresolved", resolved=False)
    unknown = dataclasses.replace(OURS, status="infrastructure", resolved=None)
    assert parity.line(INSTANCE, "gold", theirs("resolved"), OURS).equal
    for state in ("unresolved", "error", "empty"):
        assert parity.line(INSTANCE, "wrong", theirs(state), lost).equal
        assert not parity.line(INSTANCE, "wrong", theirs(state), OURS).equal
        assert not parity.line(INSTANCE, "wrong", theirs(state), unknown).equal  # no verdict is not a no
    assert not parity.line(INSTANCE, "gold", theirs("resolved"), unknown).equal


def test_tests_that_count_otherwise_are_named() -> None:
    outcomes = {**OURS.outcomes, F2P[0]: "failed"}
    ours = dataclasses.replace(OURS, status="unresolved", resolved=False, outcomes=outcomes)
    assert parity.line(INSTANCE, "wrong", theirs("unresolved", F2P[0]), ours).tests_differ == ()
    assert parity.line(INSTANCE, "wrong", theirs("unresolved", P2P[0]), ours).tests_differ == (F2P[0], P2P[0])


def test_a_difference_needs_a_reviewed_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        parity.line(INSTANCE, "gold", theirs("resolved"), OURS),
        parity.line(INSTANCE, "wrong", theirs("unresolved"), OURS),
    ]
    found = parity.summary(lines)
    assert (found["cases"], found["equal"], found["unexplained"]) == (2, 1, [["toy__area-1", "wrong"]])
    assert "- toy__area-1, wrong: unresolved there, resolved here: NOT EXPLAINED" in parity.markdown(
        lines, "5"
    )
    monkeypatch.setitem(parity.REVIEWED, ("toy__area-1", "wrong"), "forged there")
    lines[1] = parity.line(INSTANCE, "wrong", theirs("unresolved"), OURS)
    found = parity.summary(lines)
    assert (found["explained"], found["unexplained"]) == (1, [])
    assert "resolved here: forged there" in parity.markdown(lines, "5")


@pytest.mark.slow
@pytest.mark.docker
@pytest.mark.sandbox
def test_two_real_instances_have_the_same_verdicts(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.evaluation", "parity", "--instances", "2", "--timeout", "30"]
    command += ["--cache", str(tmp_path / "cache"), "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert "2 instances, 14 cases: 14 verdicts equal" in done.stdout
    assert "inflection__" in (tmp_path / "parity.md").read_text()
    assert "| gold | 2 | 2 | 0 | 0 |" in done.stdout
    for variant in variants.VARIANTS[1:]:
        assert f"| {variant} | 2 | 0 | 2 | 0 |" in done.stdout
