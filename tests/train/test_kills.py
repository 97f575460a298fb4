"""Law 11 and law 8 where anything may be killed; `python -m tests.train.kills` plays many more cases."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.train.kills import VICTIMS, Case, Lane, cases, prepared

pytestmark = [pytest.mark.sandbox, pytest.mark.slow]


@pytest.fixture(scope="module")
def lane() -> Iterator[Lane]:
    # Not below pytest's directory: boxes of root belong to another user, who cannot enter it.
    with (
        tempfile.TemporaryDirectory(prefix="gym-code-kills-") as root,
        prepared(Path(root), 1, "torch") as lanes,
    ):
        yield lanes[0]


@pytest.mark.parametrize(
    ("number", "operation"),
    [
        (0, "os.rename r/checkpoints/.best.link"),
        (1, "os.rename r/checkpoints/.step-00001.tmp"),
        (2, "os.rename r/checkpoints/.LATEST.tmp"),
        (3, "shutil.rmtree r/checkpoints/step-00001"),
    ],
)
def test_law_11_killed_while_a_checkpoint_is_written_a_run_ends_with_the_same_bits(
    lane: Lane, number: int, operation: str
) -> None:
    outcome = lane.play(Case(number=number, victim="operation", place=lane.reference.before(operation)))
    assert outcome.problems == [], outcome
    assert outcome.at.endswith(operation)
    assert outcome.after == "resumed"


@pytest.mark.parametrize(
    ("number", "victim", "place"),
    [(4, "trainer", 0.4), (5, "keeper", 0.5), (6, "box", 0.35), (7, "box", 0.6)],
)
def test_law_11_killed_at_any_time_a_run_ends_with_the_same_bits(
    lane: Lane, number: int, victim: str, place: float
) -> None:
    outcome = lane.play(Case(number=number, victim=victim, place=place))
    assert outcome.problems == [], outcome
    assert (outcome.after == "resumed") == (victim == "trainer"), outcome


@pytest.mark.vllm
def test_law_11_with_vllm_killed_a_run_is_done_by_itself_or_resumed() -> None:
    with (
        tempfile.TemporaryDirectory(prefix="gym-code-kills-") as root,
        prepared(Path(root), 1, "vllm") as [lane],
    ):
        for number, victim in enumerate(("server", "trainer")):
            outcome = lane.play(Case(number=number, victim=victim, place=0.6))
            assert outcome.problems == [], outcome


def test_points_are_drawn_by_the_seed_and_spread_over_the_run() -> None:
    made = cases(70, 3, "torch")
    assert made == cases(70, 3, "torch")
    assert made != cases(70, 4, "torch")
    assert {case.number for case in made} == set(range(70))
    for victim in set(VICTIMS["torch"]):
        places = sorted(case.place for case in made if case.victim == victim)
        assert [int(place * len(places)) for place in places] == list(range(len(places)))
