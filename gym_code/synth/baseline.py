"""The finished repository, measured once: its environment, its stable tests, what they cover."""

from __future__ import annotations

import random
import re
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from gym_code.errors import InputError
from gym_code.sandbox.base import BoxSpec
from gym_code.synth import leaks, pins
from gym_code.synth.covered import run_suite
from gym_code.synth.hidden import TestIndex
from gym_code.synth.layout import find_layout
from gym_code.synth.removal import functions
from gym_code.synth.select import select, stable_tests
from gym_code.types import Environment, Limits, StartTree, tree_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gym_code.sandbox.base import Backend
    from gym_code.synth.covered import SuiteRun
    from gym_code.synth.funnel import Funnel
    from gym_code.synth.layout import Layout
    from gym_code.synth.removal import Function
    from gym_code.synth.sources import Source
    from gym_code.types import File

WORKDIR = "/testbed"
SUITE_SECONDS = 600.0
"""A suite that runs longer than this is no source of tasks."""
STABLE_RUNS = 2
"""Runs besides the one under coverage in which a test must pass to be used."""
MISSING_ROUNDS = 8
"""How many missing requirements are looked for, one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What the stages after this one share; nothing in it changes."""

    source: Source
    layout: Layout
    environment: Environment
    limits: Limits
    index: TestIndex
    stable: frozenset[str]
    """Tests of the test files that passed in every run."""
    candidates: tuple[Function, ...]
    """The functions selected for an attempt (`gym_code.synth.select`), in file order."""
    covering: Mapping[str, tuple[str, ...]]
    """The stable tests that run each candidate, by its key."""
    funnel: Funnel
    """As far as the stage `selected`."""
    suite_seconds: float

    @property
    def directory(self) -> str:
        """The name of the source tree under `repos/`."""
        return re.sub(r"[^A-Za-z0-9_.-]", "-", f"{self.source.name}-{self.source.version}")

    def box(self, files: Mapping[str, File] | None = None) -> BoxSpec:
        """A box with the finished repository, or with other files in its place."""
        return box_spec(self.source.files if files is None else files, self.environment, self.limits)


def box_spec(files: Mapping[str, File], environment: Environment, limits: Limits) -> BoxSpec:
    """A box that begins from these files."""
    start = StartTree(digest=tree_digest(files), files=lambda: files)
    return BoxSpec(start=start, environment=environment, limits=limits, workdir=WORKDIR)


def measure(source: Source, backend: Backend) -> Baseline:
    """Build the environment, run the suite `1 + STABLE_RUNS` times and select the candidates.

    Raises `InputError` when the repository gives no tasks: no tests, requirements that cannot be had, no test
    that passes every time, or an environment that holds the package itself.
    """
    layout = find_layout(source.files, where=source.origin)
    found = tuple(f for path in layout.sources for f in functions(path, source.files[path].content))
    environment, layout, covering = _covering_run(source, layout, found, backend)
    with backend.open(box_spec(source.files, environment, Limits(exec_seconds=SUITE_SECONDS))) as box:
        away = leaks.in_environment(box, layout.modules)
        if away:
            raise InputError(
                f"{away}: tasks from this package could be solved by copying", where=source.origin
            )
        runs = [run_suite(box, layout, timeout=SUITE_SECONDS) for _ in range(STABLE_RUNS)]
    index = TestIndex(source.files, layout, covering)
    steady = frozenset.intersection(covering.passed, *(run.passed for run in runs))
    # Doctests that a `load_tests` adds live in no test file: no grader finds them by their id.
    stable = frozenset(name for name in steady if index.file_of(name) in layout.tests)
    if not stable:
        raise InputError(f"no test passes every time: {_reason(covering)}", where=source.origin)
    candidates, funnel = select(found, source.files, layout, index, covering, stable)
    return Baseline(
        source=source,
        layout=layout,
        environment=environment,
        limits=Limits(exec_seconds=patience(min(run.seconds for run in runs))),
        index=index,
        stable=stable,
        candidates=candidates,
        covering={f.key: stable_tests(covering, stable, f) for f in candidates},
        funnel=funnel,
        suite_seconds=sum(run.seconds for run in runs) / len(runs),
    )


def patience(seconds: float) -> float:
    """How long a command may take where the whole suite takes `seconds`: 60 s, doubled until 10 runs fit.

    Coarse on purpose: the limit is part of a task, and a task must not depend on the speed of the day.
    """
    limit = 60.0
    while limit < 10 * seconds:
        limit *= 2
    return limit


def sample(candidates: tuple[Function, ...], seed: int) -> list[Function]:
    """All candidates in the order the seed gives."""
    ordered = sorted(candidates, key=lambda function: function.key)
    random.Random(f"candidates {seed}").shuffle(ordered)
    return ordered


def _covering_run(
    source: Source, layout: Layout, found: tuple[Function, ...], backend: Backend
) -> tuple[Environment, Layout, SuiteRun]:
    """The suite under coverage, with requirements added until no more are found missing."""
    requirements = [*source.requires, *(["pytest"] if layout.runner == "pytest" else [])]
    tried: set[str] = set()
    while True:
        packages = pins.pin([*requirements, "coverage"], where=source.origin)
        own = leaks.among_packages(source.name, packages)
        if own:
            raise InputError(f"the test environment needs {own}, the package itself", where=source.origin)
        run = _run_once(source, _environment(layout, packages), layout, found, backend)
        module = pins.missing_module([*run.errors.values(), run.console])
        project = pins.project_of(module, source.files) if module and module not in layout.modules else None
        if project is None or project in tried or len(tried) >= MISSING_ROUNDS:
            break
        tried.add(project)
        requirements.append(project)
    broken = {path.split("::")[0] for path in run.errors}
    kept = tuple(path for path in layout.tests if path not in broken)
    if not kept or not run.complete:
        raise InputError(f"the tests do not run: {_reason(run)}", where=source.origin)
    if not any(name.lower().startswith("coverage") for name in requirements):
        # It measures the suite; no task needs it, and it brings nothing else along.
        packages = tuple(name for name in packages if not name.startswith("coverage=="))
    return _environment(layout, packages), replace(layout, tests=kept), run


def _run_once(
    source: Source, environment: Environment, layout: Layout, found: tuple[Function, ...], backend: Backend
) -> SuiteRun:
    limits = Limits(exec_seconds=SUITE_SECONDS)
    with backend.open(box_spec(source.files, environment, limits)) as box:
        return run_suite(box, layout, timeout=SUITE_SECONDS, functions=found)


def _environment(layout: Layout, packages: tuple[str, ...]) -> Environment:
    # Entries of PYTHONPATH are relative to the work directory, for the grader and for the agent's shell.
    path = layout.root or "."
    return Environment(
        python=f"{sys.version_info.major}.{sys.version_info.minor}",
        packages=packages,
        env={"PYTHONPATH": path, "PYTHONHASHSEED": "0"},
    )


def _reason(run: SuiteRun) -> str:
    texts = [*run.errors.values(), run.console]
    lines = [line for text in texts for line in text.strip().splitlines()]
    return lines[-1][:300] if lines else "the runner said nothing"
