"""The whole of `make_suite` over a toy repository of our own, in real boxes under the real grader."""

import dataclasses
import json
import os

import pytest
from synth_toy import TOY, UNITTESTS

from gym_code.cli import main
from gym_code.errors import ConfigError, InputError, SandboxError, TaskError
from gym_code.sandbox import open_backend
from gym_code.suite import DirectorySuite, check_suite
from gym_code.synth import baseline, cut, make, pins, select, validate
from gym_code.synth.funnel import Funnel
from gym_code.synth.journal import Journal
from gym_code.synth.packages import real_packages
from gym_code.synth.removal import functions
from gym_code.synth.sources import Source
from gym_code.types import File

FILES = {
    "shapes/__init__.py": TOY["shapes/__init__.py"],
    "tests/__init__.py": File(),
    "tests/test_u.py": File(
        content=UNITTESTS
        + b"""

    def test_halves(self):
        self.assertEqual(list(self.make(4).halves()), [2, 2])


class AreaTest(unittest.TestCase):
    def test_area(self):
        from shapes import area

        self.assertEqual(area(2, 3), 6)

    def test_runs_without_looking(self):
        from shapes import area

        try:
            area(-1, 1)
        except (ValueError, NotImplementedError):
            pass
"""
    ),
    "pyproject.toml": TOY["pyproject.toml"],
}


@pytest.fixture(scope="session")
def index():
    """An answering package index: `coverage` comes from it."""
    try:
        pins.pin(["coverage"])
    except InputError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no package index answers: {error}")


@pytest.fixture(scope="module")
def backend(index):
    opened = open_backend("namespace")
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    for path, file in FILES.items():
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_bytes(file.content)
    return folder


@pytest.fixture(scope="module")
def base(repository, backend):
    return baseline.measure(make.open_source(f"path:{repository}"), backend)


@pytest.fixture
def measured(base, monkeypatch):
    """Measured once for all tests that do not look at how it is measured."""
    monkeypatch.setattr(make, "measure", lambda source, backend: base)


def run(repository, out, backend, **options):
    said = []
    report = make.make_suite(f"path:{repository}", out, backend=backend, progress=said.append, **options)
    return report, said


