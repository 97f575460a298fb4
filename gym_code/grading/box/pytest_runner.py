"""Runs pytest tests by id, `path/test_x.py::Class::test_name[param]`; executed by `main.py` inside a box.

Files are collected and the wanted ids selected from them, so an id that is gone does not take the others
with it. Plugins that happen to be installed are not loaded, and the command line options of the tree's
configuration are not taken; the rest of it (markers, fixtures in conftest files) is.

Of SWE-bench's instances plugins and options are taken, as its harness does, and ids are what its log parsers
read in the summary (`PASSED ID`). An id that is no test's own stands for every test that may be printed so:

| parser | `t[a b]` | `t[/x/y]` | other |
|---|---|---|---|
| `parse_log_pytest` | `t[a` | `t[/x/y]` | |
| `parse_log_pytest_options` | `t[a` | `t[/y]` | |
| `parse_log_pytest_v2` | `t[a b]` | `t[/x/y]` | escape sequences and control characters are left out |
| `parse_log_matplotlib` | `t[a` | `t[/x/y]` | `MouseButton.LEFT`, `.RIGHT` are 1 and 3 |

and where it stands for none and breaks off within its parameter, for every test that begins so. `[100%]`,
which two instances of pytest itself expect, is no test but the progress that pytest prints beside one: it
passes where a test does.
"""

from __future__ import annotations

import os
import re

import pytest

from gym_code.grading.box.printed import Printed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from typing import Any

    State = tuple[list[str], list[str], bool]

USAGE_ERROR = 4
BROKEN = {
    3: "pytest had an internal error",
    USAGE_ERROR: "pytest could not start: an option or a conftest file is wrong",
}
"""By its exit status."""
PROGRESS = re.compile(r"\[ *[0-9]+%\]")


def canary() -> None:
    """Must fail; where it passes, the assertions or the bookkeeping were tampered with."""
    try:
        with pytest.raises(ZeroDivisionError):
            pass
    except BaseException:
        raise AssertionError from None


class Watch:
    """The plugin that selects tests by id and reports how each ended."""

    def __init__(self, ids: Sequence[str], indices: Sequence[int], report: Any, *, printed: bool) -> None:
        self._index = {ids[index]: index for index in indices}
        self._tests = Printed(report.outcome)
        self._as_printed = printed
        self._canary, self._canary_wanted = report.canary, report.canary_wanted
        self._phases: dict[str, list[tuple[str, str, str]]] = {}
        self._canary_id = ""
        self.passed = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, session: pytest.Session, items: list[pytest.Item]) -> None:
        """Keep the wanted tests; one id twice is no test."""
        times: dict[str, int] = {}
        for item in items:
            times[item.nodeid] = times.get(item.nodeid, 0) + 1
        stands_for = Names(times).meant_by if self._as_printed else lambda wanted: {wanted} & times.keys()
        for wanted, index in self._index.items():
            for nodeid in stands_for(wanted):
                self._tests.add(index, nodeid)
        for nodeid, number in times.items():
            if number > 1:
                self._tests.end(nodeid, "duplicated", "")
        items[:] = [item for item in items if item.nodeid in self._tests and times[item.nodeid] == 1]
        parents = (item.getparent(pytest.Module) for item in items if self._canary_wanted)
        parent = next((parent for parent in parents if parent is not None), None)
        if parent is not None:
            items.append(canary_in(parent))
            self._canary_id = items[-1].nodeid

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """A file that cannot be collected is an error of each of its tests."""
        if report.failed:
            for wanted, index in self._index.items():
                if wanted == report.nodeid or wanted.startswith(report.nodeid + "::"):
                    self._tests.tell(index, "error", describe(report))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Gather the phases of a test; its last one decides."""
        if report.nodeid in self._tests or report.nodeid == self._canary_id:
            phases = self._phases.setdefault(report.nodeid, [])
            phases.append((report.when, outcome_of(report), describe(report)))
            if phases[-1][1] == "rerun":  # A plugin that runs flaky tests again: another attempt follows.
                phases.clear()
            elif report.when == "teardown":
                self._finish(report.nodeid, phases)

    def _finish(self, nodeid: str, phases: list[tuple[str, str, str]]) -> None:
        bad = [phase for phase in phases if phase[1] != "passed"]
        if bad:
            name, message = bad[0][1:]
        else:
            name, message = "passed" if any(phase[0] == "call" for phase in phases) else "error", ""
        if nodeid == self._canary_id:
            self._canary(name)
        else:
            self.passed = self.passed or name == "passed"
            self._tests.end(nodeid, name, message)

    def finish(self) -> None:
        """Report what is no test."""
        for wanted, index in self._index.items():
            if self._as_printed and self.passed and PROGRESS.fullmatch(wanted):
                self._tests.tell(index, "passed", "")


class Names:
    """Node ids by the names under which SWE-bench's parsers may read them."""

    def __init__(self, nodeids: Collection[str]) -> None:
        self._own = nodeids
        self._printed: dict[str, list[str]] = {}
        for nodeid in nodeids:
            for form in printed_forms(nodeid):
                self._printed.setdefault(form, []).append(nodeid)

    def meant_by(self, wanted: str) -> list[str]:
        """The tests an id stands for; none where there is no such test."""
        if wanted in self._own:
            return [wanted]
        found = self._printed.get(wanted, [])
        if not found and wanted.count("[") > wanted.count("]"):
            found = [nodeid for nodeid in self._own if nodeid.startswith(wanted)]
        return found


