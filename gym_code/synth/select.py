"""Which functions are worth an attempt: decided before anything is cut, from the files and the coverage run.

Each decision costs milliseconds where an attempt costs seconds. What is turned down here could never have
become a valid task, or hardly ever; whoever passes is tried, and counts as selected whatever comes of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from gym_code.synth import leaks
from gym_code.synth.funnel import Funnel
from gym_code.synth.removal import count, stub

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gym_code.synth.covered import SuiteRun
    from gym_code.synth.hidden import TestIndex
    from gym_code.synth.layout import Layout
    from gym_code.synth.removal import Function
    from gym_code.types import File

NO_BODY = "no body to cut: on the line of its header, or a docstring alone"
NOT_COVERED = "no stable test runs it"
TRIVIAL = "one plain statement"
AT_IMPORT = "it runs while the package or its tests are imported"
ELSEWHERE = "its body stands elsewhere in the repository"
MADE_AT_RUN_TIME = "a test of it is made at run time"
INHERITED = "all its tests are inherited from other files"
EVERY_TEST = "every test runs it"


def select(
    found: Sequence[Function],
    files: Mapping[str, File],
    layout: Layout,
    index: TestIndex,
    run: SuiteRun,
    stable: frozenset[str],
) -> tuple[tuple[Function, ...], Funnel]:
    """The functions to try, in file order, and the funnel as far as the stage `selected`.

    found: every function whose body can be cut; run: the suite under coverage; stable: the tests that count.
    """
    defined = sum(count(files[path].content) for path in layout.sources)
    tests = {f.key: stable_tests(run, stable, f) for f in found}
    covered, uncovered = _split(found, lambda f: None if tests[f.key] else NOT_COVERED)
    larger, small = _split(covered, lambda f: TRIVIAL if f.trivial else None)
    sites = {index.sites[name] for name in stable}

    def turned_down(function: Function) -> str | None:
        own = tests[function.key]
        if run.covered[function.key].at_import:
            return AT_IMPORT
        if {index.sites[name] for name in own} == sites:
            return EVERY_TEST
        if any(index.sites[name] is None for name in own):
            return MADE_AT_RUN_TIME
        touched = {site[0] for name in own if (site := index.sites[name]) is not None}
        if touched.isdisjoint(index.file_of(name) for name in own):
            return INHERITED
        return ELSEWHERE if leaks.in_tree(stub(files, [function]), files, [function]) else None

    chosen, left = _split(larger, turned_down)
    no_body = [NO_BODY] * (defined - len(found))
    return chosen, Funnel.begin(defined).then([*no_body, *uncovered]).then(small).then(left)


def stable_tests(run: SuiteRun, stable: frozenset[str], function: Function) -> tuple[str, ...]:
    """The stable tests that run a function, in the order they ran."""
    covered = run.covered.get(function.key)
    return tuple(name for name in covered.tests if name in stable) if covered is not None else ()


def _split(
    found: Sequence[Function], reason: Callable[[Function], str | None]
) -> tuple[tuple[Function, ...], list[str]]:
    """Those without a reason against them, and the reasons against the others."""
    given = [(function, reason(function)) for function in found]
    return tuple(f for f, why in given if why is None), [why for _, why in given if why is not None]