def contents(out):
    return {p.relative_to(out): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


@pytest.mark.sandbox
def test_law_4_every_task_made_is_sound_and_workers_change_nothing(
    repository, base, backend, tmp_path, monkeypatch
):
    report, said = run(repository, tmp_path / "two/toy", backend, workers=2)
    assert [(stage.name, stage.count, dict(stage.lost)) for stage in report.funnel.stages] == [
        ("functions", 7, {}),
        ("covered", 5, {select.NOT_COVERED: 2}),
        ("non-trivial", 3, {select.TRIVIAL: 2}),
        ("selected", 3, {}),
        ("tried", 3, {}),
        ("accepted", 3, {}),
    ]
    assert (report.accepted, report.resumed, report.stable_tests) == (3, 0, 5)
    assert report.seconds_a_task == round(report.seconds / 3, 2)
    assert [note.done for note in said] == [0, 1, 2, 3]
    assert said[0].last.endswith("functions: 7 functions, 5 covered, 3 non-trivial, 3 selected")
    assert report.disk_bytes == sum(len(content) for content in contents(tmp_path / "two/toy").values())
    assert check_suite(tmp_path / "two/toy") == []

    suite = DirectorySuite(tmp_path / "two/toy")
    area = next(name for name in suite.ids() if name.startswith("toy-shapes__area-"))
    task, answer, start = suite.task(area), suite.answer(area), suite.start(area).files()
    assert answer.fail_to_pass == ("tests.test_u.AreaTest.test_area", "tests.test_u.SquareTest.test_grow")
    assert task.visible_tests == (
        "tests.test_u.AreaTest.test_runs_without_looking",
        "tests.test_u.SquareTest.test_halves",
        "tests.test_u.SquareTest.test_name",
    )
    assert b"def test_area" not in start["tests/test_u.py"].content
    assert start["shapes/__init__.py"].content.count(b"raise NotImplementedError") == 1
    assert (task.repo, task.family, task.provenance["licence"]) == ("path/toy-shapes", "toy-shapes", "MIT")

    # The second run is given another measurement of the same repository.
    monkeypatch.setattr(make, "measure", lambda source, backend: base)
    run(repository, tmp_path / "one/toy", backend, workers=1)
    assert contents(tmp_path / "one/toy") == contents(tmp_path / "two/toy")


@pytest.mark.sandbox
@pytest.mark.usefixtures("measured")
def test_a_run_that_was_cut_off_goes_on_and_a_limit_stops_it(
    repository, base, backend, tmp_path, monkeypatch
):
    tried = []
    real = make.attempt
    monkeypatch.setattr(make, "attempt", lambda *given: tried.append(given[1].key) or real(*given))
    first, _ = run(repository, tmp_path, backend, workers=1, limit=1)
    assert (first.funnel.count("selected"), first.funnel.count("tried"), first.accepted) == (3, 1, 1)
    assert first.funnel.lost("tried") == {make.LIMIT: 2}
    assert len(list((tmp_path / "tasks").iterdir())) == 1
    done, tried[:] = tried[0], []
    second, _ = run(repository, tmp_path, backend, workers=1)
    assert (second.funnel.count("tried"), second.accepted, second.resumed) == (3, 3, 1)
    assert second.seconds_a_task is None
    assert done not in tried
    assert len(tried) == 2
    changed = {**base.source.files, "shapes/more.py": File(content=b"x = 1\n")}
    other = dataclasses.replace(base, source=dataclasses.replace(base.source, files=changed))
    with pytest.raises(TaskError, match="another source tree is there"):
        validate.write_source(tmp_path, other)


@pytest.mark.sandbox
def test_every_loss_has_its_reason(base, backend):
    by_name = {function.qualname: function for function in base.candidates}

    def lost(base, name="area"):
        with backend.open(base.box()) as box:
            return cut.cut(base, by_name[name], box)

    assert lost(dataclasses.replace(base, stable=base.stable - {*lost(base).fail_to_pass})).reason == (
        cut.NO_FAILING_TEST
    )
    assert (
        lost(dataclasses.replace(base, stable=frozenset(lost(base).fail_to_pass))).reason
        == cut.NO_PASSING_TEST
    )
    copied = {**base.source.files, "old.txt": base.source.files["shapes/__init__.py"]}
    leaking = dataclasses.replace(base, source=dataclasses.replace(base.source, files=copied))
    assert lost(leaking).reason == cut.LEAK
    assert lost(leaking).detail == "old.txt shows the body of area"
    found = lost(base)
    skipped = dataclasses.replace(found, pass_to_pass=("tests.test_u.SquareTest.test_later",))
    assert validate.validate(base, skipped, backend, repeats=1).reason == validate.GOLD_FAILS
    finished = dataclasses.replace(found, start=base.source.files)
    assert validate.validate(base, finished, backend, repeats=1).reason == validate.NOOP_PASSES


ENTANGLED = {
    "pkg/__init__.py": File(
        content=b"""
def area(w, h):
    w = abs(w)
    return w * h

def told(x):
    x = [x]
    return x[0]

def half(x):
    '''
    >>> half(4)
    2.0
    '''
    x = x / 2
    return x
"""
    ),
    "tests/__init__.py": File(),
    "tests/test_a.py": File(
        content=b"""
import doctest
import functools
import unittest

import pkg
from pkg import area, half, told

LEFT = []

def load_tests(loader, tests, pattern):
    tests.addTests(doctest.DocTestSuite(pkg))
    return tests

@functools.cache
def shared():
    return told(5)

class AreaTest(unittest.TestCase):
    def test_area(self):
        LEFT.append(1)
        self.assertEqual(area(2, 3), 6)
        LEFT.pop()

    def test_b_nothing_is_left(self):
        self.assertEqual(LEFT, [])

    def test_c(self):
        self.assertEqual(half(4), 2)

    def test_c_is_there(self):
        self.assertTrue(AreaTest.test_c)

    def test_d(self):
        self.assertEqual(shared(), 5)

    def test_e(self):
        self.assertEqual(shared(), 5)

    def test_f(self):
        self.assertTrue(True)
"""
    ),
}


@pytest.mark.sandbox
def test_tests_that_lean_on_each_other_make_sound_tasks(backend):
    source = Source(origin="path:x", name="entangled", version="1", files=ENTANGLED)
    base = baseline.measure(source, backend)
    # A doctest belongs to no test file: it stays in the docstring and judges nobody.
    assert sorted(base.index.sites.keys() - base.stable) == ["pkg.half"]
    made = {function.qualname: make.attempt(base, function, backend) for function in base.candidates}

    def names(ids):
        return [test_id.rpartition(".")[2] for test_id in ids]

    # Once it fails, test_area leaves something behind; test_b is hurt by that alone, and judges nobody.
    area = made["area"].cut
    assert names(area.fail_to_pass) == ["test_area"]
    assert names(area.pass_to_pass) == ["test_c", "test_c_is_there", "test_d", "test_e", "test_f"]
    assert names(area.visible) == ["test_b_nothing_is_left", *names(area.pass_to_pass)]
    # The other test needs test_c: it hides with it, and still counts.
    half = made["half"].cut
    assert names(half.fail_to_pass) == ["test_c"]
    assert names(half.visible) == ["test_area", "test_b_nothing_is_left", "test_d", "test_e", "test_f"]
    assert names(half.pass_to_pass) == sorted([*names(half.visible), "test_c_is_there"])
    assert b"test_c" not in half.start["tests/test_a.py"].content
    # The coverage run saw told in test_d alone, which filled the cache for test_e.
    assert names(base.covering["pkg/__init__.py::told"]) == ["test_d"]
    told = made["told"].cut
    assert names(told.fail_to_pass) == ["test_d", "test_e"]


@pytest.mark.sandbox
@pytest.mark.usefixtures("index")
def test_the_command_prints_the_funnel_or_one_line_of_json(repository, tmp_path, capfd):
    def command(*options):
        arguments = ["tasks", "make", f"path:{repository}", "--out", str(tmp_path), "--sandbox", "namespace"]
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *options])
        assert not ended.value.code
        return capfd.readouterr().out

    told = command("--limit", "1")
    for words in ("functions", "-2", select.NOT_COVERED, select.TRIVIAL, "-2", make.LIMIT, "1 tasks in"):
        assert words in " ".join(told.split()), told
    report = json.loads(command("--json"))
    assert [stage["count"] for stage in report["funnel"]] == [7, 5, 3, 3, 3, 3]
    assert report["funnel"][2]["lost"] == {select.TRIVIAL: 2}
    assert (report["selected_of_nontrivial"], report["accepted_of_tried"]) == (1.0, 1.0)
    assert (report["resumed"], report["seconds_a_task"], report["workers"]) == (1, None, 2)


