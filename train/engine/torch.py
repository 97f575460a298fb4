"""An engine in the trainer's own process: the same module samples and learns, so no weights travel.

Continuous batches over a slotted key-value cache: requests join and leave between two tokens. A conversation
keeps its slot from turn to turn: only new tokens are computed. Identical first prompts (the samples of one
group) are computed once and copied.

Who asks for the same requests in the same order and collects them all before asking again gets the same
batches, and with them the same bits.

Shapes: B rows, L new positions, T cached positions, H key-value heads, D head size, V vocabulary.
"""

from __future__ import annotations

import heapq
import random
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from gym_code.errors import ConfigError
from gym_code.types import Completion
from train.engine.base import Dropped, Request, Sampling

_FEW = 0.6
"""Below this share of rows still sampling, only those rows are computed."""


class _SlotCache:
    """What a Hugging Face decoder needs of a cache: `update` stores new keys and values and returns all.

    Rows write at their own positions. What a padded row writes beyond its end is overwritten before any
    query may attend to it, because position p is written before the first query at p is computed.
    """

    def __init__(self, layers: int, shape: tuple[int, int, int, int], like: torch.Tensor) -> None:
        self.keys = [torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(layers)]
        self.values = [torch.zeros(shape, dtype=like.dtype, device=like.device) for _ in range(layers)]
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


@dataclass(slots=True, kw_only=True, eq=False)
class _Row:
    """A request in the batch. `logprobs` are those of `tokens`; a row that is done may be computed on."""

    request: Request
    sampling: Sampling
    slot: int
    version: int
    draw: random.Random
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    done: bool = False

    @property
    def known(self) -> tuple[int, ...]:
        """Prompt and what was sampled so far."""
        return (*self.request.prompt_ids, *self.tokens)


