"""An engine in the trainer's own process: the same module samples and learns, so no weights travel.

Turn-synchronous batches over a slotted key-value cache. A conversation keeps its slot from turn to turn: only
new tokens are computed. Identical first prompts (the samples of one group) are computed once and copied.

Shapes: B rows, L new positions, T cached positions, H key-value heads, D head size, V vocabulary.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from gym_code.errors import ConfigError
from gym_code.types import Completion
from train.engine.base import Request, Sampling

_FEW = 0.6
"""Below this share of rows still sampling, only those rows are computed."""


class _SlotCache:
    """What a Hugging Face decoder needs of a cache: `update` stores new keys and values and returns all.

    Rows write at their own positions. What a padded row writes beyond its end is overwritten before any
    query may attend to it, because position p is written before the first query at p is computed.
    """

    def __init__(self, layers: int, slots: int, length: int, heads: int, size: int) -> None:
        shape = (slots, length, heads, size)
        self.keys = [torch.zeros(shape) for _ in range(layers)]
        self.values = [torch.zeros(shape) for _ in range(layers)]
        self.rows: torch.Tensor = torch.empty(0, dtype=torch.long)
        self.positions_BL: torch.Tensor = torch.empty(0, 0, dtype=torch.long)
        self.until = 0
        self.all_rows = False

    def update(
        self, keys_BHLD: torch.Tensor, values_BHLD: torch.Tensor, layer: int, *_: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store at `rows` and `positions_BL`; returns (B, H, T, D) keys and values."""
        both = []
        for store, new in ((self.keys[layer], keys_BHLD), (self.values[layer], values_BHLD)):
            store[self.rows[:, None], self.positions_BL] = new.transpose(1, 2)
            rows = store if self.all_rows else store[self.rows]
            both.append(rows[:, : self.until].transpose(1, 2))
        return both[0], both[1]

    def copy(self, source: int, targets: Sequence[int], length: int) -> None:
        """Give the target slots what the source slot holds up to `length`."""
        for store in (*self.keys, *self.values):
            store[list(targets), :length] = store[source, :length]