class Broken:
    """A backend whose boxes never open: the fault to inject."""

    def open(self, spec):
        raise SandboxError("no more boxes")


def test_law_3_a_sandbox_that_fails_is_tried_twice_and_named():
    function = make_function()
    lost = make.attempt(FakeBase(), function, Broken())
    assert (lost.key, lost.reason, lost.detail) == (function.key, make.SANDBOX_FAILED, "no more boxes")


class FakeBase:
    def box(self):
        return None


def make_function():
    return functions("shapes/__init__.py", TOY["shapes/__init__.py"].content)[1]


@pytest.mark.parametrize("options", [{"workers": 0}, {"limit": 0}])
def test_senseless_options_are_refused_before_anything_is_fetched(options, tmp_path):
    with pytest.raises(ConfigError, match="must be positive"):
        make.make_suite("path:/no/such", tmp_path, backend=Broken(), **options)


def journal(tmp_path, stable=("a",)):
    source = Source(origin="path:x", name="toy", version="1", files=TOY)
    return Journal(
        tmp_path,
        baseline.Baseline(
            source=source,
            layout=None,
            environment=baseline.Environment(),
            limits=baseline.Limits(),
            index=None,
            stable=frozenset(stable),
            candidates=(),
            covering={},
            funnel=Funnel.begin(0),
            suite_seconds=1.0,
        ),
    )


