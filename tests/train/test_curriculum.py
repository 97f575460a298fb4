import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gym_code.errors import ConfigError
from gym_code.synth.families import BY_NAME
from gym_code.synth.procedural import ProceduralSuite, family_of
from gym_code.task import load_suite
from train.config import Config, load_config
from train.curriculum import Curriculum, Draw

THREE = ("at_least", "pages", "gap")
LISTED = "procedural:count=4,families=gap+pages,levels=1"


def three_families(**values: object) -> Config:
    """A run that trains on three families; by default two draws a step."""
    left_out = [name for name in BY_NAME if name not in THREE]
    return load_config("tiny", {"groups": 2, "held_out_families": left_out} | values)


def drawn(curriculum: Curriculum, numbers: range) -> list[str]:
    return [curriculum.draw(number).unit for number in numbers]


def record(curriculum: Curriculum, number: int, *rewards: float | None) -> Draw:
    draw = curriculum.draw(number)
    curriculum.record(draw, rewards)
    return draw


def test_without_records_families_come_in_turn_with_fresh_tasks() -> None:
    curriculum = Curriculum(load_config("tiny", {"seed": 3, "groups": 4}))
    assert [curriculum.draw(number).task_id for number in (0, 1, 4, 8, 12)] == [
        "procedural__at_least-l1-f1-train-300001000000",
        "procedural__at_most-l1-f1-train-300001000001",
        "procedural__every_nth-l2-f1-train-300002000000",
        "procedural__wrap_item-l3-f1-train-300003000000",
        "procedural__unique-l1-f1-train-300004000000",
    ]
    assert curriculum.draw(16).unit == "at_least"  # 16 families are trained on


def test_a_flat_unit_is_skipped_and_looked_at_again() -> None:
    curriculum = Curriculum(three_families(skip_flat=True, rate_window=2, retry_every=4))
    assert drawn(curriculum, range(4)) == ["at_least", "pages", "gap", "at_least"]
    for number in range(4):  # at_least twice, the others once
        record(curriculum, number, 0.0, 0.0)
    # Turns 3, 7, 11 look at what is skipped; the others go through pages and gap.
    assert drawn(curriculum, range(8)) == [
        *("pages", "gap", "pages", "at_least"),
        *("gap", "pages", "gap", "at_least"),
    ]
    assert curriculum.metrics()["skipped"] == 1
    record(curriculum, 7, 0.0, 1.0)
    assert drawn(curriculum, range(4)) == ["at_least", "pages", "gap", "at_least"]


def test_all_1_is_skipped_and_one_window_of_both_is_not() -> None:
    curriculum = Curriculum(three_families(skip_flat=True, rate_window=2))
    for rewards in ((0.0, 0.0), (1.0, 1.0)):
        curriculum.record(curriculum.draw(0), rewards)
    assert curriculum.metrics()["skipped"] == 0
    curriculum.record(curriculum.draw(0), (1.0, 1.0))
    assert curriculum.metrics()["skipped"] == 1


def test_where_every_unit_is_skipped_they_come_in_turn() -> None:
    curriculum = Curriculum(three_families(skip_flat=True, rate_window=1))
    for number in (0, 1, 2):
        record(curriculum, number, 0.0, 0.0)
    assert curriculum.metrics()["skipped"] == 3
    assert drawn(curriculum, range(3, 7)) == ["at_least", "pages", "gap", "at_least"]


def test_without_skip_flat_nothing_is_skipped() -> None:
    curriculum = Curriculum(three_families(rate_window=1))
    record(curriculum, 0, 0.0, 0.0)
    assert drawn(curriculum, range(3)) == ["at_least", "pages", "gap"]


def test_a_stage_that_is_solved_makes_way_for_the_next() -> None:
    config = three_families(
        stages=["procedural", LISTED], promote_at=0.7, promote_after=4, earlier_share=0.25, skip_flat=False
    )
    curriculum = Curriculum(config)
    for number, rewards in enumerate([(1.0, 0.0), (1.0, 1.0), (1.0, None)]):
        assert record(curriculum, number, *rewards).stage == 0
    # Means 0.5, 1, 1 over the units, so 0.83; but these are three groups.
    assert curriculum.metrics() == {"stage": 0.0, "stage_solve_rate": pytest.approx(5 / 6), "skipped": 0.0}
    curriculum.record(curriculum.draw(3), (None, None))  # ungraded: counts for nothing
    assert curriculum.metrics()["stage"] == 0
    record(curriculum, 4, 0.0, 0.0)  # pages at 0.5 now: 0.67 of 0.7
    assert curriculum.metrics()["stage"] == 0
    record(curriculum, 5, 1.0, 1.0)  # 0.67 still
    record(curriculum, 6, 1.0, 1.0)  # at_least at 0.75: 0.75
    assert curriculum.metrics() == {"stage": 1.0, "stage_solve_rate": 0.0, "skipped": 0.0}
    draws = [curriculum.draw(number) for number in range(7, 15)]
    assert [draw.stage for draw in draws] == [0, 1, 1, 1, 0, 1, 1, 1]
    assert [draw.unit for draw in draws if draw.stage == 0] == ["pages", "gap"]
    assert {draw.unit for draw in draws if draw.stage == 1} == {"gap", "pages"}
    assert {draw.task_id for draw in draws if draw.stage == 1} <= set(draws[1].suite.ids())


