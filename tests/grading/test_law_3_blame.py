"""Law 3: what the agent's code causes scores 0; ungraded needs proof that the fault is ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from graded_toys import RIGHT, WRONG, toy_of_pytest, toy_of_unittest, with_limits

from gym_code.errors import SandboxError, SandboxUnavailable
from gym_code.grading import flags
from gym_code.types import Cause, ExecResult

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend, BoxSpec, Sandbox

TOYS = {"unittest": toy_of_unittest(), "pytest": toy_of_pytest()}

HANG = "while True:\n    pass\n"
SLEEP_AND_LEAVE_A_CHILD = "import os, time\nif os.fork() == 0:\n    os.setsid()\ntime.sleep(600)\n"
BOMB = "x = []\nwhile True:\n    x.append(bytearray(16 << 20))\n"
SEGFAULT = "import ctypes\nctypes.string_at(0)\n"
FORK_BOMB = "import os\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        pass\n"


ONE_SPOILS_THE_NEXT = {
    "unittest": """
import unittest
from calc import add
seen = []

class HiddenTest(unittest.TestCase):
    def test_add(self):
        seen.append(1)
        self.assertEqual(add(2, 3), 5)
    def test_more(self):
        self.assertEqual(seen, [])
        self.assertEqual(add(2, 1), 3)
""",
    "pytest": """
import pytest
from calc import add
seen = []

@pytest.mark.parametrize("n", [1, 2])
def test_add(n):
    assert not seen
    seen.append(n)
    assert add(n, 1) == n + 1
def test_fixture(five): assert add(five, 1) == 6
""",
}


class Failing:
    """A backend whose first boxes fail, as an infrastructure can; the rest come from a real one."""

    def __init__(self, backend: Backend | None, times: int, error: type[SandboxError] = SandboxError) -> None:
        self.backend, self.left, self.error, self.opened = backend, times, error, 0

    def open(self, spec: BoxSpec) -> Sandbox:
        self.opened += 1
        self.left -= 1
        if self.left >= 0 or self.backend is None:
            raise self.error("the keeper went away")
        return self.backend.open(spec)


class Unwell:
    """A machine on which every command ends in this way, the gold patch's too."""

    def __init__(self, result: ExecResult) -> None:
        self.result, self.opened = result, 0

    def open(self, spec: BoxSpec) -> Unwell:
        self.opened += 1
        return self

    def exec(self, *args: object, **kwargs: object) -> ExecResult:
        return self.result

    def __enter__(self) -> Unwell:
        return self

    def __exit__(self, *exc: object) -> None:
        pass


@pytest.mark.sandbox
@pytest.mark.parametrize(
    ("runner", "code", "flag", "seconds"),
    [
        ("unittest", HANG, flags.TIMED_OUT, 2.0),
        ("unittest", SLEEP_AND_LEAVE_A_CHILD, flags.TIMED_OUT, 2.0),
        ("unittest", SEGFAULT, flags.NOTHING_REPORTED, 20.0),
        ("pytest", HANG, flags.TIMED_OUT, 5.0),
        ("pytest", SEGFAULT, flags.NOTHING_REPORTED, 20.0),
    ],
)
def test_law_3_what_the_code_under_test_causes_scores_0(
    backend: Backend, runner: str, code: str, flag: str, seconds: float
) -> None:
    toy = TOYS[runner]
    reward = toy.grade(backend, toy.patch({"calc.py": code + RIGHT}), timeout=seconds)
    assert reward.value == 0.0
    assert reward.verdict is not None
    assert reward.verdict.valid
    assert flag in reward.verdict.flags
    assert reward.verdict.controls["gold"] == "resolved"


@pytest.mark.sandbox
@pytest.mark.parametrize("code", [BOMB, FORK_BOMB])
def test_law_3_a_bomb_scores_0_and_the_next_grading_is_well(backend: Backend, code: str) -> None:
    toy = with_limits(TOYS["unittest"], memory_bytes=256 * 1024**2, processes=32)
    bomb = toy.grade(backend, toy.patch({"calc.py": code + RIGHT}), timeout=4.0)
    assert bomb.value == 0.0, bomb.verdict
    assert toy.grade(backend, toy.answer.gold_patch).value == 1.0