def test_a_journal_survives_a_torn_line_and_forgets_other_inputs(tmp_path):
    loss = cut.Lost(key="m.py::f", reason=cut.LEAK, detail="ä")
    with journal(tmp_path) as book:
        book.lost(loss)
        book.made("m.py::g", "toy__g-1")
        book.made("m.py::gone", "toy__gone-1")
    (tmp_path / "tasks/toy__g-1").mkdir(parents=True)
    (tmp_path / "tasks/toy__g-1/task.yaml").touch()
    path = tmp_path / "make/toy-1.jsonl"
    path.write_bytes(path.read_bytes() + b'{"key": "m.py::torn", "lo')
    with journal(tmp_path) as book:
        known = [book.known(key) for key in ("m.py::f", "m.py::g", "m.py::gone", "m.py::torn")]
        assert known == [loss, "toy__g-1", None, None]
    assert path.read_bytes().endswith(b"}\n")
    with journal(tmp_path, stable=("a", "b")) as book:
        assert book.known("m.py::f") is None


def test_missing_modules_and_the_projects_they_come_from():
    assert pins.missing_module(["E   ModuleNotFoundError: No module named 'yaml.nodes'"]) == "yaml.nodes"
    assert pins.missing_module(["AssertionError"]) is None
    files = {"tox.ini": File(content=b"deps =\n  pytest-mock\n  typing_extensions\n")}
    assert pins.project_of("yaml.nodes", {}) == "pyyaml"
    assert pins.project_of("typing_extensions", files) == "typing-extensions"
    # Nobody vouches for this name, so nothing is fetched under it.
    assert pins.project_of("mock", files) is None


@pytest.mark.parametrize(
    "text", ["a @ git+https://example.org/a", "./a", "a/b", "-r x", "https://example.org/a.zip", "a>=1 @ b"]
)
def test_law_7_a_requirement_that_pip_would_build_is_refused(text):
    with pytest.raises(InputError, match="requirement by address"):
        pins.pin([text])


@pytest.mark.parametrize(
    "text", ["a", "a.b-c[x,y] >=1.0, !=1.1", 'text-unidecode (>=1.3); python_version < "3.8"', "a~=1.0;extra"]
)
def test_a_requirement_by_name_is_understood(text):
    assert pins._BY_NAME.fullmatch(text)


def test_the_limit_of_a_command_is_coarse():
    assert [baseline.patience(seconds) for seconds in (0.1, 6.0, 6.1, 26.0)] == [60.0, 60.0, 120.0, 480.0]


def test_difficulty_by_hand():
    function = make_function()
    # area: 4 lines, 1 if and 1 `or`, a docstring, 2 failing: 0.05 + 0.45*0.1 + 0.25*0.2 + 0.1*0.1
    assert (function.lines, function.branches) == (4, 2)
    assert cut.difficulty(function, failing=2) == 0.155


REAL = {package.name: package for package in real_packages()}


@pytest.mark.slow
@pytest.mark.sandbox
@pytest.mark.usefixtures("index")
@pytest.mark.parametrize(
    ("name", "defined", "covered"),
    [("cachetools", 102, 102), ("xmltodict", 15, 14), ("voluptuous", 158, 115)],
)
def test_a_real_package_gives_tasks_whatever_its_layout(name, defined, covered, backend, tmp_path):
    """cachetools has src/, xmltodict is one module tested by unittest, voluptuous has its tests inside."""
    report = make.make_suite(REAL[name].source, tmp_path, backend=backend, workers=2, limit=1)
    assert [report.funnel.count(stage) for stage in ("functions", "covered")] == [defined, covered]
    assert report.funnel.share("selected", "non-trivial") >= 0.6
    assert report.accepted == 1
    assert check_suite(tmp_path) == []
    suite = DirectorySuite(tmp_path)
    (task_id,) = suite.ids()
    start, answer = suite.start(task_id).files(), suite.answer(task_id)
    assert suite.task(task_id).runner == REAL[name].runner
    assert suite.task(task_id).provenance["licence"] == {"voluptuous": "BSD-3-Clause"}.get(name, "MIT")
    left = {
        (p, f.qualname) for p, file in start.items() if p.endswith(".py") for f in functions(p, file.content)
    }
    for test_id in answer.fail_to_pass:
        path, qualname = where_written(test_id, suite.task(task_id).runner)
        assert (path, qualname) not in left


def where_written(test_id, runner):
    """The file and the qualified name of a test function."""
    if runner == "pytest":
        path, *names = test_id.partition("[")[0].split("::")
        return path, ".".join(names)
    module, *names = test_id.rsplit(".", 2)
    return module.replace(".", "/") + ".py", ".".join(names)
