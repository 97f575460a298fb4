"""How weights reach a server, and the proof that they did (law 9).

An adapter is written aside, synced and renamed: a server never reads half of one. The proof compares
logprobs of fixed tokens, as the server gives them, with those of the trainer's new version, of its last one
and of the base.

Shapes: P prompts, L their length, K fixed tokens after each, V vocabulary.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from train.checkpoint import sync
from train.engine.base import DeliveryError

PROMPTS, LENGTH, TOKENS = 16, 48, 8
"""Prompts are longer than a block of a server's prefix cache, so that a stale cache would show."""
SEEN = 0.1
"""Nats (root mean square) by which the perturbed adapter must differ from the base."""
TOLERANCE = {"float32": 1e-3}
"""Most nats (root mean square) between server and trainer under the same weights, by dtype."""
LOOSE = 0.25
"""The same for all other dtypes: rounding in bf16 costs about a hundredth of a nat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Fixed prompts, and the fixed tokens whose logprobs are compared after each."""

    prompts_PL: tuple[tuple[int, ...], ...]
    tokens_PK: tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """How far the served logprobs were (nats, root mean square) from three versions of the trainer's.

    proven: the new version differs enough from the last one to tell them apart, and was told apart.
    """

    new: float
    last: float
    base: float
    proven: bool


def make_probe(model: Any, max_length: int) -> Probe:
    """Random prompts (always the same) and the tokens that the base finds likeliest after them."""
    draw = torch.Generator().manual_seed(9)
    length = min(LENGTH, max_length - 1)
    prompts_PL = torch.randint(model.config.vocab_size, (PROMPTS, length), generator=draw)
    with model.disable_adapter():
        tokens_PK = _next_logits(model, prompts_PL).topk(TOKENS).indices
    return Probe(
        prompts_PL=tuple(map(tuple, prompts_PL.tolist())), tokens_PK=tuple(map(tuple, tokens_PK.tolist()))
    )


def probe_logprobs(model: Any, probe: Probe, temperature: float = 1.0) -> torch.Tensor:
    """The trainer's own logprobs (P, K) of the fixed tokens, on the CPU in fp32."""
    logits_PV = _next_logits(model, torch.tensor(probe.prompts_PL)) / temperature
    return torch.log_softmax(logits_PV, dim=-1).gather(1, torch.tensor(probe.tokens_PK))


def _next_logits(model: Any, prompts_PL: torch.Tensor) -> torch.Tensor:
    causal = model.get_base_model()
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            hidden_PLC = causal.model(
                input_ids=prompts_PL.to(next(model.parameters()).device), use_cache=False
            ).last_hidden_state
            logits_PV: torch.Tensor = causal.lm_head(hidden_PLC[:, -1]).float().cpu()
            return logits_PV
    finally:
        model.train(was_training)


@contextmanager
def perturbed(model: Any, probe: Probe) -> Iterator[None]:
    """The model with a random adapter that differs visibly from the base; afterwards its own, bit for bit.

    A fresh adapter is the base itself, so its delivery could not be told from no delivery at all.
    """
    adapter = {name: p for name, p in model.named_parameters() if "lora_B" in name}
    own = {name: parameter.detach().clone() for name, parameter in adapter.items()}
    draw = torch.Generator().manual_seed(9)
    noise = {name: torch.randn(parameter.shape, generator=draw) for name, parameter in adapter.items()}
    with model.disable_adapter():
        without_PK = probe_logprobs(model, probe)
    try:
        for power in range(-10, 5):
            with torch.no_grad():
                for name, parameter in adapter.items():
                    parameter.copy_(noise[name] * 2.0**power)
            if rms(probe_logprobs(model, probe) - without_PK) >= SEEN:
                break
        yield
    finally:
        with torch.no_grad():
            for name, parameter in adapter.items():
                parameter.copy_(own[name])


def write_adapter(model: Any, directory: Path, name: str) -> Path:
    """Save the adapter under `directory`: whole and synced, or not there."""
    directory.mkdir(parents=True, exist_ok=True)
    final, aside = directory / name, directory / f".{name}.tmp"
    shutil.rmtree(aside, ignore_errors=True)
    model.save_pretrained(str(aside))
    for part in (*aside.iterdir(), aside):
        sync(part)
    aside.rename(final)
    sync(directory)
    return final.resolve()


def judge(
    served_PK: torch.Tensor, new_PK: torch.Tensor, others: Mapping[str, torch.Tensor], *,
    tolerance: float, noise: float, where: str,
) -> Proof:  # fmt: skip
    """Law 9: the served logprobs are nearer to the new version than to the last one and to the base.

    `noise` (nats, root mean square) is what the server differs by under equal weights. A version that
    differs from another by less than twice that cannot be told from it, and is not `proven` against it.
    Raises `DeliveryError`.
    """
    if not bool(torch.isfinite(served_PK).all()):
        raise DeliveryError(f"{where}: the probe's logprobs are no numbers")
    gap = rms(served_PK - new_PK)
    gaps = {name: rms(served_PK - other) for name, other in others.items()}
    proven = False
    for name, other in others.items():
        apart = rms(new_PK - other)
        if apart < 2 * max(noise, 1e-6):
            continue
        if gaps[name] <= gap:
            raise DeliveryError(
                f"{where}: the server does not serve the new adapter: its logprobs are {gap:.3g} nats from "
                f"the new version and {gaps[name]:.3g} from the {name} one, which lie {apart:.3g} apart"
            )
        proven = proven or name == "last"
    if gap > tolerance:
        raise DeliveryError(
            f"{where}: the served logprobs are {gap:.3g} nats from the trainer's (at most {tolerance:.3g}): "
            "another base model, another dtype, or an adapter that was applied in part"
        )
    return Proof(new=gap, last=gaps["last"], base=gaps["base"], proven=proven)


def rms(difference: torch.Tensor) -> float:
    """The root mean square of a tensor."""
    return float(difference.double().square().mean().sqrt())