def test_a_stage_that_is_not_solved_is_left_after_so_many_groups() -> None:
    config = three_families(stages=["procedural", LISTED], stage_groups=3, skip_flat=False)
    made = Curriculum(config)
    stages = []
    for number in range(8):
        draw = made.draw(number)
        stages.append(made.metrics()["stage"])
        made.record(draw, [0.0, 0.0])
    assert stages == [0.0] * 3 + [1.0] * 5


def test_a_late_group_of_an_earlier_stage_does_not_promote() -> None:
    config = three_families(stages=["procedural", LISTED, "starter"], promote_after=1, skip_flat=False)
    curriculum = Curriculum(config)
    early = curriculum.draw(1)
    record(curriculum, 0, 1.0, 1.0)
    assert curriculum.metrics()["stage"] == 1
    curriculum.record(early, (1.0, 1.0))
    assert curriculum.metrics()["stage"] == 1


def test_units_of_other_suites_are_tasks_and_all_come_up() -> None:
    curriculum = Curriculum(load_config("tiny", {"stages": ["starter"]}))
    draws = [curriculum.draw(number) for number in range(25)]
    assert {draw.unit for draw in draws} == {draw.task_id for draw in draws} == set(draws[0].suite.ids())
    other = Curriculum(load_config("tiny", {"stages": ["starter"], "seed": 1}))
    assert drawn(other, range(25)) != drawn(curriculum, range(25))


def test_every_task_of_a_listed_family_comes_up() -> None:
    curriculum = Curriculum(load_config("tiny", {"stages": [LISTED]}))
    draws = [curriculum.draw(number) for number in range(4)]
    assert {draw.task_id for draw in draws} == set(draws[0].suite.ids())
    assert [draw.unit for draw in draws] == [family_of(draw.task_id) for draw in draws]


def test_tasks_for_evaluation_are_never_drawn() -> None:
    config = load_config("tiny", {"stages": ["held out"]})
    with pytest.raises(ConfigError, match="stages: held out: no task to train on"):
        Curriculum(config, [ProceduralSuite(count=3, split="eval")])
    left_out = [name for name in BY_NAME if name != "gap"]
    curriculum = Curriculum(load_config("tiny", {"stages": [LISTED], "held_out_families": left_out}))
    assert set(drawn(curriculum, range(8))) == {"gap"}


groups = st.lists(st.tuples(st.integers(0, 4), st.sampled_from([0.0, 0.5, 1.0])), max_size=40)


@settings(deadline=None, max_examples=50)
@given(groups, groups)
def test_a_restored_curriculum_draws_as_one_that_went_on(
    before: list[tuple[int, float]], after: list[tuple[int, float]]
) -> None:
    config = three_families(stages=["procedural", LISTED], promote_after=5, rate_window=2, retry_every=3)
    whole, first = Curriculum(config), Curriculum(config)

    def go(curriculum: Curriculum, start: int, rows: list[tuple[int, float]]) -> list[Draw]:
        draws = []
        for number, (lag, reward) in enumerate(rows, start):
            draws.append(curriculum.draw(number))
            curriculum.record(curriculum.draw(max(0, number - lag)), (reward, reward))
        return draws

    def plain(draws: list[Draw]) -> list[tuple[object, ...]]:
        return [(draw.number, draw.stage, draw.unit, draw.task_id) for draw in draws]

    expected = go(whole, 0, before), go(whole, len(before), after)
    assert plain(go(first, 0, before)) == plain(expected[0])
    second = Curriculum(config)
    second.restore(json.loads(json.dumps(first.state())))
    assert plain(go(second, len(before), after)) == plain(expected[1])
    assert second.metrics() == whole.metrics()


def test_a_stage_may_hold_several_suites() -> None:
    config = load_config("tiny", {"stages": ["starter"]})
    starter, other = load_suite("starter"), ProceduralSuite(count=1, families=["gap"])
    curriculum = Curriculum(config, [[starter, other]])
    draws = {draw.unit: draw for draw in map(curriculum.draw, range(26))}
    assert set(draws) == {*starter.ids(), "gap"}
    assert draws["gap"].suite is other
    assert draws[starter.ids()[0]].suite is starter


def test_demonstrated_tasks_are_of_all_stages_never_twice_and_never_drawn() -> None:
    curriculum = Curriculum(three_families(stages=["procedural", LISTED]))
    shown = curriculum.demonstrated(20)
    assert [draw.unit for draw in shown if draw.stage == 0][:4] == ["at_least", "pages", "gap", "at_least"]
    assert [draw.stage for draw in shown[:4]] == [0, 1, 0, 1]
    assert {draw.task_id for draw in shown if draw.stage == 1} == set(load_suite(LISTED).ids())
    assert len({draw.task_id for draw in shown}) == len(shown) == 10 + 4
    drawn_ids = {curriculum.draw(number).task_id for number in range(200)}
    assert not drawn_ids & {draw.task_id for draw in shown if draw.stage == 0}


def test_a_state_of_other_tasks_is_refused() -> None:
    config = load_config("tiny", {"stages": [LISTED]})
    other = dataclasses.replace(config, stages=("procedural:count=4,families=gap",))
    with pytest.raises(ConfigError, match="made with other tasks"):
        Curriculum(other).restore(Curriculum(config).state())


def test_several_stages_skip_by_default() -> None:
    assert not load_config("tiny", {}).skip_flat
    assert load_config("tiny", {"stages": ["procedural", "starter"]}).skip_flat


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"stages": []}, "stages: no stage"),
        ({"earlier_share": 1.0}, "earlier_share: nothing is left .* .expected less than 1, found 1.0"),
        ({"retry_every": 1}, "retry_every: too small .expected >= 2, found 1"),
    ],
)
def test_bad_values_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_config("tiny", values)
