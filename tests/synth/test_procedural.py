import random

import pytest

from gym_code.errors import TaskError
from gym_code.patch import apply_patch, with_changes
from gym_code.synth.families import BY_NAME, FAMILIES
from gym_code.synth.procedural import (
    ProceduralSuite,
    draw_function,
    evaluate,
    repository,
    split_of,
    suite,
)
from gym_code.types import tree_digest


def test_there_are_at_least_twelve_families_and_each_can_be_drawn_at_every_level() -> None:
    assert len(FAMILIES) >= 12
    made = ProceduralSuite(seed=3, count=len(FAMILIES) * 3)
    assert {(made.task(i).family, made.task(i).provenance["level"]) for i in made.ids()} == {
        (name, level) for name in BY_NAME for level in (1, 2, 3)
    }


def test_law_1_a_task_is_a_function_of_its_id() -> None:
    task_id = "procedural__pages-l3-f2-eval-12"
    first = ProceduralSuite().task(task_id), ProceduralSuite().answer(task_id), repository(task_id)
    repository.cache_clear()
    again = repository(task_id)
    assert first[2] == again
    assert first[0].digest == ProceduralSuite(seed=9).task(task_id).digest
    assert first[0].base_commit == ProceduralSuite().task(task_id).base_commit


def test_the_start_tree_is_what_its_digest_says() -> None:
    made = ProceduralSuite(seed=1, count=5)
    for task_id in made.ids():
        start = made.start(task_id)
        assert tree_digest(start.files()) == start.digest


def test_train_and_eval_share_no_feature() -> None:
    def stated(split: str) -> set[tuple[str, str]]:
        ids = ProceduralSuite(seed=5, count=400, split=split).ids()
        return {(path, f.source("...")) for i in ids for path, f in repository(i).missing.items()}

    train, held_out = stated("train"), stated("eval")
    assert len(held_out) > 200
    assert not train & held_out


def test_the_split_looks_at_what_is_stated_alone() -> None:
    made = repository("procedural__gap-l2-f1-eval-3")
    assert split_of(made.missing) == "eval"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.name)
def test_cases_tell_the_right_way_from_the_tempting_one(family) -> None:  # type: ignore[no-untyped-def]
    rng = random.Random(11)
    for level in (1, 3):
        function = draw_function(family, level, rng)
        for arguments, expected in function.telling:
            assert evaluate(function.right, function.parameters, arguments) == expected
            wrong = evaluate(function.wrong, function.parameters, arguments)
            assert type(wrong) is not type(expected) or wrong != expected


def test_level_3_combines_the_result_with_a_constant() -> None:
    function = draw_function(BY_NAME["at_least"], 3, random.Random(2))
    assert function.right.startswith("max(")
    assert " + " in function.right
    assert "Add " in function.doc


def test_several_functions_may_be_missing_at_once() -> None:
    task_id = "procedural__unique-l2-f3-train-8"
    task, answer = ProceduralSuite().task(task_id), ProceduralSuite().answer(task_id)
    assert len(task.instruction.splitlines()) == 3
    made = repository(task_id)
    assert with_changes(made.start, apply_patch(made.start, answer.gold_patch)) == made.solved
    assert len(made.missing) == 3
    assert len(answer.fail_to_pass) >= 6


def test_the_public_half_says_nothing_of_hidden_tests() -> None:
    made = ProceduralSuite(seed=2, count=3)
    for task_id in made.ids():
        assert not set(made.answer(task_id).fail_to_pass) & set(made.task(task_id).visible_tests)
        assert not any("hidden" in path for path in made.start(task_id).files())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("sed=1", "unknown option .* found sed"),
        ("seed=x", "seed is no number .* found x"),
        ("levels=0-9", "levels is no range .* found 0-9"),
        ("families=gap+gaps", "unknown family .* found gaps"),
        ("split=test", "unknown split .* found test"),
        ("functions=99", "functions out of range .* found 99"),
    ],
)
def test_bad_options_are_explained(options: str, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        suite(options)


@pytest.mark.parametrize(
    "task_id", ["nonsense", "procedural__gap-l9-f1-train-1", "procedural__gap-l1-f1-test-1"]
)
def test_an_id_of_no_task_is_refused(task_id: str) -> None:
    with pytest.raises(TaskError, match="no procedural task"):
        ProceduralSuite().task(task_id)
