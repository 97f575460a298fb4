"""Instances of Django: real versions of it, real tests of its own, by the names its runner prints."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import pytest
from graded_toys import Toy, one_file
from instances import instance, sdist

from gym_code.grading import grade
from gym_code.types import Outcome

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend

pytestmark = pytest.mark.sandbox

RUNNER, CASES = "django/test/runner.py", "django/test/testcases.py"
FAKE_SUITE = """

def build_suite(self, *args, **kwargs):
    names = [DOCSTRING, "By the author's name."]
    def fake(name):
        def test_it(self):
            pass
        test_it.__doc__ = name
        return type("Fake", (unittest.TestCase,), {"test_it": test_it})("test_it")
    return self.test_suite(fake(name) for name in names)

DiscoverRunner.build_suite = build_suite
"""
REPORTS_SUCCESS = """

def call(self, result=None):
    result.startTest(self), result.addSuccess(self), result.stopTest(self)

SimpleTestCase.__call__ = call
"""
NEEDED = (
    "tests/runtests.py",
    "tests/test_sqlite.py",
    "tests/urls.py",
    "tests/templates/",
    "tests/get_or_create/",
)
FORGED = {
    "a runner that runs nothing": (RUNNER, "\nDiscoverRunner.run_tests = lambda *args, **kwargs: 0\n"),
    "a runner that reports success": (RUNNER, "\nDiscoverRunner.run_suite = lambda *args, **kwargs: None\n"),
    "tests of its own in their names": (RUNNER, FAKE_SUITE),
    "cases that report success": (CASES, REPORTS_SUCCESS),
    "sys.exit(0)": (RUNNER, "\nimport sys\nsys.exit(0)\n"),
    "os._exit(0)": (RUNNER, "\nimport os\nos._exit(0)\n"),
}

PACKAGES = {
    "3.2.25": ("asgiref==3.8.1", "pytz==2024.1", "sqlparse==0.5.1"),
    "5.1.4": ("asgiref==3.8.1", "sqlparse==0.5.1"),
}
QUERY, TESTS = "django/db/models/query.py", "tests/get_or_create/tests.py"
BUG = tuple(f"return self.get(**kwargs), {created}\n        except" for created in (False, True))
DOCSTRING = "If we execute the exact same statement twice, the second time,"
TWICE = "Should be able to use update_or_create from the related manager to"
TRANSACTION = "Regression test for #15117. Requires a TransactionTestCase on"
SKIPPED = "Objects are selected and updated in a transaction to avoid race"
PK = "Using the pk property of a model is allowed."
NAMED = (
    "test_get_or_create_method_with_get"
    " (get_or_create.tests.GetOrCreateTests.test_get_or_create_method_with_get)"
)
"""As of Python 3.11, which names the method once more."""


def is_needed(path: str) -> bool:
    """Of the tests one app, of the languages English."""
    if path.startswith("django/"):
        return "/locale/" not in path or "/en/" in path or path.endswith("locale/__init__.py")
    return path.startswith(NEEDED)


@functools.cache
def toy(version: str) -> Toy:
    """`get_or_create` says that it created what it found."""
    files = {path: file for path, file in sdist(f"Django=={version}").items() if is_needed(path)}
    return instance(
        runner="django",
        files=files,
        bug=(QUERY, *BUG),
        hidden=TESTS,
        fail=(DOCSTRING, TWICE, NAMED),
        keep=(TRANSACTION, PK, SKIPPED),
        packages=PACKAGES[version],
    )


def rule(made: Toy) -> dict[str, frozenset[Outcome]]:
    """SWE-bench's over what Django prints: a skipped PASS_TO_PASS test is kept."""
    kept = frozenset({Outcome.PASSED, Outcome.SKIPPED})
    return dict.fromkeys(made.answer.fail_to_pass, frozenset({Outcome.PASSED})) | dict.fromkeys(
        made.answer.pass_to_pass, kept
    )


@pytest.mark.parametrize("version", PACKAGES)
def test_oracle_1_and_noop_0_by_the_names_that_django_prints(backend: Backend, version: str) -> None:
    made = toy(version)
    accepted = rule(made)
    oracle, noop = (
        grade(made.task, made.answer, patch, backend, made.start, accepted=accepted)
        for patch in (made.answer.gold_patch, b"")
    )
    assert oracle.verdict is not None
    assert (oracle.value, oracle.verdict.flags, oracle.verdict.controls) == (1.0, (), {})
    ends = oracle.verdict.report.outcomes
    assert ends == dict.fromkeys(ends, Outcome.PASSED) | {SKIPPED: Outcome.SKIPPED}
    assert noop.verdict is not None
    assert (noop.value, noop.verdict.flags) == (0.0, ())
    ends = noop.verdict.report.outcomes
    assert [ends[test] for test in made.answer.fail_to_pass] == [Outcome.FAILED] * 3
    assert (ends[PK], ends[SKIPPED]) == (Outcome.PASSED, Outcome.SKIPPED)


def added(made: Toy, path: str, text: str) -> bytes:
    before = made.base[path]
    return one_file(path, before, before.content.decode() + text)


@pytest.mark.parametrize("attack", FORGED)
def test_law_4_a_patch_that_forges_scores_0(backend: Backend, attack: str) -> None:
    made = toy("5.1.4")
    path, text = FORGED[attack]
    patch = added(made, path, text.replace("DOCSTRING", repr(DOCSTRING)))
    reward = grade(made.task, made.answer, patch, backend, made.start, accepted=rule(made))
    assert reward.value == 0.0, reward.verdict


def test_law_4_an_honest_change_of_the_runner_beside_the_solution_scores_1(backend: Backend) -> None:
    made = toy("5.1.4")
    patch = added(made, RUNNER, "\nDiscoverRunner.run_suite = DiscoverRunner.run_suite\n")
    reward = grade(
        made.task, made.answer, patch + made.answer.gold_patch, backend, made.start, accepted=rule(made)
    )
    assert reward.value == 1.0, reward.verdict


def test_the_labels_of_test_files() -> None:
    from gym_code.grading.box.django_runner import module_of

    assert module_of("tests/auth_tests/test_views.py") == "auth_tests.test_views"
    assert module_of("tests/admin_scripts/app/tests/deep.py") == "admin_scripts.app.tests.deep"
    others = ["tests/runtests.py", "tests/a/__init__.py", "tests/a/x.html", "django/test/a.py"]
    assert [module_of(path) for path in others] == [""] * 4
