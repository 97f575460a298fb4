"""What SWE-bench makes of a console log, and what our clean box makes of the same tree: equal, or explained.

Each tree runs once in a box as SWE-bench runs it (an eval script, its output the log), and is graded once by
our grader. A log of pytest is judged by each parser of SWE-bench that reads its summary, with the names that
this parser gives to the tests. Django and SymPy are the real ones, with a file of tests more.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from gym_code.errors import InputError
from gym_code.evaluate.cases import Case
from gym_code.evaluate.graders import CleanBoxGrader
from gym_code.gitrepo import base_commit
from gym_code.interop import verdicts
from gym_code.interop.official import recording_exit_code
from gym_code.sandbox import open_backend
from gym_code.sandbox.base import BoxSpec
from gym_code.suite.harness_files import eval_script
from gym_code.synth.sources import open_source
from gym_code.types import (
    Answer,
    Cause,
    Environment,
    File,
    Limits,
    StartTree,
    Task,
    ordered_unique,
    tree_digest,
)
from tests.evaluate.logs.scenes import RIGHT, SCENES, Scene
from tests.grading.graded_toys import one_file
from tests.interop.swebench_oracle import module

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend

grading = module("swebench.harness.grading")
registry = module("swebench.harness.log_parsers").PARSER_REGISTRY
types = module("swebench.types")

OF_PYTEST = ("pytest", "pytest_options", "pytest_v2", "matplotlib", "seaborn")
PARSERS = {"pytest": OF_PYTEST, "unittest": ("pytest",), "django": ("django",), "sympy": ("sympy",)}
"""By runner."""
PACKAGES = {
    "django": ("asgiref==3.8.1", "sqlparse==0.5.1"),
    "sympy": ("mpmath==1.3.0",),
}
COMMANDS = {
    "django": "python tests/runtests.py --verbosity 2 --settings=test_sqlite --parallel 1 scene.tests",
    "sympy": "PYTHONWARNINGS='ignore::UserWarning,ignore::SyntaxWarning' SYMPY_USE_CACHE=no python -c "
    "\"import sys, sympy; sys.exit(not sympy.test('{file}', verbose=True))\"",
}
"""What `bin/test -C --verbose` comes to: SymPy's distribution has no such file."""
SECONDS = {"pytest": 8.0, "unittest": 8.0, "django": 60.0, "sympy": 60.0}
"""For the tests of a scene: one of pytest's hangs."""

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


@dataclass(frozen=True)
class Seen:
    """A scene as it went: its log, the node ids of new and old tests, and our outcomes for them all."""

    log: str
    new: tuple[str, ...]
    old: tuple[str, ...]
    names: Mapping[str, tuple[str, ...]]
    outcomes: Mapping[str, str]


@functools.cache
def tree(runner: str) -> Mapping[str, File]:
    """What a scene's own files lie in."""
    if runner == "django":
        needed = ("django/", "tests/runtests.py", "tests/test_sqlite.py", "tests/urls.py", "tests/templates/")
        found = {
            path: file
            for path, file in open_source("pypi:Django==5.1.4").files.items()
            if path.startswith(needed)
        }
        english = ("/locale/en/", "locale/__init__.py")
        kept = {
            path: file
            for path, file in found.items()
            if "/locale/" not in path or any(e in path for e in english)
        }
        return {**kept, "tests/scene/__init__.py": File()}
    if runner == "sympy":
        found = {
            path: file
            for path, file in open_source("pypi:sympy==1.12").files.items()
            if path.startswith("sympy/")
        }
        return {path: file for path, file in found.items() if "/tests/" not in path and "/rubi/" not in path}
    return {}


@functools.cache
def is_there(runner: str) -> bool:
    """Whether the tree can be had; without a package index it cannot, which is a failure where CI=true."""
    try:
        tree(runner)
    except InputError:
        if os.environ.get("CI") == "true":
            raise
        return False
    return True


class Staged:
    """A suite of one scene, with these ids to fix."""

    name = "staged"

    def __init__(self, scene: Scene, ids: tuple[str, ...] = ()) -> None:
        own = {path: File(content=text.encode()) for path, text in scene.base().items()}
        self.files = {**tree(scene.runner), **own}
        seconds = SECONDS[scene.runner]
        self.limits = Limits(
            exec_seconds=seconds, memory_bytes=1024**3, processes=64, output_bytes=4 * 1024**2
        )
        self.environment = Environment(packages=PACKAGES.get(scene.runner, ("pytest==9.2.0",)))
        self._task = Task(
            id="toy__scene-1",
            instruction="",
            base_commit=base_commit(self.files),
            environment=self.environment,
            runner=scene.runner,
            ids="exact" if scene.runner == "unittest" else "swebench",
            limits=self.limits,
        )
        self._answer = Answer(
            task_id=self._task.id,
            fail_to_pass=ids,
            pass_to_pass=(),
            gold_patch=one_file("calc.py", self.files["calc.py"], RIGHT),
            test_patch=one_file(scene.hidden_file, None, scene.hidden),
        )

    def ids(self) -> list[str]:
        return [self._task.id]

    def task(self, task_id: str) -> Task:
        return self._task

    def answer(self, task_id: str) -> Answer:
        return self._answer

    def start(self, task_id: str) -> StartTree:
        return StartTree(digest=tree_digest(self.files), files=lambda: self.files)


