"""Runs pytest tests by id, `path/test_x.py::Class::test_name[param]`; executed by `main.py` inside a box.

Files are collected and the wanted ids selected from them, so an id that is gone does not take the others
with it. Plugins that happen to be installed are not loaded, and the command line options of the tree's
configuration are not taken; the rest of it (markers, fixtures in conftest files) is.
"""

from __future__ import annotations

import os

import pytest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    State = tuple[list[str], list[str]]


def canary() -> None:
    """Must fail; where it passes, the assertions or the bookkeeping were tampered with."""
    try:
        with pytest.raises(ZeroDivisionError):
            pass
    except BaseException:
        raise AssertionError from None


class Watch:
    """The plugin that selects tests by id and reports how each ended."""

    def __init__(self, ids: Sequence[str], indices: Sequence[int], report: Any) -> None:
        self._index = {ids[index]: index for index in indices}
        self._outcome, self._canary, self._canary_wanted = report.outcome, report.canary, report.canary_wanted
        self._phases: dict[str, list[tuple[str, str, str]]] = {}
        self._told: set[str] = set()
        self._canary_id = ""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Keep the wanted tests; one id twice is no test."""
        chosen: dict[str, list[pytest.Item]] = {}
        for item in items:
            if item.nodeid in self._index:
                chosen.setdefault(item.nodeid, []).append(item)
        for nodeid, found in chosen.items():
            if len(found) > 1:
                self._tell(nodeid, "duplicated", "")
        items[:] = [found[0] for found in chosen.values() if len(found) == 1]
        parent = items[0].getparent(pytest.Module) if items and self._canary_wanted else None
        if parent is not None:
            items.append(pytest.Function.from_parent(parent, name="test_canary", callobj=canary))
            self._canary_id = items[-1].nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be collected is an error of each of its tests."""
        if report.failed:
            for nodeid in list(self._index):
                if nodeid == report.nodeid or nodeid.startswith(report.nodeid + "::"):
                    self._tell(nodeid, "error", describe(report))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather the phases of a test; its last one decides."""
        if report.nodeid in self._index or report.nodeid == self._canary_id:
            phases = self._phases.setdefault(report.nodeid, [])
            phases.append((report.when, outcome_of(report), describe(report)))
            if report.when == "teardown":
                self._finish(report.nodeid, phases)

    def _finish(self, nodeid: str, phases: list[tuple[str, str, str]]) -> None:
        bad = [phase for phase in phases if phase[1] != "passed"]
        if bad:
            name, message = bad[0][1:]
        else:
            name, message = "passed" if any(phase[0] == "call" for phase in phases) else "error", ""
        if nodeid in self._index:
            self._tell(nodeid, name, message)
        else:
            self._canary(name)

    def _tell(self, nodeid: str, name: str, message: str) -> None:
        if nodeid not in self._told:
            self._told.add(nodeid)
            self._outcome(self._index[nodeid], name, message)


def outcome_of(report: pytest.TestReport) -> str:
    """The outcome of one phase by its name in the reports."""
    if hasattr(report, "wasxfail"):
        return "xfailed" if report.skipped else "xpassed"
    if report.failed:
        return "failed" if report.when == "call" else "error"
    return str(report.outcome)


def describe(report: pytest.TestReport | pytest.CollectReport) -> str:
    """`path:line: message` of a failure."""
    if report.passed or report.longrepr is None:
        return ""
    crash = getattr(report.longrepr, "reprcrash", None)
    if crash is not None:
        path = os.path.relpath(str(crash.path))
        return f"{path}:{crash.lineno}: {crash.message}"
    if isinstance(report.longrepr, tuple):
        return str(report.longrepr[-1])
    text = str(report.longrepr)
    marked = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
    return "\n".join(marked) or text[-1000:]


def prepare(plan: dict[str, Any]) -> State:
    """The arguments of every run."""
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    arguments = ["-p", "no:cacheprovider", "--rootdir", os.getcwd(), "-o", "addopts=", "-q", "--color=no"]
    arguments += ["--continue-on-collection-errors", "--tb=short" if plan["messages"] else "--tb=line"]
    for name in plan["plugins"]:
        arguments += ["-p", name]
    return arguments, plan["ids"]


def run(state: State, indices: Sequence[int], report: Any) -> None:
    """Collect the files of these tests and run the tests."""
    arguments, ids = state
    files = dict.fromkeys(ids[index].split("::")[0] for index in indices)
    there = [path for path in files if os.path.isfile(path)]
    if there:
        watch = Watch(ids, indices, report)
        pytest.main([*arguments, *there], plugins=[watch])
