"""benchmarks/learning: the order of the runs, what is said of them, and what TRL is given."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.learning import results
from benchmarks.learning.peer import tokens_of, warmup
from benchmarks.learning.plan import chosen, plan
from benchmarks.learning.run import configured, held_out_orders
from benchmarks.page import between_marks
from benchmarks.trl_trainer import loss_options
from gym_code.errors import ConfigError, InputError
from gym_code.types import Completion, Stop, Trajectory, Turn
from train.segments import segments_of


def test_a_plan_cut_short_has_some_of_each() -> None:
    names = [run.name for run in plan(seeds=3, trl_seeds=1)]
    assert names[:4] == ["dr_grpo-seed0", "shuffled-seed0", "dr_grpo-seed1", "shuffled-seed1"]
    assert names[4:8] == ["trl-dr_grpo-seed0", "grpo-seed0", "dr_grpo-seed2", "shuffled-seed2"]
    assert names[8:] == ["dapo-seed0", "gspo-seed0", "cispo-seed0", "rloo-seed0", "trl-dapo-seed0"]


def test_kinds_are_chosen_by_name() -> None:
    assert [run.name for run in chosen(plan(2, 0), ["shuffled"])] == ["shuffled-seed0", "shuffled-seed1"]


def test_every_run_is_evaluated_on_the_same_draws() -> None:
    def drawn(kind: str, seed: int) -> list[tuple[str, int]]:
        return [(order.sample_id, order.seed) for order in held_out_orders(configured(kind, seed, steps=9))]

    assert drawn("gspo", seed=3) == drawn("shuffled", seed=0)
    assert len(drawn("dapo", seed=0)) == len({seed for _, seed in drawn("dapo", seed=0)}) == 480


def test_an_unknown_kind_is_an_error() -> None:
    with pytest.raises(ConfigError, match="objective"):
        configured("trl-dapo", seed=0, steps=1)


def test_the_t_interval() -> None:
    # Mean 2, deviation 1, t(0.975, 2) = 4.303: 2 +- 4.303 / sqrt(3).
    assert results.t_interval([1.0, 2.0, 3.0]) == pytest.approx((-0.4843, 4.4843), abs=1e-4)
    with pytest.raises(InputError, match="no interval"):
        results.t_interval([1.0])


def test_the_bootstrap_takes_the_tasks_of_all_seeds_together() -> None:
    row = np.array([[0.0, 1.0] * 20])
    one, many = results.crossed_bootstrap(row), results.crossed_bootstrap(np.repeat(row, 30, axis=0))
    # Thirty seeds that agree say no more of other tasks than one; tasks drawn for each apart would.
    assert many == pytest.approx(one, abs=0.02)
    assert one == pytest.approx((0.35, 0.65), abs=0.03)
    # Seeds that disagree widen it although every task says the same.
    assert results.crossed_bootstrap(np.array([[0.0] * 9, [1.0] * 9])) == (0.0, 1.0)


def test_ungraded_samples_count_for_nothing() -> None:
    base = {"a": [0.0, None], "b": [None, None], "c": [1.0, 0.0]}
    after = {"a": [1.0, 1.0], "b": [1.0, 1.0], "c": [None, 1.0]}
    tasks = results.graded(base, after)
    assert tasks == ["a", "c"]
    assert results.pass1(base, tasks).tolist() == [0.0, 0.5]
    assert results.pass1(after, tasks).tolist() == [1.0, 1.0]


BASE = {"a": [0.0, 0.0], "b": [1.0, 0.0]}
SETUP = {"steps": 2, "evaluate": [1, 2], "commit": "0123abc"}


def run(kind: str, seed: int, solved: float) -> dict[str, Any]:
    rewards = {"a": [solved, solved], "b": [1.0, 0.0]}
    rows = [{"step": n, "reward": 0.5, "rollouts": 128} for n in range(2)]
    return {
        "kind": kind,
        "seed": seed,
        "rows": rows,
        "held_out": {"1": BASE, "2": rewards},
        "seconds": 9.0,
    }


def verdicts(solved: list[float], control: list[float]) -> list[str]:
    runs = [run("dr_grpo", n, value) for n, value in enumerate(solved)]
    runs += [run("shuffled", n, value) for n, value in enumerate(control)]
    return [results.verdict(row) for row in results.summarize(SETUP, BASE, runs)["required"]]


def test_the_required_outcomes() -> None:
    learned, controlled = verdicts([1.0, 0.9, 1.0, 0.9, 1.0], [0.0, 0.02, 0.0, -0.02, 0.0])
    # Gains of one task of two: 0.5, 0.45, 0.5, 0.45, 0.5.
    assert learned.startswith(
        "- PASS: the interval of the mean held-out gain lies above 0: +48.0 [+44.6, +51.4]"
    )
    assert controlled.startswith(
        "- PASS: with shuffled advantages it lies within 5 points of 0: +0.0 [-0.9, +0.9]"
    )
    learned, controlled = verdicts([1.0, -1.0, 0.1, 0.0, 0.0], [0.1, 0.1, 0.1, 0.1, 0.11])
    assert learned.startswith("- FALLS SHORT")
    assert controlled.startswith("- FALLS SHORT")
    assert all(text.startswith("- NOT MEASURED") for text in verdicts([1.0] * 4, []))


def test_the_tables() -> None:
    runs = [run("dr_grpo", 0, 1.0), run("dr_grpo", 1, 1.0), run("trl-dapo", 1, 0.0)]
    text = results.markdown(results.summarize(SETUP, BASE, runs))
    assert (
        "| dr_grpo (default) | 2 | 0.250 | 0.250 | 0.750 | +50.0 | [+50.0, +50.0] | [+0.0, +100.0] |" in text
    )
    assert (
        "| TRL GRPOTrainer, dapo (its default loss) | 1 | 256 | 0.750 | 0.250 | +50.0 | [+0.0, +100.0] |"
        in text
    )
    assert "code at `0123abc`" in text


def turn(prompt: list[int], said: list[int]) -> Turn:
    return Turn(
        prompt_token_ids=tuple(prompt),
        completion=Completion(
            token_ids=tuple(said), logprobs=tuple(-float(t) for t in said), text="", finish_reason="stop"
        ),
    )


def test_law_2_trl_gets_the_tokens_that_were_sampled() -> None:
    turns = (turn([1, 2], [3, 4]), turn([1, 2, 3, 4, 9], [5]))
    played = Trajectory(task_id="t", task_digest="", group_id="g", turns=turns, stop=Stop.SUBMITTED)
    prompt, completion, logprobs, sampled = tokens_of(played)
    #       P  P   a  a  E  a
    assert (prompt, completion) == ([1, 2], [3, 4, 9, 5])
    assert logprobs == [-3.0, -4.0, 0.0, -5.0]
    assert sampled == [1, 1, 0, 1]
    (segment,) = segments_of(played, 1.0)
    assert segment.token_ids_T == (*prompt, *completion)
    assert segment.action_mask_T == (0, 0, *sampled)


def test_trl_learns_nothing_from_an_episode_that_was_cut_off() -> None:
    cut = Trajectory(task_id="t", task_digest="", group_id="g", turns=(turn([1, 2], [3]),), stop=Stop.TURNS)
    assert tokens_of(cut)[3] == [0]
    never_opened = Trajectory(task_id="t", task_digest="", group_id="g", turns=(), stop=Stop.FAULT)
    assert tokens_of(never_opened) == ([0], [0], [0.0], [0])


def test_trl_has_our_learning_rates() -> None:
    config = configured("dr_grpo", seed=0, steps=20)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=config.learning_rate)
    schedule, rates = warmup(optimizer, config), []
    for _ in range(6):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    # Two optimizer steps a batch, two batches of warm-up.
    assert rates == pytest.approx([5e-4, 5e-4, 1e-3, 1e-3, 1e-3, 1e-3])


def test_trls_names_for_an_objective() -> None:
    assert loss_options(configured("dr_grpo", 0, 1)) == {
        "loss_type": "dr_grpo", "epsilon": 0.2, "epsilon_high": 0.28, "beta": 0.0, "scale_rewards": "none"
    }  # fmt: skip
    assert loss_options(configured("dapo", 0, 1))["scale_rewards"] == "group"


def test_tables_stand_between_the_marks_of_their_benchmark() -> None:
    page = "<!-- a: begin -->\nold\n<!-- a: end -->\n<!-- b: begin -->\nkept\n<!-- b: end -->\n"
    wanted = "<!-- a: begin -->\nnew\n<!-- a: end -->\n<!-- b: begin -->\nkept\n<!-- b: end -->\n"
    assert between_marks(page, "a", "new\n") == wanted
    with pytest.raises(InputError, match="no place for the tables"):
        between_marks(page, "c", "new\n")
