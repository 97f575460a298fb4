"""Optimizer steps on a small fixed batch."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from gym_code.errors import GymCodeError
from gym_code.types import Segment
from tests.train.small_model import batch, sharp_policy
from train.config import Config, load_config
from train.logprob import token_logprobs
from train.loss import OBJECTIVES
from train.model import checkpoint_activations
from train.update import update


def learned(config: Config, model: Any | None = None) -> tuple[dict[str, float], torch.Tensor, torch.Tensor]:
    """What an update reports, the gradients of its last optimizer step, and the adapter after it."""
    model = model or sharp_policy()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1.0)
    row = update(model, optimizer, batch(model), config, step=3)
    gradients = torch.cat([p.grad.flatten() for p in trained])
    return row, gradients, torch.cat([p.detach().flatten() for p in trained])


RECORDED = [-0.00810692, 0.00921144, 0.00578575, -0.00211431, 0.00114432]
"""Every 1100th gradient of the first step."""
SHIPPED = {"minibatches": 1, "learning_rate": 0.05, "max_grad_norm": 1e9}
PADDED = {"pack_length": 0, "shared_prefix": False}
PLAIN = SHIPPED | PADDED


@pytest.mark.parametrize("options", [SHIPPED, PLAIN])
def test_the_reference_runs_step_is_what_it_was(options: dict[str, Any]) -> None:
    # Recorded before objectives had names: one clipped, padded, unchunked forward of dr_grpo.
    row, gradients, adapter = learned(load_config("tiny", options))
    assert row["loss"] == pytest.approx(0.017106911, abs=1e-6)
    assert row["entropy"] == pytest.approx(3.254366875, abs=1e-5)
    assert row["clipped"] == pytest.approx(0.134615391, abs=1e-6)
    assert row["ratio_max"] == pytest.approx(2.136446238, abs=1e-5)
    assert row["approx_kl"] == pytest.approx(0.038452610, abs=1e-6)
    assert row["mismatch"] == pytest.approx(0.759143829, abs=1e-5)
    assert row["grad_norm"] == pytest.approx(0.405721545, abs=1e-6)
    assert float(gradients.abs().sum()) == pytest.approx(18.917453766, rel=2e-6)
    assert gradients[::1100].tolist() == pytest.approx(RECORDED, abs=1e-7)
    assert float(adapter.norm()) == pytest.approx(14.565608978, abs=1e-5)


@pytest.mark.parametrize("options", [SHIPPED, PLAIN])
def test_the_second_minibatch_is_what_it_was(options: dict[str, Any]) -> None:
    row, gradients, _ = learned(load_config("tiny", options | {"minibatches": 2}))
    assert row["loss"] == pytest.approx(0.017135343, abs=1e-6)
    assert row["grad_norm"] == pytest.approx(0.558057457, abs=1e-6)
    assert row["mismatch"] == pytest.approx(0.690769196, abs=1e-5)
    assert float(gradients.norm()) == pytest.approx(0.621596515, abs=2e-6)


def test_a_gradient_that_is_no_number_ends_the_run_before_the_policy_is_none() -> None:
    model = sharp_policy()
    before = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    rotten = [dataclasses.replace(s, advantages_T=(math.nan,) * len(s.token_ids_T)) for s in batch(model)]
    with pytest.raises(GymCodeError, match="the gradient is infinite or no number"):
        update(model, optimizer, rotten, load_config("tiny", SHIPPED), step=3)
    after = [p for p in model.parameters() if p.requires_grad]
    assert all(torch.equal(old, new) for old, new in zip(before, after, strict=True))


SMALL = {"pack_length": 64, "shared_prefix": True, "forward_tokens": 100, "gradient_checkpointing": True}


@pytest.mark.parametrize(
    ("objective", "layout"),
    [
        *((objective, SMALL) for objective in OBJECTIVES),
        ("dr_grpo", {"pack_length": 64}),
        ("dr_grpo", {"pack_length": 64, "shared_prefix": True}),
        ("dr_grpo", {"forward_tokens": 60}),
    ],
)
def test_layout_and_memory_change_no_objective(objective: str, layout: dict[str, Any]) -> None:
    same = PLAIN | {"objective": objective}
    row, gradients, _ = learned(load_config("tiny", same))
    model = sharp_policy()
    if layout.get("gradient_checkpointing"):
        checkpoint_activations(model)
    its_row, its_gradients, _ = learned(load_config("tiny", same | layout), model)
    assert its_row["loss"] == pytest.approx(row["loss"], abs=2e-6)
    assert its_row["clipped"] == pytest.approx(row["clipped"], abs=1e-6)
    assert float((its_gradients - gradients).norm() / gradients.norm()) <= 1e-5


def test_recomputed_and_served_agree_where_the_engine_is_exact() -> None:
    model = sharp_policy()
    exact = [
        dataclasses.replace(s, logprobs_T=tuple(row[: len(s.token_ids_T)]))
        for s, row in zip(batch(model), logprobs_of(model, batch(model)).tolist(), strict=True)
    ]
    rows = {}
    adapters = {}
    for old_policy in ("served", "recomputed"):
        model = sharp_policy()
        trained = [p for p in model.parameters() if p.requires_grad]
        config = load_config("tiny", PLAIN | {"minibatches": 3, "old_policy": old_policy})
        rows[old_policy] = update(model, torch.optim.SGD(trained, lr=1.0), exact, config, step=3)
        adapters[old_policy] = torch.cat([p.detach().flatten() for p in trained])
    assert rows["recomputed"]["approx_kl"] > 1e-5  # the later minibatches are off-policy in both
    assert rows["recomputed"]["approx_kl"] == pytest.approx(rows["served"]["approx_kl"], abs=1e-6)
    assert rows["recomputed"]["mismatch_kl"] < 1e-8
    assert float((adapters["recomputed"] - adapters["served"]).abs().max()) <= 1e-6


def test_what_an_engine_computes_otherwise_is_weighted_and_not_clipped() -> None:
    # Served logprobs 0.3 nats off and a single on-policy step: the ratio is 1, the weights are not.
    row, gradients, _ = learned(load_config("tiny", PLAIN | {"old_policy": "recomputed"}))
    assert (row["clipped"], row["ratio_max"], row["approx_kl"]) == (0.0, 1.0, 0.0)
    assert row["mismatch_kl"] == pytest.approx(0.045, abs=0.01)  # 0.3^2 / 2
    narrow = {"old_policy": "recomputed", "geo_mask_low": 0.95, "geo_mask_high": 1.05}
    row, its_gradients, _ = learned(load_config("tiny", PLAIN | narrow))
    assert 0 < row["masked"] < 1
    assert float((its_gradients - gradients).abs().max()) > 1e-5


def test_the_reference_is_the_model_without_its_adapter() -> None:
    fresh = sharp_policy()
    with torch.no_grad():
        for name, parameter in fresh.named_parameters():
            parameter.mul_("lora_B" not in name)  # an adapter that does nothing: the policy is the base
    for model, expected in ((fresh, 0.0), (sharp_policy(), 0.03)):
        row, _, _ = learned(load_config("tiny", PLAIN | {"kl_coef": 0.1}), model)
        assert row["reference_kl"] >= expected
        assert expected or row["reference_kl"] < 1e-9


def test_checkpointed_bf16_steps_near_fp32() -> None:
    _, gradients, _ = learned(load_config("tiny", PLAIN))
    model = sharp_policy(torch.bfloat16)
    checkpoint_activations(model)
    segments = batch(sharp_policy())
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    config = load_config("tiny", PLAIN | {"dtype": "bfloat16", "pack_length": 128, "shared_prefix": True})
    row = update(model, torch.optim.SGD(trained, lr=1.0), segments, config, step=3)
    its_gradients = torch.cat([p.grad.flatten() for p in trained])
    assert row["loss"] == pytest.approx(0.0167, abs=0.003)
    assert float(torch.nn.functional.cosine_similarity(gradients, its_gradients, dim=0)) > 0.98


def logprobs_of(model: Any, segments: list[Segment]) -> torch.Tensor:
    with torch.no_grad():
        return token_logprobs(model, segments, 1.0)[0]
