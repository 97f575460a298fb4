"""Runs `unittest` tests by id, `package.module.Class.test_name`; executed by `main.py` inside a box.

The test modules are read and compiled before any code of the tree runs, and are made from that code:
neither a file beside them nor an entry in `sys.modules` can stand in for them.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import os
import sys
import types


class Later(types.ModuleType):
    """Stands in for a module that `unittest` imports and hardly ever uses; becomes it at the first use."""

    def __getattr__(self, name: str) -> object:
        """The attribute of the real module, which then takes this one's place."""
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


# A third of what `import unittest` costs goes into these. Who imports them later gets the real ones.
LATER = [name for name in ("argparse", "dataclasses") if name not in sys.modules]
sys.modules.update((name, Later(name)) for name in LATER)
import unittest  # noqa: E402

for name in LATER:
    if isinstance(sys.modules.get(name), Later):
        del sys.modules[name]

from gym_code.grading.box.trouble import describe  # noqa: E402
from gym_code.grading.box.unittest_result import Result, canary_outcome  # noqa: E402

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    Tests = list[tuple[int, str]]
    State = tuple[list[tuple[str, str, Any, Tests]], str]


def locate(test_id: str) -> tuple[str, str] | None:
    """(module name, path) of a test id by looking for the file; None where there is none."""
    parts = test_id.split(".")
    for end in range(1, len(parts) - 1):
        stem = os.path.join(*parts[:end])
        if os.path.isfile(stem + ".py") and not os.path.isdir(stem):
            return ".".join(parts[:end]), stem + ".py"
    return None


def prepare(plan: dict[str, Any]) -> State:
    """Compile the test modules: [(module name, path, code or the error, [(index, class and method)])]."""
    modules: dict[tuple[str, str], Tests] = {}
    for index, test_id in enumerate(plan["ids"]):
        found = plan["modules"].get(test_id) or locate(test_id)
        if found is not None:
            name, path = found
            modules.setdefault((name, path), []).append((index, test_id[len(name) + 1 :]))
    compiled: list[tuple[str, str, Any, Tests]] = []
    for (name, path), tests in modules.items():
        full = os.path.join(os.getcwd(), path)
        try:
            with open(full, "rb") as file:
                code: Any = compile(file.read(), full, "exec", dont_inherit=True)
        except (OSError, SyntaxError, ValueError) as error:
            code = error
        compiled.append((name, full, code, tests))
    return compiled, os.getcwd()


def load(name: str, path: str, code: Any) -> types.ModuleType:
    """The module made from its compiled code."""
    if isinstance(code, Exception):
        raise code
    package, _, last = name.rpartition(".")
    parent = importlib.import_module(package) if package else None
    module = types.ModuleType(name)
    module.__file__ = path
    module.__package__ = package
    loader = importlib.machinery.SourceFileLoader(name, path)
    module.__spec__ = importlib.machinery.ModuleSpec(name, loader, origin=path)
    module.__loader__ = loader
    sys.modules[name] = module
    if parent is not None:
        setattr(parent, last, module)
    exec(code, module.__dict__)
    return module


def case_of(module: types.ModuleType, qualname: str) -> unittest.TestCase | None:
    """The one test a class and method name; None where it is missing."""
    *path, method = qualname.split(".")
    owner: Any = module
    for part in path:
        owner = getattr(owner, part, None)
    if isinstance(owner, type) and issubclass(owner, unittest.TestCase) and hasattr(owner, method):
        return owner(method)
    return None


def run(state: State, indices: Sequence[int], report: Any) -> None:
    """Run the tests with these indices in one suite, so that class and module fixtures work."""
    modules, workdir = state
    wanted = set(indices)
    cases: dict[int, tuple[int, unittest.TestCase]] = {}
    suite = unittest.TestSuite()
    suite._cleanup = False  # type: ignore[attr-defined]  # Keeps the cases alive: their identities are the keys below.
    outcome = report.outcome
    for name, path, code, tests in modules:
        # The order of unittest's own loader: a class stays together, what fails disturbs no more than there.
        chosen = sorted(((index, name) for index, name in tests if index in wanted), key=lambda test: test[1])
        if not chosen:
            continue
        try:
            module = load(name, path, code)
        except BaseException as error:
            for index, _ in chosen:
                outcome(index, "error", describe((type(error), error, error.__traceback__), workdir))
            continue
        for index, qualname in chosen:
            case = case_of(module, qualname)
            if case is not None:
                cases[id(case)] = (index, case)
                suite.addTest(case)

    def tell(test: Any, name: str, error: Any) -> None:
        if id(test) in cases:
            outcome(cases[id(test)][0], name, describe(error, workdir))

    suite.run(Result(tell))
    if report.canary_wanted:
        report.canary(canary_outcome(unittest.TestCase))