class TorchEngine:
    """Samples from a (PEFT) causal language model that lives in this process, in fp32 on its own device."""

    def __init__(self, model: Any, *, end_id: int, slots: int, max_length: int) -> None:
        self._model, self._end_id = model, end_id
        self._slots, self._max_length = slots, max_length
        self._version = 0
        config = model.config
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self._cache = _SlotCache(
            config.num_hidden_layers, slots, max_length, config.num_key_value_heads, size
        )
        self._slot_of: dict[str, int] = {}
        self._tokens: list[list[int]] = [[] for _ in range(slots)]

    def set_version(self, version: int) -> None:
        """Name the weights; caches of older weights are forgotten."""
        self._version = version
        self.release()

    def release(self) -> None:
        """Forget all conversations."""
        self._slot_of.clear()
        self._tokens = [[] for _ in range(self._slots)]

    def take_metrics(self) -> dict[str, float]:
        """Nothing: the weights that sample are the weights that learn."""
        return {}

    def close(self) -> None:
        """Nothing to end."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        """One completion a request, in order.

        Raises `ConfigError` when there are more conversations than slots or a prompt leaves no room.
        """
        for request in requests:
            if len(request.prompt_ids) + sampling.max_tokens > self._max_length:
                raise ConfigError(
                    "the prompt leaves no room for a completion",
                    where=request.key,
                    expected=f"at most {self._max_length - sampling.max_tokens} tokens",
                    found=len(request.prompt_ids),
                )
        was_training = self._model.training
        self._model.eval()
        try:
            with torch.inference_mode():
                slots = [self._slot(request) for request in requests]
                logits_BV = self._prefill(requests, slots)
                return self._decode(requests, slots, logits_BV, sampling)
        finally:
            self._model.train(was_training)

    def _slot(self, request: Request) -> int:
        slot = self._slot_of.get(request.key)
        if slot is None:
            if len(self._slot_of) >= self._slots:
                raise ConfigError(
                    "too many conversations", expected=f"at most {self._slots}", found="one more"
                )
            slot = self._slot_of[request.key] = len(self._slot_of)
        stored = self._tokens[slot]
        if tuple(stored) != request.prompt_ids[: len(stored)] or len(stored) >= len(request.prompt_ids):
            self._tokens[slot] = []
        return slot

    def _prefill(self, requests: Sequence[Request], slots: Sequence[int]) -> torch.Tensor:
        """Compute the new tokens of every prompt; the logits (B, V) after its last token."""
        leaders: dict[object, int] = {}
        lead_of: list[int] = []
        for number, (request, slot) in enumerate(zip(requests, slots, strict=True)):
            alike = request.prompt_ids if not self._tokens[slot] else number
            lead_of.append(leaders.setdefault(alike, number))
        chosen = sorted(set(lead_of))
        new = [list(requests[n].prompt_ids[len(self._tokens[slots[n]]) :]) for n in chosen]
        starts = [len(self._tokens[slots[n]]) for n in chosen]
        rows = [slots[n] for n in chosen]
        last = [len(tokens) - 1 for tokens in new]
        longest = max(map(len, new))
        padded = [tokens + [0] * (longest - len(tokens)) for tokens in new]
        logits = self._forward(rows, padded, starts, last)
        for n, request in enumerate(requests):
            self._tokens[slots[n]] = list(request.prompt_ids)
        for n in chosen:
            followers = [slots[m] for m, lead in enumerate(lead_of) if lead == n and m != n]
            if followers:
                self._cache.copy(slots[n], followers, len(requests[n].prompt_ids))
        place = {n: i for i, n in enumerate(chosen)}
        return logits[[place[lead] for lead in lead_of]]

    def _decode(
        self, requests: Sequence[Request], slots: Sequence[int], logits_BV: torch.Tensor, sampling: Sampling
    ) -> list[Completion]:
        draws = [random.Random(request.seed) for request in requests]
        tokens: list[list[int]] = [[] for _ in requests]
        logprobs: list[list[float]] = [[] for _ in requests]
        rows = list(range(len(requests)))
        alive = set(rows)
        for _ in range(sampling.max_tokens):
            uniforms = [draws[n].random() for n in rows]
            picked, picked_logprobs = _pick(logits_BV, uniforms, sampling.temperature)
            for n, token, logprob in zip(rows, picked, picked_logprobs, strict=True):
                if n in alive:
                    tokens[n].append(token)
                    logprobs[n].append(logprob)
                    if token == self._end_id:
                        alive.discard(n)
            if not alive or max(len(tokens[n]) for n in alive) == sampling.max_tokens:
                break
            if len(alive) < _FEW * len(rows):
                rows = [n for n in rows if n in alive]
            # A row that has ended computes its last token again, where it stood: its slot is unharmed.
            step = [[tokens[n][-1]] for n in rows]
            starts = [len(requests[n].prompt_ids) + len(tokens[n]) - 1 for n in rows]
            logits_BV = self._forward([slots[n] for n in rows], step, starts, [0] * len(rows))
            for n in rows:
                if n in alive:
                    self._tokens[slots[n]].append(tokens[n][-1])
        return [self._completion(t, p) for t, p in zip(tokens, logprobs, strict=True)]

    def _forward(
        self, slots: Sequence[int], ids: list[list[int]], starts: Sequence[int], last: Sequence[int]
    ) -> torch.Tensor:
        """Run new tokens (B, L) that begin at `starts`; the logits (B, V) at index `last` of each row."""
        ids_BL = torch.tensor(ids)
        positions_BL = torch.tensor(starts)[:, None] + torch.arange(ids_BL.shape[1])
        # Padding past the end of the cache is folded onto the last position, which no prompt reaches.
        positions_BL = positions_BL.clamp(max=self._max_length - 1)
        cache = self._cache
        cache.rows = torch.tensor(slots)
        cache.all_rows = len(slots) == self._slots and list(slots) == list(range(self._slots))
        cache.positions_BL = positions_BL
        cache.until = int(positions_BL.max()) + 1
        mask_B1LT = (torch.arange(cache.until) <= positions_BL[:, :, None])[:, None]
        model = self._model.get_base_model() if hasattr(self._model, "get_base_model") else self._model
        hidden = model.model(
            input_ids=ids_BL,
            attention_mask=mask_B1LT,
            position_ids=positions_BL,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        logits: torch.Tensor = model.lm_head(hidden[torch.arange(len(last)), torch.tensor(last)]).float()
        return logits

    def _completion(self, tokens: Sequence[int], logprobs: Sequence[float]) -> Completion:
        ended = bool(tokens) and tokens[-1] == self._end_id
        return Completion(
            token_ids=tuple(tokens),
            logprobs=tuple(logprobs),
            text="",
            finish_reason="stop" if ended else "length",
            policy_version=self._version,
        )


def _pick(
    logits_BV: torch.Tensor, uniforms: Sequence[float], temperature: float
) -> tuple[list[int], list[float]]:
    """Tokens by the inverse of the cumulative distribution (argmax at temperature 0), and their logprobs."""
    logprobs_BV = torch.log_softmax(logits_BV / (temperature or 1.0), dim=-1)
    if temperature == 0:
        tokens_B = logits_BV.argmax(-1)
    else:
        cumulative_BV = logprobs_BV.double().exp().cumsum(-1)
        wanted_B1 = torch.tensor(uniforms, dtype=torch.double)[:, None] * cumulative_BV[:, -1:]
        tokens_B = torch.searchsorted(cumulative_BV, wanted_B1, right=True)[:, 0]
        tokens_B = tokens_B.clamp(max=logits_BV.shape[-1] - 1)
    return tokens_B.tolist(), logprobs_BV.gather(1, tokens_B[:, None])[:, 0].tolist()