def printed(parser: str, test: str) -> str:
    """What a parser takes a test's name for."""
    if parser not in OF_PYTEST:
        return test
    found = registry[f"parse_log_{parser}"](f"PASSED {test}\n", None)
    return str(next(iter(found), test))


def script_of(scene: Scene, staged: Staged) -> str:
    """The scene's eval script."""
    written = eval_script(
        workdir="/testbed",
        base_commit=base_commit(staged.files),
        test_patch=one_file(scene.hidden_file, None, scene.hidden),
        existing=(),
        runner=scene.runner,
        ids=(*(scene.new or (scene.hidden_file,)), *scene.old),
    ).replace("pytest -rA --color=no", "pytest -rA")
    if scene.runner in COMMANDS:
        command = COMMANDS[scene.runner].format(file=scene.hidden_file)
        lines = written.splitlines(keepends=True)
        lines[-2] = f"PYTHONPATH=/testbed {command}\n"
        written = "".join(lines)
    return recording_exit_code(written)


def console(scene: Scene, backend: Backend) -> tuple[str, tuple[str, ...]]:
    """The log of the scene's tests, and the node ids of the new ones."""
    staged = Staged(scene)
    start, new = staged.start(""), scene.new
    with backend.open(BoxSpec(start=start, environment=staged.environment, limits=staged.limits)) as box:
        for path, text in scene.agent.items():
            if text is None:
                assert box.exec(["rm", path]).ok
            else:
                box.write(path, text.encode())
        box.write("/tmp/eval.sh", script_of(scene, staged).encode())
        ran = box.exec("exec 2>&1; bash /tmp/eval.sh")
        log = ran.stdout.decode("utf-8", "replace")
        assert not ran.truncated_bytes
        if ran.cause is Cause.TIMED_OUT:
            log += f"\n\nTimeout error: {SECONDS[scene.runner]:g} seconds exceeded."
        if scene.collected:
            listed = box.exec(
                ["python", "-m", "pytest", "--collect-only", "-q", "--color=no", scene.hidden_file]
            )
            lines = listed.stdout.decode().splitlines()
            new = tuple(line for line in lines if line.startswith(scene.hidden_file))
            assert new
    return log, new


def look(scene: Scene, backend: Backend, folder: Path) -> Seen:
    """Both sides of a scene."""
    log, new = console(scene, backend)
    parsers = PARSERS[scene.runner]
    names = {test: tuple(printed(parser, test) for parser in parsers) for test in (*new, *scene.old)}
    ids = tuple(dict.fromkeys(name for printed_names in names.values() for name in printed_names))
    suite = Staged(scene, ids)
    patch = b"".join(one_file(path, suite.files.get(path), text) for path, text in scene.agent.items())
    case = Case(instance_id="toy__scene-1", patch=patch)
    graded = CleanBoxGrader(backend).grade(suite, case, folder)
    assert graded.resolved is not None, graded.reason
    assert graded.applied, graded.reason
    return Seen(log=log, new=new, old=scene.old, names=names, outcomes=graded.outcomes)


def together(scenes: Mapping[str, Scene], backend: Backend, folder: Path) -> dict[str, Seen]:
    """Both sides of scenes that differ only in which tests they ask for: one log, one grading."""
    news = ordered_unique([test for scene in scenes.values() for test in scene.new])
    olds = ordered_unique([test for scene in scenes.values() for test in scene.old if test not in news])
    whole = look(replace(next(iter(scenes.values())), new=news, old=olds), backend, folder)
    return {name: replace(whole, new=scene.new or whole.new, old=scene.old) for name, scene in scenes.items()}


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Seen]]:
    folder = tmp_path_factory.mktemp("logs")
    alike: dict[str, dict[str, Scene]] = {}
    for name, scene in SCENES.items():
        if not is_there(scene.runner):
            continue
        alike.setdefault(repr(replace(scene, new=(), old=())), {})[name] = scene
    backend = open_backend("namespace")
    try:
        with ThreadPoolExecutor(4) as pool:
            looks = [pool.submit(together, scenes, backend, folder) for scenes in alike.values()]
            yield {name: found for each in looks for name, found in each.result().items()}
    finally:
        backend.close()


