"""The processes that train one policy together, as `torchrun` starts them.

Rank 0 leads: it plays, grades, keeps the log, writes checkpoints and talks to the servers. The other ranks
hold the same policy and wait. What all must do together is a function that rank 0 names and every rank runs:

    rank 0     ranks.run(update, segments, config, step)
    others     ranks.follow()                                  returns when rank 0 leaves

`ddp`: every rank holds the whole policy. `fsdp`: of each layer of the base every rank holds a part, and the
layers are gathered one by one as a forward or backward comes to them (FSDP2, `fully_shard`).

Either way the adapter and its optimizer are whole on every rank: they are a hundredth of the base. So
checkpoints, deliveries and probes read the adapter where it lies, a run may resume on another number of
ranks, and gradients travel as one flat tensor, once an optimizer step. They are summed, not averaged: each
loss is already divided by what the whole step counts (`train/loss.py`).
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from gym_code.errors import ConfigError, GymCodeError
from gym_code.types import Segment
from train.checkpoint import take_base_digest
from train.model import device_of
from train.pack import split

COLLECTIVE = timedelta(minutes=30)
"""How far ranks may fall behind one another in an update."""
COMMAND = timedelta(days=30)
"""How long rank 0 may play before it needs the others. A rank 0 that ends is noticed at once."""

Work = Callable[..., Any]
"""work(model, optimizer, *arguments, ranks=...), a function that other processes find by its name; without
model and optimizer before `hold`."""


class RankLost(GymCodeError):
    """Another process of the run is gone."""


class Ranks:
    """This process and the others of its run. Without `joined` it is alone, and everything happens here."""

    def __init__(self, rank: int = 0, size: int = 1, device: Any = "cpu", commands: Any = None) -> None:
        self.rank, self.size, self.device = rank, size, torch.device(device)
        self._commands = commands
        self._policy: tuple[Any, ...] = ()
        self._together = False

    def hold(self, model: Any, optimizer: torch.optim.Optimizer, sharding: str = "none") -> None:
        """Take a policy to this rank's device, and its base apart where `sharding` is `fsdp`."""
        if sharding == "fsdp":
            take_base_digest(model)
            _shard(model, self)
        self._policy = (model.to(self.device), optimizer)
        if sharding == "fsdp":
            # What layers are gathered into is made in the first forward; a delivery probe's inference mode
            # would make it unfit for learning.
            _lend_parts(model, optimizer, ranks=self)
            # Rank 0 alone asks the policy for such a probe; the others must lend it their parts.
            decoder = model.get_base_model().model
            decoder.register_forward_pre_hook(self._ask_for_parts, prepend=True)

    def run(self, work: Work, *arguments: Any) -> Any:
        """Have every rank do `work`, on its policy once it holds one; what it returned here.

        Only rank 0 may call this.
        """
        if self.size > 1:
            self._tell((work, arguments))
        return self._do(work, arguments)

    def follow(self) -> None:
        """Do what rank 0 says until it leaves. Raises `RankLost` when it is gone without a word."""
        while (told := self._hear()) is not None:
            self._do(*told)

    def spread(self) -> None:
        """Give every rank the adapter and the optimizer of rank 0. Only rank 0 may call this."""
        if self.size > 1:
            model, optimizer = self._policy
            state = {"adapter": adapter_of(model), "optimizer": optimizer.state_dict()}
            torch.save(state, content := io.BytesIO())
            self.run(_adopt, content.getvalue())

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over all ranks, in one exchange."""
        if self.size > 1:
            flat = torch.cat([tensor.flatten() for tensor in tensors])
            dist.all_reduce(flat)
            for tensor, total in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
                tensor.copy_(total.view_as(tensor))

    def gather(self, rows: list[Any]) -> list[Any]:
        """The rows of all ranks, in the ranks' order; the same everywhere."""
        if self.size == 1:
            return rows
        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, rows, group=self._commands)
        return [row for part in parts for row in part]

    def leave(self) -> None:
        """Send the other ranks home."""
        if self.size > 1 and self.rank == 0 and not self._together:
            self._tell(None)

    def _do(self, work: Work, arguments: tuple[Any, ...]) -> Any:
        self._together = True  # stays so after an error: this rank and the others have parted
        result = work(*self._policy, *arguments, ranks=self)
        self._together = False
        return result

    def _ask_for_parts(self, *_: object) -> None:
        if self.rank == 0 and not self._together:
            self._tell((_lend_parts, ()))

    def _tell(self, told: tuple[Work, tuple[Any, ...]] | None) -> None:
        dist.broadcast_object_list([told], src=0, group=self._commands)

    def _hear(self) -> tuple[Work, tuple[Any, ...]] | None:
        heard: list[Any] = [None]
        try:
            dist.broadcast_object_list(heard, src=0, group=self._commands)
        except RuntimeError as error:
            raise RankLost(f"rank {self.rank}: rank 0 is gone: {error}") from error
        return heard[0]  # type: ignore[no-any-return]


