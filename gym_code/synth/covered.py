"""Run a repository's whole suite in a box: outcomes, where each test is written, which functions it runs."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gym_code.types import Cause, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gym_code.sandbox.base import Sandbox
    from gym_code.synth.layout import Layout
    from gym_code.synth.removal import Function
    from gym_code.types import ExecResult

PYTEST_ARGUMENTS = (
    *("-q", "-p", "no:cacheprovider", "-o", "addopts=", "--rootdir", ".", "--color=no"),
    "--continue-on-collection-errors",
)
"""`addopts` of the repository are dropped: they ask for plugins (coverage, xdist) that no task needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSite:
    """Where a test function is written."""

    __test__ = False

    file: str | None
    line: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """Who runs one function's body."""

    at_import: bool
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteRun:
    """What one run of the whole suite said."""

    outcomes: Mapping[str, Outcome]
    sites: Mapping[str, TestSite]
    errors: Mapping[str, str]
    """Files that did not load, with the end of the reason."""
    complete: bool
    """Whether the runner reached its end; a crash or a time-out leaves it False."""
    seconds: float
    cause: Cause = Cause.EXITED
    covered: Mapping[str, Coverage] = field(default_factory=dict)
    console: str = ""
    """The end of what the run printed, for reasons only."""

    @property
    def passed(self) -> frozenset[str]:
        """Ids of the tests that passed."""
        return frozenset(name for name, outcome in self.outcomes.items() if outcome is Outcome.PASSED)


def run_suite(
    box: Sandbox,
    layout: Layout,
    *,
    timeout: float,
    files: Sequence[str] | None = None,
    tests: Sequence[str] | None = None,
    functions: Iterable[Function] | None = None,
) -> SuiteRun:
    """Run the suite once; with `functions`, under coverage. Raises `SandboxError`.

    files: only these files of it; tests: only the tests with these ids, which must be written in `files`.
    """
    spans: dict[str, list[tuple[str, int, int]]] | None = None
    if functions is not None:
        spans = {}
        for function in functions:
            spans.setdefault(function.path, []).append(
                (function.key, function.first_line, function.last_line)
            )
    job = {
        "runner": layout.runner,
        "files": list(layout.tests if files is None else files),
        "tests": None if tests is None else list(tests),
        "arguments": PYTEST_ARGUMENTS,
        "functions": spans,
    }
    program = Path(__file__).with_name("probe.py").read_text(encoding="utf-8")
    result = box.exec(
        ["python3", "-c", program],
        timeout=timeout,
        env={
            "COVERAGE_CORE": "ctrace",
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
        },
        stdin=json.dumps(job).encode(),
        channel=True,
    )
    return read_run(result)


def read_run(result: ExecResult) -> SuiteRun:
    """The messages of the probe as a `SuiteRun`. A torn last line (the run was ended) is left out."""
    outcomes: dict[str, Outcome] = {}
    sites: dict[str, TestSite] = {}
    errors: dict[str, str] = {}
    covered: dict[str, Coverage] = {}
    complete = False
    for line in result.channel.split(b"\n")[:-1]:
        message = json.loads(line)
        if "test" in message:
            name = str(message["test"])
            outcomes[name] = Outcome.DUPLICATED if name in outcomes else Outcome(message["outcome"])
            sites[name] = TestSite(file=message["file"], line=int(message["line"]))
        elif "error" in message:
            errors[str(message["error"])] = str(message["text"])
        elif "covered" in message:
            names = list(outcomes)
            covered = {
                key: Coverage(at_import=at_import, tests=tuple(names[i] for i in tests))
                for key, (at_import, tests) in message["covered"].items()
            }
        else:
            complete = True
    return SuiteRun(
        outcomes=outcomes,
        sites=sites,
        errors=errors,
        complete=complete and result.ok,
        seconds=result.seconds,
        cause=result.cause,
        covered=covered,
        console=(result.stdout + result.stderr)[-2000:].decode("utf-8", "replace"),
    )
