"""One patch of several, chosen without the answer: by real visible tests in clean boxes, and by votes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from agents import best_of
from agents.best_of import choose
from gym_code.errors import ConfigError, SandboxError
from gym_code.sandbox import open_backend
from gym_code.sandbox.memory import MemoryBackend
from tests.toys import ADD, ToySuite, patch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from gym_code.evaluate.store import Choice
    from gym_code.sandbox.base import Backend, BoxSpec, Sandbox
    from gym_code.types import Answer


class NoAnswers(ToySuite):
    """Whoever chooses may not look."""

    def answer(self, task_id: str) -> Answer:
        raise AssertionError("the answer was read")


SUITE = NoAnswers(ADD)
HONEST = patch(ADD.start, ADD.gold)
SAME = patch(ADD.start, {"calc.py": ADD.gold["calc.py"].replace("b\n\n\n", "b  \n\n# The difference.\n\n")})
WRONG = patch(ADD.start, {"calc.py": ADD.gold["calc.py"].replace("a - b", "a * b")})  # breaks test_sub
OTHER = patch(ADD.start, {"calc.py": ADD.gold["calc.py"].replace("a + b", "b + a")})
TEST = "tests/test_calc.py"
FORGED = patch(
    ADD.start,
    {
        "calc.py": ADD.start["calc.py"].replace("a - b", "0"),
        TEST: "def test_sub():\n    pass\n\n\ndef test_add_zero():\n    pass\n",
        "tests/conftest.py": "import pytest\n\n\n@pytest.hookimpl(hookwrapper=True)\n"
        "def pytest_runtest_makereport():\n    (yield).get_result().outcome = 'passed'\n",
    },
)
NO_FIT = HONEST.replace(b"-    return a - b", b"-    return nothing", 1)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    backend = open_backend("namespace")
    yield backend
    backend.close()


def chosen(
    backend: Backend, patches: Sequence[bytes | None], selector: str = "visible", suite: ToySuite = SUITE
) -> Choice:
    [choice] = choose(suite, {ADD.id: patches}, selector, backend, jobs=2)
    assert (choice.instance_id, choice.selector) == (ADD.id, selector)
    return choice


def test_the_patches_of_this_file_are_what_their_names_say() -> None:
    files = {path: file.content for path, file in SUITE.start(ADD.id).files().items()}
    assert len({HONEST, SAME, WRONG, OTHER, FORGED, NO_FIT}) == 6
    assert b"assert" in files[TEST]


@pytest.mark.sandbox
def test_visible_tests_choose_and_a_forger_is_not_believed(backend: Backend) -> None:
    # Three samples agree on tests that always pass; with one the tests that are there pass.
    choice = chosen(backend, [FORGED, FORGED, FORGED, HONEST])
    assert choice.sample == 3
    assert choice.why == "2 of 2 visible tests pass with it; 1 of 4 samples agree on it"
    assert chosen(backend, [WRONG, WRONG, OTHER]).sample == 2
    # Without an honest one the forger wins nothing: its fraction is that of its code.
    assert chosen(backend, [FORGED, WRONG]).why.startswith("1 of 2 visible tests pass")


@pytest.mark.sandbox
def test_ties_go_to_the_majority_and_then_to_the_smallest_sample(backend: Backend) -> None:
    choice = chosen(backend, [OTHER, HONEST, WRONG, SAME])
    assert choice.sample == 1
    assert choice.why == "2 of 2 visible tests pass with it; 2 of 4 samples agree on it"
    assert chosen(backend, [OTHER, HONEST]).sample == 0


@pytest.mark.sandbox
def test_what_changes_nothing_is_chosen_only_where_there_is_nothing_else(backend: Backend) -> None:
    only_tests = patch(ADD.start, {TEST: "def test_sub():\n    pass\n"})
    assert chosen(backend, [b"", only_tests, NO_FIT, b"no diff", WRONG, None]).sample == 4
    choice = chosen(backend, [None, b"", NO_FIT])
    assert (choice.sample, choice.why) == (1, "no sample has a patch that applies and changes something")
    choice = chosen(backend, [None, None])
    assert (choice.sample, choice.why) == (0, "no sample has a patch")


@pytest.mark.sandbox
def test_what_was_run_is_not_run_again(
    backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: Counter[bytes] = Counter()
    real = best_of.grade

    def counting(task, answer, patch, backend, start):  # type: ignore[no-untyped-def]
        runs[patch] += 1
        return real(task, answer, patch, backend, start)

    monkeypatch.setattr(best_of, "grade", counting)
    cache, told = tmp_path / "visible.jsonl", list[tuple[int, int]]()
    patches = {ADD.id: [HONEST, HONEST, b"", WRONG]}
    first = choose(SUITE, patches, "visible", backend, cache=cache, on_done=lambda *s: told.append(s))
    assert runs == {HONEST: 1, WRONG: 1}
    assert told == [(1, 3), (2, 3), (3, 3)]
    cache.write_bytes(cache.read_bytes()[:-20])  # killed while it wrote
    assert choose(SUITE, patches, "visible", backend, cache=cache) == first
    assert sum(runs.values()) <= 3
    before = sum(runs.values())
    assert choose(SUITE, patches, "visible", backend, cache=cache) == first
    assert sum(runs.values()) == before


@pytest.mark.parametrize(
    ("patches", "sample"),
    [
        ([WRONG, HONEST, SAME], 1),
        ([WRONG, HONEST, HONEST, WRONG], 0),
        ([b"", b"", b"", WRONG], 3),
        ([NO_FIT, NO_FIT, None, OTHER], 3),
    ],
)
def test_the_majority_is_found_without_a_box(patches: list[bytes | None], sample: int) -> None:
    assert chosen(NoBoxes(), patches, "majority").sample == sample


def test_the_first_is_the_first_that_has_a_patch() -> None:
    choice = chosen(NoBoxes(), [None, b"", HONEST], "first")
    assert (choice.sample, choice.why) == (1, "the first sample with a patch")


def test_without_visible_tests_or_boxes_the_majority_decides() -> None:
    choice = chosen(NoBoxes(), [WRONG, HONEST, HONEST])
    assert (choice.sample, choice.why) == (
        1, "2 of 3 samples agree on it; the visible tests could not be run",
    )  # fmt: skip
    none = NoAnswers(replace(ADD, pass_to_pass=()))
    choice = chosen(NoBoxes(), [WRONG, HONEST, SAME], suite=none)
    assert (choice.sample, choice.why) == (1, "2 of 3 samples agree on it; there are no visible tests")


def test_an_unknown_selector_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"expected visible \| majority \| first, found best"):
        choose(SUITE, {}, "best", NoBoxes())


class NoBoxes(MemoryBackend):
    """Opens none."""

    def open(self, spec: BoxSpec) -> Sandbox:
        raise SandboxError("no box")
