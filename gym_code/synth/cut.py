"""Cut one task out of a repository: remove a body, see which tests fail, hide those, scan for leaks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gym_code.synth import brief, leaks
from gym_code.synth.covered import run_suite
from gym_code.synth.hidden import hide
from gym_code.synth.removal import body, stub
from gym_code.types import Cause

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gym_code.sandbox.base import Sandbox
    from gym_code.synth.baseline import Baseline
    from gym_code.synth.covered import SuiteRun
    from gym_code.synth.removal import Function
    from gym_code.types import File

NO_FAILING_TEST = "no test fails without the body"
NO_PASSING_TEST = "no test passes without the body"
COLLECTION_ERROR = "a test file does not load without the body"
TIMED_OUT = "the suite runs out of time without the body"
RUNNER_DIED = "the suite ends the runner without the body"
NOT_LOCATABLE = "a failing test is not a function in the tree"
INHERITED = "every failing test is inherited from another file"
VISIBLE_BROKEN = "the visible tests need the hidden ones"
NOTHING_VISIBLE = "no visible test is left"
LEAK = "the body can be read elsewhere"
QUOTED = "the statement quotes the body"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A candidate that became no task."""

    key: str
    reason: str
    """One of the named reasons, to be counted."""
    detail: str = ""
    """What exactly was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """A candidate that may become a task: its start tree and its tests."""

    function: Function
    start: Mapping[str, File]
    stubbed: Mapping[str, File]
    """The finished repository with the body removed and all tests still in it."""
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    visible: tuple[str, ...]
    statement: str
    difficulty: float


def cut(base: Baseline, function: Function, box: Sandbox) -> Cut | Lost:
    """Try one candidate in a fresh box that holds the finished repository. Raises `SandboxError`.

    At first only the tests that run the function are looked at; all others must then pass among the visible
    ones. Where they do not (a shared fixture, a cache, an order), the whole suite says what fails.
    """
    stubbed = stub(base.source.files, [function])
    put(box, base.source.files, stubbed)
    found = _cut(base, function, stubbed, box, base.covering[function.key])
    if isinstance(found, Lost) and found.reason == VISIBLE_BROKEN:
        found = _cut(base, function, stubbed, box, None)
    return found


def _cut(
    base: Baseline,
    function: Function,
    stubbed: Mapping[str, File],
    box: Sandbox,
    tests: tuple[str, ...] | None,
) -> Cut | Lost:
    """One attempt: with these tests, or with all of them. The box holds `stubbed` before and after it."""
    files = None if tests is None else sorted({base.index.file_of(name) for name in tests})
    run = run_suite(box, base.layout, timeout=base.limits.exec_seconds, files=files, tests=tests)
    lost = _broken(function, run)
    if lost:
        return lost
    failing = (base.stable if tests is None else base.stable.intersection(tests)) - run.passed
    found = _hide(base, function, stubbed, failing, failing)
    if isinstance(found, Lost):
        return found
    broken = _visible_fails(base, found, box)
    if broken and tests is None:
        # A visible test may call a hidden one, or use what went with it: it is hidden too, and still graded.
        found = _hide(base, function, stubbed, failing, failing | {*broken} & base.stable)
        broken = () if isinstance(found, Lost) else _visible_fails(base, found, box)
    return Lost(key=function.key, reason=VISIBLE_BROKEN, detail=broken[0]) if broken else found


def _hide(
    base: Baseline,
    function: Function,
    stubbed: Mapping[str, File],
    failing: frozenset[str],
    gone: frozenset[str],
) -> Cut | Lost:
    """The task in which `failing` must be mended and the functions of `gone` are not to be seen."""
    files = base.source.files
    passing = base.stable - failing
    if not failing or not passing:
        return Lost(key=function.key, reason=NO_PASSING_TEST if failing else NO_FAILING_TEST)
    hidden = hide(files, base.index, gone)
    if hidden is None:
        missing = min(name for name in gone if base.index.sites.get(name) is None)
        return Lost(key=function.key, reason=NOT_LOCATABLE, detail=missing)
    # An id counts as hidden where its own file changes; one inherited from another file proves nothing there.
    proving = tuple(sorted(name for name in failing if base.index.file_of(name) in hidden.touched))
    if not proving:
        return Lost(key=function.key, reason=INHERITED)
    visible = tuple(sorted(passing - hidden.ids))
    if not visible:
        return Lost(key=function.key, reason=NOTHING_VISIBLE)
    start = stub(hidden.files, [function])
    found = Cut(
        function=function,
        start=start,
        stubbed=stubbed,
        fail_to_pass=proving,
        pass_to_pass=tuple(sorted(passing)),
        visible=visible,
        statement=brief.statement(function, start=start, full=files, layout=base.layout, hidden=len(proving)),
        difficulty=difficulty(function, len(proving)),
    )
    return _shown(base, found) or found


def difficulty(function: Function, failing: int) -> float:
    """A guess in [0.05, 0.95] from size alone: 0 easy, 1 hard.

    0.05 + 0.45 * lines/40 + 0.25 * branches/10 + 0.1 * failing/20, each fraction at most 1, and 0.1 more for
    a function without a docstring. Measured success of a policy replaces it where there is one.
    """
    size = 0.45 * min(1.0, function.lines / 40) + 0.25 * min(1.0, function.branches / 10)
    return round(0.05 + size + 0.1 * min(1.0, failing / 20) + (0.0 if function.docstring else 0.1), 3)


def _broken(function: Function, run: SuiteRun) -> Lost | None:
    if run.cause is Cause.TIMED_OUT:
        return Lost(key=function.key, reason=TIMED_OUT)
    if run.errors:
        path, text = next(iter(run.errors.items()))
        return Lost(
            key=function.key, reason=COLLECTION_ERROR, detail=f"{path}: {text.splitlines()[-1][:200]}"
        )
    if not run.complete:
        return Lost(key=function.key, reason=RUNNER_DIED, detail=run.console[-200:])
    return None


def _shown(base: Baseline, found: Cut) -> Lost | None:
    """The gates: neither the start tree nor the statement shows the body."""
    function, files = found.function, base.source.files
    where = leaks.in_tree(found.start, files, [function])
    if where:
        return Lost(key=function.key, reason=LEAK, detail=where)
    line = brief.quotes(found.statement, function, body(files[function.path].content, function))
    return Lost(key=function.key, reason=QUOTED, detail=line) if line else None


def _visible_fails(base: Baseline, found: Cut, box: Sandbox) -> tuple[str, ...]:
    """What is wrong with what the agent will see: files that do not load, visible tests that do not pass."""
    put(box, found.stubbed, found.start)
    files = [path for path in base.layout.tests if path in found.start]
    run = run_suite(box, base.layout, timeout=base.limits.exec_seconds, files=files)
    put(box, found.start, found.stubbed)
    return (*run.errors, *(name for name in found.visible if name not in run.passed))


def put(box: Sandbox, before: Mapping[str, File], after: Mapping[str, File]) -> None:
    """Bring a box from one tree to another."""
    for path in sorted(before.keys() | after.keys()):
        if path not in after:
            box.exec(["rm", "-f", "--", path])
        elif before.get(path) != after[path]:
            box.write(path, after[path].content, executable=after[path].executable)
