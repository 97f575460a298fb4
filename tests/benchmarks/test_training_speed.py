"""benchmarks/training_speed: what is said of seconds, and that all contestants do the same work."""

from __future__ import annotations

import importlib.util
import os
import random
from pathlib import Path

import pytest

from benchmarks.training_speed import results
from benchmarks.training_speed.__main__ import check, describe, split
from benchmarks.training_speed.contestants import LAYOUTS, TRL, Ours, Theirs
from gym_code.errors import GymCodeError, InputError
from gym_code.types import Segment
from train.config import load_config

OURS = next(iter(LAYOUTS))


def test_the_ratio_is_the_median_over_rounds() -> None:
    # Round by round 2, 3, 10: a load in the last round hit both.
    assert results.median_ratio([2.0, 3.0, 50.0], [1.0, 1.0, 5.0]) == (3.0, (2.0, 10.0))
    with pytest.raises(InputError, match="not paired"):
        results.median_ratio([1.0], [])


@pytest.mark.parametrize(("slow", "word"), [([3.0] * 9, "PASS"), ([3.0] * 5 + [1.4] * 4, "FALLS SHORT")])
def test_the_required_speed_is_met_only_by_the_whole_interval(slow: list[float], word: str) -> None:
    said = results.summarize({1: {OURS: [1.0] * 9, TRL: slow}}, 600, OURS, TRL)
    assert said["rows"][0]["tokens_per_second"] == 600.0
    assert said["rows"][0]["times_faster"] == 3.0
    assert said["rows"][1]["tokens_per_second"] == 200.0
    assert results.verdict(said["required"][0]).startswith(f"- {word}: 1 thread: ")


def segments() -> list[Segment]:
    rng = random.Random(0)
    made = []
    for n in range(8):
        prompt = (7, 8, 9) if n < 4 else (11, 12)
        said = tuple(rng.randrange(20, 800) for _ in range(rng.randrange(4, 9)))
        mask = (*[0] * len(prompt), *[int(i != 2) for i in range(len(said))])
        made.append(
            Segment(
                task_id="t",
                group_id=str(n // 4),
                token_ids_T=prompt + said,
                action_mask_T=mask,
                logprobs_T=tuple(-2.0 * m for m in mask),
                advantages_T=tuple(m * (1.5, -0.5, -0.75, -0.25)[n % 4] for m in mask),
            )
        )
    return made


def test_what_is_learned_from_is_described() -> None:
    batches = split(segments(), load_config("tiny", {"minibatches": 2, "device": "cpu"}))
    assert [len(batch) for batch in batches] == [4, 4]
    assert {segment for batch in batches for segment in batch} == set(segments())
    said = describe(batches)
    assert (said["optimizer_steps"], said["segments"], said["groups"]) == (2, 8, 2)
    assert said["tokens"] - said["sampled"] == 4 * 3 + 4 * 2 + 8


@pytest.mark.slow
def test_all_contestants_do_the_same_work(tmp_path: Path) -> None:
    if importlib.util.find_spec("trl") is None:
        assert os.environ.get("CI") != "true", "CI lacks an oracle: pip install -e '.[oracle]'"
        pytest.skip("TRL is not installed (pip install -e '.[oracle]')")
    config = load_config("tiny", {"minibatches": 2, "device": "cpu"})
    batches = split(segments(), config)
    contestants = [*(Ours(name, config, batches) for name in LAYOUTS), Theirs(config, batches, tmp_path)]
    first = check(contestants)  # two losses each; the second is of the weights that the first step made
    assert first["largest_loss"] > 1e-3
    assert check(contestants) == pytest.approx(first, abs=1e-5), "they did not go back to the beginning"
    with pytest.raises(GymCodeError, match="the losses differ"):
        check([Ours(OURS, config, [batch[::2] for batch in batches]), contestants[-1]])