def printed_forms(nodeid: str) -> set[str]:
    """What the parsers make of the line `PASSED nodeid`; the table above."""
    plain = re.sub(r"\[\d+m", "", nodeid)
    whole = " ".join("".join(char for char in plain if not "\0" < char < " ").split())
    first = (nodeid.split() or [""])[0]
    forms = {whole, first, first.replace("MouseButton.LEFT", "1").replace("MouseButton.RIGHT", "3")}
    parameter = re.search(r"(.*?)\[(.*)\]", first)
    if parameter:
        main, option = parameter.groups()
        if option.startswith("/") and not option.startswith("//") and "*" not in option:
            option = "/" + option.split("/")[-1]
        forms.add(f"{main}[{option}]")
    return forms


def canary_in(parent: pytest.Module) -> pytest.Function:
    """The test that must fail, as one of this module."""
    if hasattr(pytest.Function, "from_parent"):
        return pytest.Function.from_parent(parent, name="test_canary", callobj=canary)
    return pytest.Function("test_canary", parent, callobj=canary)  # Before pytest 5.4.


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
    """The arguments of every run, the ids, and whether they are as parsers read them."""
    for name in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS"):
        os.environ.pop(name, None)
    arguments = ["--rootdir", os.getcwd(), "-q", "--color=no", "--continue-on-collection-errors"]
    arguments += ["--tb=short" if plan["messages"] else "--tb=line"]
    if not plan["printed"]:
        os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        arguments += ["-p", "no:cacheprovider", "-o", "addopts="]
    for name in plan["plugins"]:
        arguments += ["-p", name]
    return arguments, plan["ids"], plan["printed"]


def run(state: State, indices: Sequence[int], report: Any) -> None:
    """Collect the files of these tests and run the tests."""
    arguments, ids, printed = state
    files = dict.fromkeys(ids[index].split("::")[0] for index in indices)
    there = [path for path in files if os.path.isfile(path)]
    if there:
        watch = Watch(ids, indices, report, printed=printed)
        status = int(pytest.main([*arguments, *there], plugins=[watch]))
        if (
            printed and status == USAGE_ERROR
        ):  # Options for plugins that are not there; its harness drops some.
            status = int(pytest.main([*arguments, "-o", "addopts=", *there], plugins=[watch]))
        watch.finish()
        if status in BROKEN:
            report.failure(RuntimeError(BROKEN[status]))