@pytest.mark.sandbox
def test_law_3_a_crash_in_the_middle_scores_0(backend: Backend) -> None:
    toy = TOYS["unittest"]
    code = "import os\n\n\ndef add(a, b):\n    if a == 20:\n        os._exit(0)\n    return a + b\n"
    reward = toy.grade(backend, toy.patch({"calc.py": code}))
    assert reward.value == 0.0
    assert reward.verdict is not None
    assert reward.verdict.report.outcomes["tests.test_hidden.HiddenTest.test_add"] == "passed"
    assert reward.verdict.report.outcomes["tests.test_hidden.HiddenTest.test_more"] == "missing"


@pytest.mark.sandbox
def test_law_3_flaking_code_scores_0_when_it_fails_again_alone(backend: Backend) -> None:
    toy = TOYS["unittest"]
    code = "calls = []\n\n\ndef add(a, b):\n    calls.append(a)\n    return a + b if len(calls) > 1 else 0\n"
    reward = toy.grade(backend, toy.patch({"calc.py": code}))
    assert reward.value == 0.0


@pytest.mark.sandbox
@pytest.mark.parametrize("runner", TOYS)
def test_law_3_a_test_that_fails_among_others_and_passes_alone_counts_as_passed(
    backend: Backend, runner: str
) -> None:
    hidden = ONE_SPOILS_THE_NEXT[runner]
    toy = toy_of_unittest(hidden) if runner == "unittest" else toy_of_pytest(hidden)
    oracle, noop = toy.grade(backend, toy.answer.gold_patch), toy.grade(backend, b"")
    assert (oracle.value, noop.value) == (1.0, 0.0)
    assert oracle.verdict is not None
    assert oracle.verdict.flags == (flags.FLAKY_RECOVERED,)


@pytest.mark.sandbox
def test_law_3_one_failing_box_is_tried_again_in_another(backend: Backend) -> None:
    toy = TOYS["unittest"]
    failing = Failing(backend, 1)
    assert toy.grade(failing, toy.answer.gold_patch).value == 1.0  # type: ignore[arg-type]
    assert failing.opened == 2


def test_law_3_two_failing_boxes_leave_the_episode_ungraded() -> None:
    toy = TOYS["unittest"]
    failing = Failing(None, 2)
    reward = toy.grade(failing, toy.answer.gold_patch)  # type: ignore[arg-type]
    assert reward.value is None
    assert failing.opened == 2
    assert reward.verdict is not None
    assert not reward.verdict.valid
    assert reward.verdict.flags == (flags.SANDBOX_FAULT,)
    assert "the keeper went away" in reward.verdict.controls["error"]


def test_law_3_a_backend_that_cannot_run_here_is_an_error_and_no_reward() -> None:
    toy = TOYS["unittest"]
    with pytest.raises(SandboxUnavailable):
        toy.grade(Failing(None, 9, SandboxUnavailable), b"")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("result", "flag"),
    [
        (ExecResult(exit_code=-9, cause=Cause.TIMED_OUT), flags.TIMED_OUT),
        (ExecResult(exit_code=-9, cause=Cause.OUT_OF_MEMORY), flags.OUT_OF_MEMORY),
        (ExecResult(exit_code=127, stderr=b"python3: not found"), flags.NOTHING_REPORTED),
    ],
)
def test_law_3_ungraded_where_the_gold_patch_fails_under_the_same_conditions(
    result: ExecResult, flag: str
) -> None:
    toy = TOYS["unittest"]
    machine = Unwell(result)
    reward = toy.grade(machine, toy.patch({"calc.py": WRONG + "#\n"}))  # type: ignore[arg-type]
    assert reward.value is None
    assert machine.opened == 2
    assert reward.verdict is not None
    assert reward.verdict.flags == (flag, flags.GOLD_FAILED)


@pytest.mark.sandbox
def test_law_3_a_failing_test_needs_no_control(backend: Backend) -> None:
    toy = TOYS["unittest"]
    counting = Failing(backend, 0)
    assert toy.grade(counting, b"").value == 0.0  # type: ignore[arg-type]
    assert counting.opened == 1
