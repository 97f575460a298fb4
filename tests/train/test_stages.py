"""Suites opened as a run begins: those at hand, and those of real packages, which are made once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from gym_code.errors import InputError
from gym_code.sandbox import Backend, open_backend
from train.config import load_config
from train.curriculum import Curriculum, reference
from train.stages import open_stages

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    made = open_backend("namespace")
    yield made
    made.close()


def test_stages_at_hand_are_loaded_and_an_unknown_package_is_refused(
    backend: Backend, tmp_path: Path
) -> None:
    config = load_config("tiny", {"stages": ["procedural", "starter"]})
    opened = open_stages(config.stages, config, backend, tmp_path)
    assert [[suite.name for suite in stage] for stage in opened] == [["procedural"], ["starter"]]
    plain, given = Curriculum(config), Curriculum(config, opened)
    assert [given.draw(n).task_id for n in range(20)] == [plain.draw(n).task_id for n in range(20)]
    with pytest.raises(InputError, match="real:leftpad: not in the list"):
        open_stages(["real:leftpad"], config, backend, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_tasks_of_a_real_package_are_made_once_and_drawn(backend: Backend, tmp_path: Path) -> None:
    config = load_config("tiny", {"stages": ["real:semver"], "real_tasks": 2, "workers": 2})
    told: list[str] = []
    [stage] = open_stages(config.stages, config, backend, tmp_path, told.append)
    assert told[0] == "tasks of semver: running its tests"
    assert told[-1].startswith("tasks of semver: 2 of 2 (")
    [suite] = stage
    assert reference(suite) == str(tmp_path / "semver")
    curriculum = Curriculum(config, [stage])
    draws = [curriculum.draw(number) for number in range(2)]
    assert sorted(draw.task_id for draw in draws) == list(suite.ids())
    assert all(draw.suite.task(draw.task_id).id == draw.unit for draw in draws)
    told.clear()
    [[again]] = open_stages(config.stages, config, backend, tmp_path, told.append)
    assert again.ids() == suite.ids()
    assert told == []