@contextmanager
def joined(sharding: str, device: str = "auto") -> Iterator[Ranks]:
    """The ranks that torchrun started; without `sharding` a process alone. `device` as in the config.

    Raises `ConfigError` where the number of processes or of GPUs does not fit, `RankLost` where another
    process ends before all have met.
    """
    launched = "RANK" in os.environ and "WORLD_SIZE" in os.environ
    if (sharding != "none") != launched:
        raise ConfigError(
            "torchrun starts the processes, and sharding says what they share",
            where="sharding",
            expected="ddp or fsdp under torchrun --nproc-per-node N, none without it",
            found=f"{sharding} {'under torchrun' if launched else 'without torchrun'}",
        )
    if not launched:
        yield Ranks(device=device_of(device))
        return
    rank, size, local = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"))
    place = device_of(device)
    if place.type == "cuda":
        if local >= torch.cuda.device_count():
            raise ConfigError(
                "more processes than GPUs",
                where="--nproc-per-node",
                expected=f"at most {torch.cuda.device_count()}",
                found=f"local rank {local}",
            )
        torch.cuda.set_device(place)
    backend = "cpu:gloo,cuda:nccl" if place.type == "cuda" else "gloo"
    with _meeting(rank):
        dist.init_process_group(backend, timeout=COLLECTIVE)
    try:
        with _meeting(rank):
            commands = dist.new_group(backend="gloo", timeout=COMMAND)
        ranks = Ranks(rank, size, place, commands)
        try:
            yield ranks
        finally:
            with suppress(RuntimeError):  # those that are gone need not be told
                ranks.leave()
    finally:
        dist.destroy_process_group()


@contextmanager
def _meeting(rank: int) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RankLost(f"rank {rank}: the processes of the run do not come together: {error}") from error


def deal(segments: Sequence[Segment], hands: int, *, whole_groups: bool) -> list[list[Segment]]:
    """Segments for each of `hands` ranks, of about as many tokens each, in their order.

    The longest first, each to the rank that has least so far. `whole_groups` keeps a group at one rank, where
    its segments can share what they have in common.
    """
    units: dict[Any, list[int]] = {}
    for number, segment in enumerate(segments):
        units.setdefault(segment.group_id if whole_groups else number, []).append(number)
    tokens = {key: sum(len(segments[n].token_ids_T) for n in numbers) for key, numbers in units.items()}
    loads, dealt = [0] * hands, [list[int]() for _ in range(hands)]
    for key in sorted(units, key=lambda key: -tokens[key]):
        hand = loads.index(min(loads))
        loads[hand] += tokens[key]
        dealt[hand] += units[key]
    return [[segments[n] for n in sorted(numbers)] for numbers in dealt]


def shares(
    segments: Sequence[Segment], ranks: Ranks, *, tokens: int, whole_groups: bool
) -> list[tuple[list[Segment], bool]]:
    """This rank's forwards of at most `tokens` tokens, and whether it is the one that learns from them.

    There are as many as any rank has, for all join in each exchange: a rank that has fewer repeats a short
    segment that does not count.
    """
    dealt = deal(segments, ranks.size, whole_groups=whole_groups)
    splits = [split(hand, tokens) if hand else [] for hand in dealt]
    mine = splits[ranks.rank]
    spare = [min(segments, key=lambda segment: len(segment.token_ids_T))]
    missing = max(map(len, splits)) - len(mine)
    return [(forward, True) for forward in mine] + [(spare, False)] * missing


def adapter_of(model: Any) -> dict[str, Tensor]:
    """The trained weights by name."""
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def _shard(model: Any, ranks: Ranks) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    decoder = model.get_base_model().model
    apart = {p for layer in decoder.layers for p in layer.parameters() if not p.requires_grad}
    # Embedding and head stay whole too: the chunked head (train/logprob.py) reads its weight as it is.
    whole = set(model.parameters()) - apart
    mesh = init_device_mesh(ranks.device.type, (ranks.size,))
    for module in (*decoder.layers, decoder):
        fully_shard(module, mesh=mesh, ignored_params=whole)


def _lend_parts(model: Any, _: torch.optim.Optimizer, *, ranks: Ranks) -> None:
    """Take part in a forward of rank 0's. What comes out here is not looked at."""
    with torch.no_grad():
        nothing = torch.zeros((1, 1), dtype=torch.long, device=ranks.device)
        model.get_base_model().model(input_ids=nothing, use_cache=False)


def _adopt(model: Any, optimizer: torch.optim.Optimizer, content: bytes, *, ranks: Ranks) -> None:
    state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    with torch.no_grad():
        for name, parameter in adapter_of(model).items():
            parameter.copy_(state["adapter"][name])
    optimizer.load_state_dict(state["optimizer"])
