"""The contract between the rollout scheduler and whatever samples tokens.

GymCodeError
└── EngineError          nothing is left that could sample
    ├── ReplicaError     one server failed: the others go on
    │   └── OverdueError     it did not answer in time
    └── DeliveryError    a server does not serve the weights it was given (law 9)
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from gym_code.errors import GymCodeError
from gym_code.types import Completion


class EngineError(GymCodeError):
    """What samples the tokens failed, and nothing is left that could go on."""


class ReplicaError(EngineError):
    """One server failed; raised to the caller only where no other is left."""


class OverdueError(ReplicaError):
    """A server that may be healthy did not answer in time: whatever it does, it does not serve."""


class DeliveryError(EngineError):
    """A server does not serve the weights that it was given: its tokens are another policy's."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropped:
    """A completion that could not be had, or that cannot be trained on (a logprob is missing or no number).

    The episode it belongs to is a fault of ours: ungraded, never 0.
    """

    reason: str


class Engine(Protocol):
    """Samples completions; logprobs are those of the distribution sampled from (after temperature).

    Requests go in one by one and come back as they complete: a slow one holds up no other. `submit` and
    `collect` belong to one thread.
    """

    concurrent: bool
    """Whether it samples while the trainer computes; otherwise only inside `collect`."""

    def submit(self, request: Request, sampling: Sampling) -> None:
        """Ask for a completion; no second one under the same key until the first came back.

        Raises `ConfigError` for a prompt that leaves no room or a conversation too many.
        """

    def collect(self, timeout: float | None = None) -> list[tuple[str, Completion | Dropped]]:
        """What has completed, by key: at least one, after at most `timeout` seconds of waiting for it.

        Empty where nothing was asked for or the time is over. Raises `EngineError` where nothing can sample.
        """

    def wake(self) -> None:
        """Have `collect` return soon, with or without something complete. May be called from any thread."""

    def forget(self, key: str) -> None:
        """Free what a conversation holds, and give up what was asked for it."""

    def set_version(self, version: int) -> None:
        """Name the weights that requests from now on are answered with, and forget caches of older ones.

        An engine that serves a copy of the weights delivers and proves the copy here; `DeliveryError`.
        """

    def resting(self) -> AbstractContextManager[None]:
        """While the trainer learns and nothing is asked for: memory shared with it is given away then."""

    def take_metrics(self) -> dict[str, float]:
        """Figures for the row of the step; counts start again from 0."""

    def close(self) -> None:
        """End whatever the engine started."""


def generate(engine: Engine, requests: Sequence[Request], sampling: Sampling) -> list[Completion | Dropped]:
    """One completion a request, in order: all asked for at once, back when the last is there."""
    for request in requests:
        engine.submit(request, sampling)
    made: dict[str, Completion | Dropped] = {}
    while len(made) < len(requests):
        made.update(engine.collect())
    return [made[request.key] for request in requests]
