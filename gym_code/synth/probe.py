# ruff: noqa: N802, PTH100, PTH109 - names that unittest gives; no more imports in the box than needed
"""Runs a whole test suite inside a box and says what every test did, where it is defined and what it covers.

Executed as a program by the box's own interpreter (standard library, plus pytest and coverage if asked for);
never imported by gym-code. Reads one JSON object from standard input:

    {"runner": "pytest" | "unittest", "files": [paths], "tests": [ids] or null, "arguments": [for pytest],
     "functions": {path: [[key, first_line, last_line], ...]} or null}

and writes JSON lines to the descriptor named by GYM_CODE_CHANNEL:

    {"test", "outcome", "file", "line", "seconds"}      each test
    {"error", "text"}                                   each file that does not load
    {"covered": {key: [import, [tests]]}}               tests by their number in the order above
    {"end": true}
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Spans = dict[str, list[tuple[str, int, int]]]


class Channel:
    """The private pipe, on a descriptor of its own."""

    def __init__(self, number: int) -> None:
        self.fd = os.dup(number)
        self.tests: dict[str, int] = {}

    def send(self, **message: Any) -> None:
        """Write one line, whole."""
        data = memoryview((json.dumps(message) + "\n").encode())
        while data:
            data = data[os.write(self.fd, data) :]

    def test(self, name: str, outcome: str, target: Any, seconds: float) -> None:
        """Report one test."""
        file, line = location(target)
        self.tests.setdefault(name, len(self.tests))
        self.send(test=name, outcome=outcome, file=file, line=line, seconds=round(seconds, 4))


class Cover:
    """Line coverage with the running test as context; the empty context is import and collection."""

    def __init__(self, functions: Spans) -> None:
        import coverage

        self.functions = {os.path.abspath(path): spans for path, spans in functions.items()}
        self.coverage = coverage.Coverage(data_file=None, config_file=False, include=list(self.functions))
        self.coverage.start()

    def switch(self, name: str) -> None:
        """Name the test that runs from now on."""
        self.coverage.switch_context(name)

    def result(self, number: dict[str, int]) -> dict[str, tuple[bool, list[int]]]:
        """For each function: whether its body ran at import, and the numbers of the tests that ran it."""
        self.coverage.stop()
        data = self.coverage.get_data()
        covered: dict[str, tuple[bool, list[int]]] = {}
        for path, spans in self.functions.items():
            contexts = data.contexts_by_lineno(path)
            for key, first, last in spans:
                names = {name for line in range(first, last + 1) for name in contexts.get(line, ())}
                covered[key] = ("" in names, sorted(number[name] for name in names if name in number))
        return covered


def location(target: Any) -> tuple[str | None, int]:
    """File (relative to the working directory) and line where a test function is written, or nothing."""
    code = getattr(inspect.unwrap(target), "__code__", None) if target is not None else None
    if code is None:
        return None, 0
    return os.path.relpath(code.co_filename), code.co_firstlineno


def switcher(cover: Cover | None) -> Callable[[str], None]:
    """What to call with the name of the running test."""
    return cover.switch if cover else lambda name: None


def run_pytest(job: dict[str, Any], channel: Channel, cover: Cover | None) -> None:
    """Run files under pytest."""
    import pytest

    wanted = None if job["tests"] is None else set(job["tests"])

    class Plugin:
        """Reports what pytest says of each test."""

        def __init__(self) -> None:
            self.outcome: dict[str, str] = {}
            self.seconds: dict[str, float] = {}

        def pytest_collection_modifyitems(self, items: list[Any]) -> None:
            """Keep the wanted tests."""
            items[:] = [item for item in items if wanted is None or item.nodeid in wanted]

        def pytest_collectreport(self, report: Any) -> None:
            """A file that does not load."""
            if report.failed:
                channel.send(error=report.nodeid, text=str(report.longrepr)[-2000:])

        @pytest.hookimpl(hookwrapper=True)
        def pytest_runtest_protocol(self, item: Any) -> Iterator[None]:
            """One test, with its set-up and tear-down."""
            switcher(cover)(item.nodeid)
            yield
            switcher(cover)("|between")
            name = item.nodeid
            target = getattr(item, "obj", None)
            channel.test(name, self.outcome.get(name, "error"), target, self.seconds.get(name, 0.0))

        def pytest_runtest_logreport(self, report: Any) -> None:
            """One phase of a test."""
            name = report.nodeid
            self.seconds[name] = self.seconds.get(name, 0.0) + report.duration
            if report.when == "call" or report.outcome != "passed":
                self.outcome[name] = self.classify(report)

        def classify(self, report: Any) -> str:
            """The name of the outcome."""
            if hasattr(report, "wasxfail"):
                return "xfailed" if report.skipped else "xpassed"
            return "error" if report.failed and report.when != "call" else str(report.outcome)

    switcher(cover)("")
    pytest.main([*job["arguments"], *job["files"]], plugins=[Plugin()])


def run_unittest(job: dict[str, Any], channel: Channel, cover: Cover | None) -> None:
    """Run files under unittest; a module is named by its path from the working directory."""
    import unittest

    class Result(unittest.TestResult):
        """Reports what unittest says of each test."""

        state: str | None = None
        began = 0.0

        def startTest(self, test: Any) -> None:
            """A test begins."""
            super().startTest(test)
            self.state, self.began = "passed", time.perf_counter()
            switcher(cover)(test.id())

        def stopTest(self, test: Any) -> None:
            """A test ended."""
            switcher(cover)("|between")
            target = getattr(test, getattr(test, "_testMethodName", ""), None)
            channel.test(test.id(), self.state or "error", target, time.perf_counter() - self.began)
            self.state = None
            super().stopTest(test)

        def addError(self, test: Any, err: Any) -> None:
            """An error in a test, or in the set-up of a class or module (then no test is running)."""
            if self.state is not None:
                self.state = "error"
            else:
                channel.send(error=str(test), text=repr(err[1])[-2000:])

        def addFailure(self, test: Any, err: Any) -> None:
            """A failed assertion."""
            self.state = "failed"

        def addSkip(self, test: Any, reason: str) -> None:
            """A skipped test."""
            self.state = "skipped"

        def addExpectedFailure(self, test: Any, err: Any) -> None:
            """A failure that the test announced."""
            self.state = "xfailed"

        def addUnexpectedSuccess(self, test: Any) -> None:
            """A success where a failure was announced."""
            self.state = "xpassed"

        def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
            """One part of a test."""
            if err is not None:
                self.state = "failed"

    switcher(cover)("")
    loader, suite = unittest.TestLoader(), unittest.TestSuite()
    for path in job["files"]:
        name = path[: -len(".py")].replace("/", ".")
        try:
            __import__(name)
            suite.addTests(loader.loadTestsFromModule(sys.modules[name]))
        except BaseException as error:
            channel.send(error=path, text=f"{type(error).__name__}: {error}"[-2000:])
    wanted = None if job["tests"] is None else set(job["tests"])
    chosen = suite if wanted is None else unittest.TestSuite(t for t in cases(suite) if t.id() in wanted)
    chosen.run(Result())


def cases(suite: Any) -> Iterator[Any]:
    """The single tests of a suite of suites."""
    for part in suite:
        if hasattr(part, "countTestCases") and hasattr(part, "__iter__"):
            yield from cases(part)
        else:
            yield part


def main() -> None:
    """Do the job on standard input."""
    job = json.load(sys.stdin)
    channel = Channel(int(os.environ["GYM_CODE_CHANNEL"]))
    sys.path[:] = [entry for entry in sys.path if entry not in ("", "/tmp")]
    sys.path.insert(0, os.getcwd())
    cover = Cover(job["functions"]) if job["functions"] is not None else None
    with contextlib.suppress(SystemExit):
        {"pytest": run_pytest, "unittest": run_unittest}[job["runner"]](job, channel, cover)
    if cover:
        channel.send(covered=cover.result(channel.tests))
    channel.send(end=True)
    os._exit(0)


if __name__ == "__main__":
    main()