class TorchEngine:
    """Samples from a (PEFT) causal language model that lives in this process, on its own device."""

    concurrent = False

    def __init__(self, model: Any, *, end_ids: Sequence[int], slots: int, max_length: int) -> None:
        self._model, self._end_ids = model, frozenset(end_ids)
        self._max_length = max_length
        self._version = 0
        config, weight = model.config, model.get_input_embeddings().weight
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        shape = (slots, max_length, config.num_key_value_heads, size)
        self._cache = _SlotCache(config.num_hidden_layers, shape, weight)
        self._device = weight.device
        self._slots = slots
        self._free = list(range(slots))
        self._slot_of: dict[str, int] = {}
        self._cached: list[tuple[int, ...]] = [()] * slots
        """The tokens whose keys and values each slot holds."""
        self._waiting: list[_Row] = []
        self._rows: list[_Row] = []
        self._logits_BV = torch.empty(0)
        """After the last known token of each of `_rows`."""
        self._woken = threading.Event()

    def submit(self, request: Request, sampling: Sampling) -> None:
        """Queue a request. Raises `ConfigError` for more conversations than slots and a prompt too long."""
        if len(request.prompt_ids) + sampling.max_tokens > self._max_length:
            raise ConfigError(
                "the prompt leaves no room for a completion",
                where=request.key,
                expected=f"at most {self._max_length - sampling.max_tokens} tokens",
                found=len(request.prompt_ids),
            )
        if request.key not in self._slot_of:
            if not self._free:
                raise ConfigError(
                    "too many conversations", expected=f"at most {self._slots}", found="one more"
                )
            self._slot_of[request.key] = heapq.heappop(self._free)
        self._waiting.append(
            _Row(
                request=request,
                sampling=sampling,
                slot=self._slot_of[request.key],
                version=self._version,
                draw=random.Random(request.seed),
            )
        )

    def collect(self, timeout: float | None = None) -> list[tuple[str, Completion | Dropped]]:
        """Sample until a request is complete, or `wake` was called. `timeout` bounds waiting: there is none.

        Raises nothing of its own.
        """
        completed: list[tuple[str, Completion | Dropped]] = []
        was_training = self._model.training
        self._model.eval()
        try:
            with torch.inference_mode():
                while not completed and not self._woken.is_set() and (self._waiting or self._alive()):
                    if self._waiting:
                        self._admit()
                    completed = [(row.request.key, self._completion(row)) for row in self._sample()]
        finally:
            self._model.train(was_training)
            self._woken.clear()
        return completed

    def wake(self) -> None:
        """Have `collect` return after the token at hand."""
        self._woken.set()

    def forget(self, key: str) -> None:
        """Give the conversation's slot back, and what is sampled for it up."""
        if (slot := self._slot_of.pop(key, None)) is not None:
            heapq.heappush(self._free, slot)
            self._cached[slot] = ()
        self._waiting = [row for row in self._waiting if row.request.key != key]
        for row in self._rows:
            row.done = row.done or row.request.key == key

    def set_version(self, version: int) -> None:
        """Name the weights. Caches of older weights are forgotten; half-sampled completions go on anew from
        where they are.
        """
        self._version = version
        self._cached = [()] * self._slots
        self._waiting = [*self._alive(), *self._waiting]
        self._rows = []

    def resting(self) -> AbstractContextManager[None]:
        """The trainer's memory is the engine's: there is nothing to give."""
        return nullcontext()

    def take_metrics(self) -> dict[str, float]:
        """Nothing: the weights that sample are the weights that learn."""
        return {}

    def close(self) -> None:
        """Nothing to end."""

    def _alive(self) -> list[_Row]:
        return [row for row in self._rows if not row.done]

    def _admit(self) -> None:
        """Have all that wait join the batch."""
        places = [n for n, row in enumerate(self._rows) if not row.done]
        logits_BV = self._prefill(self._waiting)
        if places:
            logits_BV = torch.cat([self._logits_BV[places], logits_BV])
        self._rows, self._waiting = [*(self._rows[n] for n in places), *self._waiting], []
        self._logits_BV = logits_BV

    def _prefill(self, rows: Sequence[_Row]) -> torch.Tensor:
        """Compute what each row's slot does not hold yet; the logits (B, V) after its last token."""
        leaders: dict[object, int] = {}
        lead_of: list[int] = []
        held: list[int] = []
        for number, row in enumerate(rows):
            cached, known = self._cached[row.slot], row.known
            fits = len(cached) < len(known) and known[: len(cached)] == cached
            held.append(len(cached) if fits else 0)
            lead_of.append(leaders.setdefault(number if held[-1] else known, number))
        chosen = sorted(set(lead_of))
        new = [rows[n].known[held[n] :] for n in chosen]
        longest = max(map(len, new))
        logits = self._forward(
            [rows[n].slot for n in chosen],
            [[*tokens, *[0] * (longest - len(tokens))] for tokens in new],
            [held[n] for n in chosen],
            [len(tokens) - 1 for tokens in new],
        )
        for row in rows:
            self._cached[row.slot] = row.known
        for n in chosen:
            followers = [rows[m].slot for m, lead in enumerate(lead_of) if lead == n and m != n]
            if followers:
                self._cache.copy(rows[n].slot, followers, len(rows[n].known))
        place = {n: i for i, n in enumerate(chosen)}
        return logits[[place[lead] for lead in lead_of]]

    def _sample(self) -> list[_Row]:
        """One token for every row, and the logits after it; the rows that this completes."""
        tokens, logprobs = _pick(
            self._logits_BV,
            [row.draw.random() for row in self._rows],
            [row.sampling.temperature for row in self._rows],
        )
        completed = []
        for row, token, logprob in zip(self._rows, tokens, logprobs, strict=True):
            if not row.done:
                row.tokens.append(token)
                row.logprobs.append(logprob)
                if token in self._end_ids or len(row.tokens) == row.sampling.max_tokens:
                    row.done = True
                    completed.append(row)
        alive = self._alive()
        if len(alive) < _FEW * len(self._rows):
            self._rows = alive
        if alive:
            # A row that is done computes its last token again, where it stood: its slot is unharmed. Whoever
            # wants the slot next is admitted first, and then such rows leave.
            self._logits_BV = self._forward(
                [row.slot for row in self._rows],
                [[row.tokens[-1]] for row in self._rows],
                [len(row.request.prompt_ids) + len(row.tokens) - 1 for row in self._rows],
                [0] * len(self._rows),
            )
            for row in alive:
                self._cached[row.slot] = row.known
        return completed

    def _forward(
        self,
        slots: Sequence[int],
        ids: Sequence[Sequence[int]],
        starts: Sequence[int],
        last: Sequence[int],
    ) -> torch.Tensor:
        """Run new tokens (B, L) that begin at `starts`; the logits (B, V) at index `last` of each row."""
        ids_BL = torch.tensor(ids, device=self._device)
        positions_BL = torch.tensor(starts)[:, None] + torch.arange(ids_BL.shape[1])
        # Padding past the end of the cache is folded onto the last position, which no prompt reaches.
        positions_BL = positions_BL.clamp(max=self._max_length - 1)
        cache = self._cache
        cache.rows = torch.tensor(slots, device=self._device)
        cache.all_rows = len(slots) == self._slots and list(slots) == list(range(self._slots))
        cache.until = int(positions_BL.max()) + 1
        cache.positions_BL = positions_BL = positions_BL.to(self._device)
        known_T = torch.arange(cache.until, device=self._device)
        mask_B1LT = (known_T <= positions_BL[:, :, None])[:, None]
        model = self._model.get_base_model() if hasattr(self._model, "get_base_model") else self._model
        hidden_BLE = model.model(
            input_ids=ids_BL,
            attention_mask=mask_B1LT,
            position_ids=positions_BL,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state
        last_BE = hidden_BLE[
            torch.arange(len(last), device=self._device), torch.tensor(last).to(self._device)
        ]
        logits_BV: torch.Tensor = model.lm_head(last_BE).float()
        return logits_BV

    def _completion(self, row: _Row) -> Completion:
        return Completion(
            token_ids=tuple(row.tokens),
            logprobs=tuple(row.logprobs),
            text="",
            finish_reason="stop" if row.tokens[-1] in self._end_ids else "length",
            policy_version=row.version,
        )


def _pick(
    logits_BV: torch.Tensor, uniforms: Sequence[float], temperatures: Sequence[float]
) -> tuple[list[int], list[float]]:
    """Tokens by the inverse of the cumulative distribution (argmax at temperature 0), and their logprobs."""
    heat_B1 = torch.tensor([t or 1.0 for t in temperatures], device=logits_BV.device)[:, None]
    logprobs_BV = torch.log_softmax(logits_BV / heat_B1, dim=-1)
    greedy_B = torch.tensor([t == 0 for t in temperatures], device=logits_BV.device)
    if bool(greedy_B.all()):
        tokens_B = logits_BV.argmax(-1)
    else:
        cumulative_BV = logprobs_BV.double().exp().cumsum(-1)
        uniform_B1 = torch.tensor(uniforms, dtype=torch.double, device=logits_BV.device)[:, None]
        tokens_B = torch.searchsorted(cumulative_BV, uniform_B1 * cumulative_BV[:, -1:], right=True)[:, 0]
        tokens_B = tokens_B.clamp(max=logits_BV.shape[-1] - 1)
        tokens_B = torch.where(greedy_B, logits_BV.argmax(-1), tokens_B)
    return tokens_B.tolist(), logprobs_BV.gather(1, tokens_B[:, None])[:, 0].tolist()
