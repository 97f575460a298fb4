"""Trained tokens per second, utilization and memory of the trainer's own update.

A step is `train.update.update` under `dr_grpo`: two forwards and backwards of `length` tokens each, as in
prime-rl's benchmark, with full recomputation, clipping and the optimizer. Two layouts:

    one     one segment fills the length, as in prime-rl's benchmark
    packed  eight segments of one group fill it, packed: what a batch of rollouts looks like

All tokens but a segment's first are sampled ones, so the head runs on all of them, again as there.
"""

from __future__ import annotations

import gc
import itertools
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from benchmarks.gpu.flops import Matrices, matrices_of, utilization
from benchmarks.gpu.shapes import build, shape
from gym_code.types import Segment
from train.config import Config
from train.model import checkpoint_activations, with_adapter
from train.update import update

LAYOUTS = {"one": 1, "packed": 8}
"""Segments a forward."""
FORWARDS = 2
"""Forwards and backwards a step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is measured: every model at every length in every layout."""

    models: Sequence[str]
    lengths: Sequence[int]
    layouts: Sequence[str]
    steps: int
    """Timed steps; their median is reported. Two more come first and are not counted."""
    rank: int = 16


def measure(plan: Plan, device: torch.device) -> Iterator[dict[str, Any]]:
    """A row for each model, length and layout; one that does not fit into memory says so as its reason."""
    for name, length, layout in itertools.product(plan.models, plan.lengths, plan.layouts):
        row: dict[str, Any] = {"model": name, "tokens": length, "layout": layout}
        try:
            row |= _timed(name, synthetic(length, LAYOUTS[layout], shape(name).vocab_size), plan, device)
        except torch.OutOfMemoryError as error:
            row["reason"] = str(error).split(". ")[0]
        yield row


def synthetic(length: int, parts: int, vocabulary: int) -> list[Segment]:
    """Segments that fill `FORWARDS` rows of `length` tokens, `parts` of one group to a row."""
    rng = random.Random(f"{length}/{parts}")
    size = length // parts
    sampled = (0, *[1] * (size - 1))
    return [
        Segment(
            task_id="synthetic",
            group_id=str(row),
            token_ids_T=tuple(rng.choices(range(vocabulary), k=size)),
            action_mask_T=sampled,
            # What a policy without knowledge gives each token.
            logprobs_T=tuple(-math.log(vocabulary) * s for s in sampled),
            advantages_T=tuple((0.5 if (row + part) % 2 else -0.5) * s for s in sampled),
        )
        for row in range(FORWARDS)
        for part in range(parts)
    ]


def _timed(name: str, segments: Sequence[Segment], plan: Plan, device: torch.device) -> dict[str, Any]:
    """Medians over the plan's steps, after two that are not counted."""
    _free(device)
    model = with_adapter(build(name, device, torch.bfloat16), plan.rank, 2.0 * plan.rank)
    checkpoint_activations(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-5)
    lengths = [len(segment.token_ids_T) for segment in segments]
    row = sum(lengths) // FORWARDS
    config = Config(
        model=name, dtype="bfloat16", minibatches=1, pack_length=row, forward_tokens=row,
        gradient_checkpointing=True, length_norm=float(row), warmup_steps=0,
    )  # fmt: skip
    seconds = []
    for step in range(-2, plan.steps):
        began = _now(device)
        made = update(model, optimizer, segments, config, max(step, 0))
        if step >= 0:
            seconds.append(_now(device) - began)
    if not math.isfinite(made["loss"] + made["grad_norm"]):
        return {"reason": f"loss {made['loss']}, gradient norm {made['grad_norm']}"}
    return said_of(matrices_of(model), lengths, float(np.median(seconds)), device)


def said_of(
    matrices: Matrices, lengths: Sequence[int], seconds: float, device: torch.device
) -> dict[str, Any]:
    """The figures of a step; memory and utilization only on a GPU."""
    row: dict[str, Any] = {
        "step_seconds": round(seconds, 4),
        "tokens_per_second": round(sum(lengths) / seconds, 1),
    }
    if device.type != "cuda":
        return row
    row["peak_allocated_gib"] = round(torch.cuda.max_memory_allocated(device) / 2**30, 1)
    row["peak_reserved_gib"] = round(torch.cuda.max_memory_reserved(device) / 2**30, 1)
    return row | utilization(matrices, lengths, seconds, torch.cuda.get_device_name(device))


def _now(device: torch.device) -> float:
    """Seconds, once the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _free(device: torch.device) -> None:
    """Give back what the last model held, and begin to count the peak again."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