def both(scene: Seen, parser: str, runner: str, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Their report on the log and ours on the outcomes, with the names that a parser gives."""
    at = PARSERS[runner].index(parser)
    new, old = ([scene.names[test][at] for test in tests] for tests in (scene.new, scene.old))
    log = folder / "test_output.txt"
    log.write_text(scene.log)
    spec = types.TestSpec(
        instance_id="toy__scene-1",
        image="",
        eval_script_list=[],
        repo="toy/scene",
        version="1",
        FAIL_TO_PASS=new,
        PASS_TO_PASS=old,
        log_parser=f"parse_log_{parser}",
        eval_type="pass_and_fail",
    )
    prediction = {"instance_id": "toy__scene-1", "model_patch": "x"}
    theirs = grading.get_eval_report(spec, prediction, log, include_tests_status=True)["toy__scene-1"]
    answer = Answer(
        task_id="t", fail_to_pass=tuple(new), pass_to_pass=tuple(old), gold_patch=b"", test_patch=b""
    )
    status = verdicts.tests_status(answer, scene.outcomes, runner=runner)
    return theirs, {"resolved": verdicts.is_resolved(status), "tests_status": status}


FORGED = {
    "prints a summary and a status at exit | all": "what the agent prints last is the summary, and it prints "
    "the exit code before the script does",
    "prints a whole log at exit | all": "the same, with an end marker of its own",
    "prints a summary and leaves | all": "it writes to the console beside pytest, and leaves with 0",
    "hook | all": "the agent's conftest.py has every test pass; here it is not the agent's to bring",
    "hook beside the tests | all": "the same, beside the tests",
    "hook in the solution | all": "the solution patches pytest itself; here a test that must fail shows it",
    "edits the old test | all": "only files of the test patch are put back there; here every graded test is",
    "django forges at exit | all": "a line at exit stands for the test",
    "sympy forges at exit | all": "a line at exit stands for the test",
}
"""Resolved there by what an agent wrote, and not here."""
MISREAD = {
    "broken teardown | pytest_v2": "the message of the error becomes part of the name, and `PASSED` stands",
    "broken teardown | seaborn": "its parser knows no errors, and `PASSED` stands",
    "expected to fail | seaborn": "its parser knows no expected failures",
    "expected, with a reason | seaborn": "its parser knows no expected failures",
    "expected, with a reason | pytest_v2": "the reason becomes part of the name (pytest 9)",
    "fails as expected from within | seaborn": "its parser knows no expected failures",
    "fails as expected from within | pytest_v2": "the reason becomes part of the name (pytest 9)",
    "talks of time | all": "the words of a time-out, printed by a test, refuse the log",
    "talks of an exit code | all": "the first exit code in the log counts, and a test printed it",
    "coloured | pytest": "a coloured line does not begin with its status",
    "coloured | pytest_options": "a coloured line does not begin with its status",
    "coloured | matplotlib": "a coloured line does not begin with its status",
    "coloured | seaborn": "a coloured line does not begin with its status",
    "collected twice | all": "of two tests with one name one is seen; here one name twice is no test",
    "django docstring, first fails | all": "of two tests with one docstring the last is seen",
    "django, another passes unexpectedly | all": "the run fails and names no failure: the log is refused",
    "sympy prints | all": "what a test prints stands between its name and `ok`",
}
"""Read there as something else than what happened."""
RUN_OTHERWISE = {
    "needs an unlisted test | all": "whole files run there, and here the listed tests alone",
    "fails beside others | all": "here what failed among others and passes alone in a clean box has passed",
    "deselects by configuration | all": "start-up files of an agent's own are taken there, and not here",
    "unittest skips | all": "of our own tasks: there the run was good, here a skip is no pass",
    "unittest fails as expected | all": "of our own tasks: there the run was good, here that is no pass",
}
"""Run in another way here."""
EXPLAINED = FORGED | MISREAD | RUN_OTHERWISE
CASES = [(name, parser) for name, scene in SCENES.items() for parser in PARSERS[scene.runner]]


@pytest.mark.parametrize(("name", "parser"), CASES, ids=[f"{name}-{parser}" for name, parser in CASES])
def test_verdicts_are_equal_or_explained(
    seen: Mapping[str, Seen], tmp_path: Path, name: str, parser: str
) -> None:
    if name not in seen:
        pytest.skip("no package index answers")
    theirs, ours = both(seen[name], parser, SCENES[name].runner, tmp_path)
    why = EXPLAINED.get(f"{name} | {parser}") or EXPLAINED.get(f"{name} | all")
    if why is None:
        assert ours["resolved"] == theirs["resolved"]
    else:
        assert ours["resolved"] != theirs["resolved"], f"explained, and equal: {why}"


def test_what_is_solved_is_resolved_on_both_sides(seen: Mapping[str, Seen], tmp_path: Path) -> None:
    for name in {"solved", "unittest passes", "django solved", "sympy solved"} & seen.keys():
        runner = SCENES[name].runner
        for parser in PARSERS[runner]:
            theirs, ours = both(seen[name], parser, runner, tmp_path)
            assert (theirs["resolved"], ours["resolved"]) == (True, True), (name, parser)
            assert theirs["tests_status"] == ours["tests_status"]


def test_there_are_enough_and_every_explanation_is_of_a_case() -> None:
    assert len(CASES) >= 60
    known = {f"{name} | {parser}" for name, parser in CASES} | {f"{name} | all" for name in SCENES}
    assert set(EXPLAINED) <= known
