"""The queue of an evaluation: each content once, faults of ours again, every attempt kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from told import NoImages, Told

from gym_code.errors import EnvironmentBuildError, SandboxUnavailable, TaskError
from gym_code.evaluate.cases import Case, Graded
from gym_code.evaluate.run import Progress, grade_all, wanted
from gym_code.evaluate.store import RunDirectory, open_run, read_attempts

if TYPE_CHECKING:
    from pathlib import Path

    from gym_code.task import Suite

RESOLVED = Graded(resolved=True)


def carry_out(run: RunDirectory, suite: Suite, grader: Told, cases: list[Case], **how: Any) -> list[Progress]:
    told: list[Progress] = []
    graders = dict.fromkeys(suite.ids(), grader)
    cycle, repeat = how.get("cycle", 1), how.get("repeat", 1)
    jobs = wanted(run, suite, cases, graders, timeout=None, repeat=repeat, cycle=cycle)
    grade_all(
        run,
        suite,
        jobs,
        workers=how.get("workers", 2),
        retries=how.get("retries", 2),
        cycle=cycle,
        images=NoImages(),  # type: ignore[arg-type]
        on_progress=told.append,
    )
    return told


def cases_of(suite: Suite, patch: bytes | None = b"diff", samples: int = 1) -> list[Case]:
    return [
        Case(instance_id=name, patch=patch, sample=sample)
        for sample in range(samples)
        for name in suite.ids()
    ]


def test_two_samples_with_one_patch_are_graded_once(tmp_path: Path, suite: Suite) -> None:
    grader = Told(lambda case, number: RESOLVED)
    with open_run(tmp_path) as run:
        told = carry_out(run, suite, grader, cases_of(suite, samples=2))
        assert set(grader.asked.values()) == {1}
        assert (told[-1].done, told[-1].total) == (len(suite.ids()), len(suite.ids()))
    with open_run(tmp_path) as run:
        carry_out(run, suite, grader, cases_of(suite, samples=3))
    assert set(grader.asked.values()) == {1}, "a second run in the directory grades nothing again"


def test_another_patch_task_or_grader_is_graded_anew(tmp_path: Path, suite: Suite) -> None:
    grader = Told(lambda case, number: RESOLVED)
    name = suite.ids()[0]
    with open_run(tmp_path) as run:
        for patch in (b"one", b"two", b"one"):
            carry_out(run, suite, grader, [Case(instance_id=name, patch=patch)])
        assert [len(grader.asked), sum(grader.asked.values())] == [2, 2]
        grader.version = "2"
        carry_out(run, suite, grader, [Case(instance_id=name, patch=b"one")])
        assert sum(grader.asked.values()) == 3


def test_empty_patches_are_not_graded(tmp_path: Path, suite: Suite) -> None:
    grader = Told(lambda case, number: RESOLVED)
    with open_run(tmp_path) as run:
        for patch in (None, b"", b" \n"):
            assert carry_out(run, suite, grader, cases_of(suite, patch)) == []
    assert not grader.asked


def test_a_fault_of_ours_is_tried_again_after_all_others(tmp_path: Path, suite: Suite) -> None:
    broken = suite.ids()[0]

    def answer(case: Case, number: int) -> Graded:
        if case.instance_id == broken and number == 1:
            raise EnvironmentBuildError("the disk is full")
        if case.instance_id == broken and number == 2:
            return Graded(resolved=None, reason="the box went away")
        return RESOLVED

    grader = Told(answer)
    with open_run(tmp_path) as run:
        told = carry_out(run, suite, grader, cases_of(suite), workers=1)
    assert grader.order == [*suite.ids(), broken, broken]
    assert [told[-1].done, told[-1].retries] == [len(suite.ids()), 2]
    kept = [attempt.graded for attempt in read_attempts(tmp_path) if attempt.instance_id == broken]
    assert [(each.resolved, each.reason) for each in kept] == [
        (None, "EnvironmentBuildError: the disk is full"),
        (None, "the box went away"),
        (True, ""),
    ]


def test_retries_end_and_the_next_run_tries_again(tmp_path: Path, suite: Suite) -> None:
    grader = Told(lambda case, number: Graded(resolved=number > 3 or None))
    with open_run(tmp_path) as run:
        carry_out(run, suite, grader, cases_of(suite)[:1], retries=2)
        assert [attempt.graded.resolved for attempt in run.attempts] == [None] * 3
        carry_out(run, suite, grader, cases_of(suite)[:1], retries=2)
        assert [attempt.graded.resolved for attempt in run.attempts] == [None] * 3 + [True]


def test_what_cannot_be_graded_is_not_tried_again(tmp_path: Path, suite: Suite) -> None:
    def answer(case: Case, number: int) -> Graded:
        raise TaskError("test.patch does not fit")

    with open_run(tmp_path) as run:
        carry_out(run, suite, Told(answer), cases_of(suite)[:2])
        assert [attempt.graded.reason for attempt in run.attempts] == [
            "TaskError: test.patch does not fit"
        ] * 2


def test_no_sandbox_at_all_ends_the_run_and_keeps_what_was_graded(tmp_path: Path, suite: Suite) -> None:
    last = suite.ids()[-1]

    def answer(case: Case, number: int) -> Graded:
        if case.instance_id == last:
            raise SandboxUnavailable("no daemon")
        return RESOLVED

    with open_run(tmp_path) as run, pytest.raises(SandboxUnavailable):
        carry_out(run, suite, Told(answer), cases_of(suite), workers=1)
    assert len(read_attempts(tmp_path)) == len(suite.ids()) - 1


def test_repeat_and_a_new_cycle_ask_for_more_verdicts(tmp_path: Path, suite: Suite) -> None:
    grader = Told(lambda case, number: Graded(resolved=number != 2))
    with open_run(tmp_path) as run:
        carry_out(run, suite, grader, cases_of(suite)[:1], repeat=3, workers=1)
        assert [attempt.graded.resolved for attempt in run.attempts] == [True, False, True]
        carry_out(run, suite, grader, cases_of(suite)[:1], cycle=2)
        assert [attempt.cycle for attempt in run.attempts] == [1, 1, 1, 2]
