"""Learning from episodes that are known to be right: cross-entropy on what the agent said.

    warm start            before the first step, from solutions of training tasks or a file of trajectories
    rejection sampling    while hardly anything is solved: a step learns from its own resolved episodes
                          (RFT; Yuan et al. 2023, "Scaling relationship on learning mathematical reasoning")

Segments, mask, packing, head, ranks and optimizer are those of the policy gradient.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from gym_code.errors import ConfigError
from gym_code.stats import mean
from gym_code.types import Segment, Trajectory
from train.config import Config
from train.distributed import Ranks, shares
from train.logprob import packed_logprobs
from train.pack import pack
from train.segments import segments_of
from train.solutions import resolved
from train.update import apply_gradients

KEPT_OF_A_GROUP = 4
"""Most episodes of one group that rejection sampling learns from, so that easy tasks do not fill the step."""


def fit(
    model: Any,
    optimizer: torch.optim.Optimizer,
    segments: Sequence[Segment],
    config: Config,
    rate: float,
    *,
    ranks: Ranks,
) -> dict[str, float]:
    """One step of the optimizer on the mean cross-entropy (nats) of all action tokens; work for all ranks."""
    for group in optimizer.param_groups:
        group["lr"] = rate
    tokens = sum(sum(segment.action_mask_T) for segment in segments)
    model.train()
    optimizer.zero_grad(set_to_none=True)
    losses = [
        _backward(model, some, config, tokens, counts=counts)
        for some, counts in shares(
            segments, ranks, tokens=config.forward_tokens, whole_groups=config.shared_prefix
        )
    ]
    norm = apply_gradients(model, optimizer, config, ranks)
    loss = sum(ranks.gather(losses))
    return {"sft_loss": loss, "sft_segments": float(len(segments)), "sft_grad_norm": norm}


def _backward(model: Any, segments: Sequence[Segment], config: Config, tokens: int, *, counts: bool) -> float:
    packed = pack(segments, length=config.pack_length, shared=config.shared_prefix)
    logprobs_BT, _ = packed_logprobs(model, packed, 1.0)
    loss = -logprobs_BT.sum() / tokens * counts
    loss.backward()
    return float(loss.detach())


def _forget(model: Any, optimizer: torch.optim.Optimizer, *, ranks: Ranks) -> None:
    optimizer.state.clear()


def warm_start(ranks: Ranks, segments: Sequence[Segment], config: Config) -> list[dict[str, float]]:
    """`warm_start_steps` steps on batches of the segments, shuffled anew whenever all were seen; a row each.

    A function of policy, segments and configuration. The optimizer forgets its moments afterwards: those of
    a policy gradient are of another size. Raises `ConfigError` when there is nothing to learn from.
    """
    if not segments:
        raise ConfigError(
            "nothing to learn from",
            where=f"warm_start: {config.warm_start or 'oracle'}",
            expected="resolved episodes of training tasks, within max_length",
            found="none",
        )
    batches = _batches(segments, config)
    rows = [
        ranks.run(fit, next(batches), config, _rate(config, step)) for step in range(config.warm_start_steps)
    ]
    ranks.run(_forget)
    return rows


def rejection_step(
    ranks: Ranks,
    trajectories: Sequence[Trajectory],
    config: Config,
    step: int,
    demonstrated: Callable[[], Sequence[Segment]],
) -> dict[str, float]:
    """Learn from what a step resolved, `minibatches` steps; a whole warm start where it resolved nothing."""
    segments = chosen(trajectories, config, step)
    if not segments:
        rows = warm_start(ranks, demonstrated(), config)
    else:
        random.Random(f"{config.seed}/{step}/minibatches").shuffle(segments)
        parts = filter(None, (segments[n :: config.minibatches] for n in range(config.minibatches)))
        rows = [ranks.run(fit, part, config, _rate(config, step)) for part in parts]
    return {key: mean([row[key] for row in rows]) for key in rows[0]} | {"sft_steps": float(len(rows))}


def _rate(config: Config, step: int) -> float:
    return config.learning_rate * min(1.0, (step + 1) / max(config.warmup_steps, 1))


def _batches(segments: Sequence[Segment], config: Config) -> Iterator[list[Segment]]:
    rng = random.Random(f"{config.seed}/warm start")
    waiting: list[Segment] = []
    while True:
        while len(waiting) < config.warm_start_batch:
            waiting += rng.sample(list(segments), len(segments))
        yield waiting[: config.warm_start_batch]
        del waiting[: config.warm_start_batch]


def chosen(trajectories: Sequence[Trajectory], config: Config, step: int) -> list[Segment]:
    """The segments of a step's resolved episodes, at most `KEPT_OF_A_GROUP` different ones of a group."""
    groups: dict[str, dict[object, list[Segment]]] = {}
    for trajectory in filter(resolved, trajectories):
        segments = segments_of(trajectory, 1.0)
        said = tuple((s.token_ids_T, s.action_mask_T) for s in segments)
        groups.setdefault(trajectory.group_id, {}).setdefault(said, segments)
    rng = random.Random(f"{config.seed}/{step}/rejection")
    return [
        segment
        for different in groups.values()
        for segments in rng.sample(list(different.values()), min(KEPT_OF_A_GROUP, len(different)))
        for segment in segments
    ]
