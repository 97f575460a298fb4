"""The contract between the rollout scheduler and whatever samples tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from gym_code.types import Completion


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How tokens are drawn. temperature 0 is greedy; top-p and top-k are off, so that the policy that
    samples is the policy that is trained.
    """

    temperature: float = 1.0
    max_tokens: int = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One completion wanted.

    key: names the conversation: a later request with the same key whose prompt extends the earlier tokens
    reuses their cache. seed: draws are a function of the seed, not of what else is in the batch.
    """

    key: str
    prompt_ids: tuple[int, ...]
    seed: int


class Engine(Protocol):
    """Samples completions; logprobs are those of the distribution sampled from (after temperature)."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """One completion a request, in order. Raises `ConfigError` for a prompt that leaves no room."""

    def release(self) -> None:
        """Forget all conversations and their caches; call it whenever the weights have changed."""

    def set_version(self, version: int) -> None:
        """Name the weights that completions from now on come from, and forget the caches of older ones."""
