"""Our losses and gradients against those of TRL's trainers: the same model, adapter, batch and advantages.

TRL computes its own logprobs through its own fused head, from prompts padded on the left and completions
padded on the right; ours come from packed segments. They share the model and the numbers given, no more.
"""

import importlib.util
import os
import random
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from gym_code.types import Segment
from tests.train.small_model import small_policy
from train.logprob import packed_logprobs, pad
from train.loss import Batch, Rules, policy_loss
from train.model import TINY
from train.pack import pack

if importlib.util.find_spec("trl") is None:
    if os.environ.get("CI") == "true":
        raise RuntimeError("CI lacks an oracle: pip install -e '.[oracle]'")
    pytest.skip("TRL is not installed (pip install -e '.[oracle]')", allow_module_level=True)

pytestmark = pytest.mark.slow  # the import of TRL

LENGTH = 9
CLOSE = 1e-6


@pytest.fixture(scope="module")
def model() -> Any:
    return small_policy(0.2, vocabulary=896)


@pytest.fixture(scope="module")
def segments(model: Any) -> list[Segment]:
    """Eight completions, two prompts; inside every other a tool's answer, which is not trained."""
    rng = random.Random(0)
    made = []
    for n in range(8):
        prompt = (7, 8, 9, 10) if n < 4 else (11, 12)
        said = rng.randrange(4, LENGTH + 1)
        ids = (*prompt, *(rng.randrange(20, 896) for _ in range(said)))
        mask = [0] * len(prompt) + [int(i != 2 or n % 2) for i in range(said)]
        with torch.no_grad():
            logits = model(input_ids=torch.tensor([ids])).logits[0, :-1]
        now = torch.log_softmax(logits, dim=-1).gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()
        made.append(
            Segment(
                task_id="t",
                group_id=str(n // 4),
                token_ids_T=ids,
                action_mask_T=tuple(mask),
                logprobs_T=tuple(m * (p + rng.gauss(0, 0.3)) for m, p in zip(mask, [0.0, *now], strict=True)),
                advantages_T=tuple(m * (1.5, -0.5, -0.75, 0.25)[n % 4] for m in mask),
            )
        )
    return made


def theirs(
    model: Any,
    segments: list[Segment],
    directory: Path,
    kind: str,
    options: dict[str, Any],
    switches: dict[str, Any] | None = None,
    more: dict[str, torch.Tensor] | None = None,
) -> tuple[float, torch.Tensor]:
    """Loss and gradients by TRL; `switches` are set on the trainer, `more` is added to its inputs."""
    from datasets import Dataset
    from transformers import AutoTokenizer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import trl

        common = {
            "output_dir": str(directory),
            "max_completion_length": LENGTH,
            "per_device_train_batch_size": 8,
            "num_generations": 4,
            "report_to": [],
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
        }
        config = getattr(trl, f"{kind}Config")(**(common | options))
        trainer = getattr(trl, f"{kind}Trainer")(
            model=model,
            args=config,
            reward_funcs=lambda completions, **_: [0.0] * len(completions),
            train_dataset=Dataset.from_dict({"prompt": ["x"] * 8}),
            processing_class=AutoTokenizer.from_pretrained(str(TINY)),
        )
    for name, value in {"current_gradient_accumulation_steps": 1, **(switches or {})}.items():
        assert name == "current_gradient_accumulation_steps" or hasattr(trainer, name)
        setattr(trainer, name, value)
    model.train()
    model.zero_grad(set_to_none=True)
    loss = trainer._compute_loss(model, inputs_of(segments) | (more or {}))
    loss.backward()
    return float(loss.detach()), gradients(model)


def inputs_of(segments: list[Segment]) -> dict[str, torch.Tensor]:
    """TRL's form: prompts padded on the left, completions on the right, and what tools said masked."""
    starts = [s.action_mask_T.index(1) for s in segments]
    prompts = [s.token_ids_T[:n] for s, n in zip(segments, starts, strict=True)]
    said = [s.token_ids_T[n:] for s, n in zip(segments, starts, strict=True)]
    widest = max(map(len, prompts))
    tool_mask = pad([s.action_mask_T[n:] for s, n in zip(segments, starts, strict=True)], torch.long)
    old = pad([s.logprobs_T[n:] for s, n in zip(segments, starts, strict=True)], torch.float32)
    return {
        "prompt_ids": torch.tensor([[0] * (widest - len(p)) + list(p) for p in prompts]),
        "prompt_mask": torch.tensor([[0] * (widest - len(p)) + [1] * len(p) for p in prompts]),
        "completion_ids": pad(said, torch.long),
        "completion_mask": pad([[1] * len(c) for c in said], torch.long),
        "tool_mask": tool_mask,
        "old_per_token_logps": old,
        "advantages": torch.tensor([max(s.advantages_T, key=abs) for s in segments]),
        "num_items_in_batch": tool_mask.sum(),
        "old_logps": old.sum(1),
    }


def ours(
    model: Any, segments: list[Segment], rules: Rules, **more: torch.Tensor
) -> tuple[float, torch.Tensor]:
    """Loss and gradients by us, in two packed rows that share their groups' prompts."""
    model.train()
    model.zero_grad(set_to_none=True)
    packed = pack(segments, length=48, shared=True)
    logprobs_BT, _ = packed_logprobs(model, packed, 1.0)
    batch = Batch(
        old_BT=pad([s.logprobs_T for s in segments], torch.float32),
        advantages_BT=pad([s.advantages_T for s in segments], torch.float32),
        mask_BT=packed.mask_BT.float(),
        sequences=len(segments),
        tokens=int(packed.mask_BT.sum()),
        **more,
    )
    loss, stats = policy_loss(logprobs_BT, batch, rules)
    loss.backward()
    assert rules.objective == "cispo" or stats.clipped > 0.1
    return float(loss.detach()), gradients(model)


def gradients(model: Any) -> torch.Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize(
    ("rules", "kind", "options"),
    [
        (
            Rules(objective="grpo", clip_low=0.2, clip_high=0.2),
            "GRPO",
            {"loss_type": "grpo", "epsilon": 0.2, "epsilon_high": 0.2},
        ),
        (
            Rules(objective="dr_grpo", clip_low=0.2, clip_high=0.28, length_norm=float(LENGTH)),
            "GRPO",
            {"loss_type": "dr_grpo", "epsilon": 0.2, "epsilon_high": 0.28},
        ),
        (
            Rules(objective="dapo", clip_low=0.2, clip_high=0.28),
            "GRPO",
            {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28},
        ),
        (
            Rules(objective="gspo", clip_low=0.03, clip_high=0.04),
            "GRPO",
            {
                "loss_type": "grpo",
                "importance_sampling_level": "sequence",
                "epsilon": 0.03,
                "epsilon_high": 0.04,
            },
        ),
        (
            Rules(objective="cispo", clip_low=1.0, clip_high=0.28),
            "GRPO",
            # TRL names the largest weight itself, not how far it lies above 1.
            {"loss_type": "cispo", "epsilon_high": 1.28},
        ),
        (
            Rules(objective="rloo", clip_low=0.2, clip_high=0.2),
            "RLOO",
            {"epsilon": 0.2, "epsilon_high": 0.2},
        ),
    ],
    ids=lambda value: value.objective if isinstance(value, Rules) else "",
)
def test_loss_and_gradients_are_trls(
    model: Any, segments: list[Segment], tmp_path: Path, rules: Rules, kind: str, options: dict[str, Any]
) -> None:
    if kind == "RLOO":  # its trainer knows no tools: all of a completion is sampled
        segments = [s for s in segments if 0 not in s.action_mask_T[s.action_mask_T.index(1) :]]
    loss, gradient = ours(model, segments, rules)
    wanted, its_gradient = theirs(model, segments, tmp_path, kind, options)
    assert abs(loss) > 1e-3
    # A product of ratios multiplies what they are rounded by.
    assert loss == pytest.approx(wanted, abs=1e-5 * abs(wanted) if kind == "RLOO" else CLOSE, rel=0)
    assert float((gradient - its_gradient).norm()) <= 1e-5 * float(its_gradient.norm())
    assert float(its_gradient.abs().max()) > 1e-3


def aside(segments: list[Segment], scale: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logprobs some nats away from the old ones, in our layout and in TRL's."""
    generator = torch.Generator().manual_seed(1)
    old_BT = pad([s.logprobs_T for s in segments], torch.float32)
    other_BT = old_BT + scale * torch.randn(old_BT.shape, generator=generator)
    starts = [s.action_mask_T.index(1) for s in segments]
    cut = [
        other_BT[n, start : len(s.token_ids_T)].tolist()
        for n, (s, start) in enumerate(zip(segments, starts, strict=True))
    ]
    return other_BT, pad(cut, torch.float32)


def test_the_kl_term_is_trls(model: Any, segments: list[Segment], tmp_path: Path) -> None:
    reference_BT, its_reference = aside(segments, 0.5)
    # GRPO's own term: TRL's default multiplies it by the ratio, as DeepSeek-V3.2 does.
    rules = Rules(objective="grpo", clip_low=0.2, clip_high=0.2, kl_coef=0.3)
    loss, gradient = ours(model, segments, rules, reference_BT=reference_BT)
    wanted, its_gradient = theirs(
        model,
        segments,
        tmp_path,
        "GRPO",
        {"loss_type": "grpo", "epsilon": 0.2, "epsilon_high": 0.2, "use_bias_correction_kl": False},
        {"beta": 0.3},
        {"ref_per_token_logps": its_reference},
    )
    assert loss == pytest.approx(wanted, abs=CLOSE, rel=0)
    assert float((gradient - its_gradient).abs().max()) <= CLOSE


def test_truncated_weights_act_as_trls(model: Any, segments: list[Segment], tmp_path: Path) -> None:
    served_BT, its_served = aside(segments, 0.8)
    rules = Rules(objective="dapo", clip_low=0.2, clip_high=0.28, tis_cap=2.0)
    loss, gradient = ours(model, segments, rules, served_BT=served_BT)
    weights = (inputs_of(segments)["old_per_token_logps"] - its_served).exp()
    assert float(weights.max()) > 2.0
    wanted, its_gradient = theirs(
        model,
        segments,
        tmp_path,
        "GRPO",
        {"loss_type": "dapo", "epsilon": 0.2, "epsilon_high": 0.28},
        {"use_vllm": True, "vllm_importance_sampling_correction": True},
        {"importance_sampling_ratio": weights.clamp(max=2.0)},
    )
    assert loss == pytest.approx(wanted, abs=CLOSE, rel=0)
    assert float((gradient - its_gradient).abs().max()) <= CLOSE
