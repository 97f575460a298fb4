"""What a run would need and do, told without starting or downloading anything.

    make train MODEL=qwen-7b PLAN=1

GPUs are dealt out as the run deals them: processes of the trainer from the first, servers from the last
(`train/engine/server.py`); on one GPU both share it, in turn where the servers sleep. Memory is reckoned in
`train/plan/memory.py`. Times are rough: they follow from the work, from what a GPU can do at best and from
the shares of that named below, and they leave out tools and tests.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from gym_code.errors import ConfigError, InputError
from gym_code.synth.packages import chosen, is_real, real_packages
from gym_code.task import load_suite
from train.config import Config
from train.hub import read_config
from train.plan.machine import (
    Gpu,
    Missing,
    find_gpus,
    missing_boxes,
    missing_disk,
    missing_vllm,
    missing_weights,
)
from train.plan.memory import (
    ASLEEP,
    CONTEXT,
    Part,
    cache_part,
    conversation_bytes,
    peak,
    resident,
    server_parts,
    trainer_parts,
)
from train.plan.shapes import KNOWN, Shape, read_shape

SPEEDS = {
    "B200": (2250e12, 8.0e12),
    "H200": (989e12, 4.8e12),
    "H100": (989e12, 3.35e12),
    "A100": (312e12, 2.0e12),
    "L40S": (362e12, 0.86e12),
    "L4": (121e12, 0.3e12),
    "A10": (125e12, 0.6e12),
    "4090": (165e12, 1.0e12),
    "3090": (71e12, 0.94e12),
}
"""Operations a second in bf16 (dense) and bytes a second of memory, as NVIDIA's data sheets state them."""
ASSUMED = "H100"
TRAINED, PREFILLED, READ = 0.35, 0.4, 0.6
"""Shares of those that training, prompts and the sampling of tokens reach, more or less."""
FILLED, SAID = 0.5, 0.2
"""A conversation's usual length over `max_length`, and how much of it the policy says itself."""
KEPT, LOGS = 4, 5e8
"""Checkpoints at a time at most (12 bytes a trained number each), and bytes of trajectories and logs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Which GPUs train and which serve, by number; both empty on a CPU."""

    trainers: tuple[int, ...] = ()
    servers: tuple[int, ...] = ()

    @property
    def shared(self) -> bool:
        """Whether a GPU does both."""
        return bool(set(self.trainers) & set(self.servers))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A run as it would go on these GPUs."""

    config: Config
    shape: Shape
    gpus: tuple[Gpu, ...]
    places: Places
    trainer: tuple[Part, ...]
    server: tuple[Part, ...]
    stages: tuple[tuple[str, str], ...]
    """Each stage's suite and what is there of it."""
    missing: tuple[Missing, ...]


def make_plan(config: Config, gpus: Sequence[Gpu] | None = None) -> Plan:
    """The plan for these GPUs; None: those of this machine.

    Raises `ConfigError` where the sizes of the model are not known.
    """
    gpus = find_gpus() if gpus is None else gpus
    shape = shape_of(config.model)
    places = lay_out(config, len(gpus))
    trainer = trainer_parts(shape, config, max(len(places.trainers), 1))
    server = server_parts(shape, config) if _serves(config) else []
    stages, unknown = _stages(config)
    missing = [
        *_missing_gpus(config, shape, gpus, places, trainer, server),
        *missing_vllm(config),
        *missing_weights(config, shape),
        *missing_boxes(config),
        *missing_disk(Path("runs"), LOGS + KEPT * 12 * shape.adapter_parameters(config.lora_rank)),
        *unknown,
    ]
    return Plan(
        config=config,
        shape=shape,
        gpus=tuple(gpus),
        places=places,
        trainer=tuple(trainer),
        server=tuple(server),
        stages=stages,
        missing=tuple(missing),
    )


def require(config: Config) -> list[Missing]:
    """What a run should be warned of as it starts.

    Raises `ConfigError`, in one line, for all that is missing where some of it keeps the run from starting.
    """
    missing = make_plan(config).missing
    if any(item.then == "ends" for item in missing):
        raise ConfigError(
            "; ".join(f"{item.what} ({item.mend})" for item in missing),
            where=f"cannot train {config.model} here",
        )
    return [item for item in missing if item.then == "warns"]


def shape_of(model: str) -> Shape:
    """The sizes of a model by hub id, directory or name, without a download."""
    return KNOWN.get(model) or read_shape(*read_config(model, download=False))


def lay_out(config: Config, count: int) -> Places:
    """Who gets which of `count` GPUs: the trainer the first ones, the servers the last ones."""
    if not count or config.device == "cpu":
        return Places()
    replicas = config.vllm_replicas if _serves(config) else 0
    ranks = int(os.environ.get("WORLD_SIZE", "0"))
    if not ranks:
        ranks = 1 if config.sharding == "none" else max(1, count - replicas)
    return Places(
        trainers=tuple(range(min(ranks, count))),
        servers=tuple(count - 1 - number % count for number in range(replicas)),
    )


def _serves(config: Config) -> bool:
    return config.engine == "vllm" and not config.vllm_urls


def _missing_gpus(
    config: Config,
    shape: Shape,
    gpus: Sequence[Gpu],
    places: Places,
    trainer: Sequence[Part],
    server: Sequence[Part],
) -> list[Missing]:
    training = peak(trainer) + CONTEXT
    serving = peak(server) + (conversation_bytes(shape, config) if server else 0.0)
    if not gpus:
        if config.device != "cuda":
            return []
        needed = f"{(training + serving) / 1e9:.0f} GB together"
        if serving:
            needed = f"{training / 1e9:.0f} GB for the trainer and more than {serving / 1e9:.0f} GB for vLLM"
        return [
            Missing(
                what=f"no GPU: nvidia-smi lists none, and this run needs {needed}",
                mend="a machine with one; `make train MODEL=tiny` needs none",
            )
        ]
    found = []
    for number in sorted({*places.trainers, *places.servers}):
        wanted = _on_gpu(number, config, gpus[number], places, trainer)
        if number in places.servers and config.vllm_gpu_memory * gpus[number].memory < serving:
            wanted = max(wanted, serving / config.vllm_gpu_memory)
        if wanted > gpus[number].memory:
            found.append(
                Missing(
                    what=f"GPU {number} ({gpus[number].name}) has {gpus[number].memory / 1e9:.0f} GB, "
                    f"{wanted / 1e9:.0f} GB are needed",
                    mend=_mend(config, places, number),
                    then="warns",  # reckoned, not tried
                )
            )
    return found


def _on_gpu(number: int, config: Config, gpu: Gpu, places: Places, trainer: Sequence[Part]) -> float:
    """Bytes that what is placed on a GPU takes there at most."""
    learning = peak(trainer) + CONTEXT if number in places.trainers else 0.0
    serving = config.vllm_gpu_memory * gpu.memory if number in places.servers else 0.0
    if learning and serving and config.vllm_sleep:
        return max(resident(trainer) + CONTEXT + serving, learning + ASLEEP)
    return learning + serving


def _mend(config: Config, places: Places, number: int) -> str:
    if number in places.trainers and number in places.servers:
        turns = "" if config.vllm_sleep else "vllm_sleep=true with staleness=0, "
        return f"{turns}another vllm_gpu_memory, or a second GPU"
    if number in places.servers:
        return "a larger GPU for vLLM, or a higher vllm_gpu_memory"
    return "sharding=fsdp over several GPUs, or a smaller forward_tokens and max_length"


def _stages(config: Config) -> tuple[tuple[tuple[str, str], ...], list[Missing]]:
    rows, missing = [], []
    for reference in config.stages:
        try:
            rows.append((reference, _stage(reference, config)))
        except InputError as error:
            rows.append((reference, "not there"))
            missing.append(Missing(what=str(error), mend="gym-code tasks list"))
    return tuple(rows), missing


def _stage(reference: str, config: Config) -> str:
    if is_real(reference):
        packages = chosen(reference, real_packages())
        names = ", ".join(package.name for package in packages)
        return f"made as the run begins: at most {config.real_tasks} tasks each of {names} (from pip's index)"
    if reference == "procedural":
        return "there: fresh tasks from the seed, without end"
    return f"there: {len(load_suite(reference).ids())} tasks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Seconds a step, roughly."""

    gpu: str
    sampling: float
    training: float
    overlap: bool
    """Whether GPUs of their own and staleness let both happen at once."""

    @property
    def step(self) -> float:
        """Both, one after the other or side by side."""
        return max(self.sampling, self.training) if self.overlap else self.sampling + self.training


def times(plan: Plan) -> Times:
    """What a step takes on the plan's GPUs, or on an H100 where there is none or an unknown one."""
    config, shape = plan.config, plan.shape
    named = plan.gpus[0].name if plan.gpus else ASSUMED
    gpu = next((name for name in SPEEDS if name in named), ASSUMED)
    operations, bandwidth = SPEEDS[gpu]
    episodes = config.groups * config.group_size
    length = FILLED * config.max_length
    tokens = episodes * length
    forward = shape.forward_flops(length / 2)
    passes = 2.0 + config.gradient_checkpointing + (config.kl_coef > 0)
    if config.old_policy == "recomputed":
        passes += 1 - 1 / config.minibatches
    head = SAID * 4 * shape.vocab * shape.hidden  # logits and their gradient, where a token was sampled
    trainers = max(len(plan.places.trainers), 1)
    training = tokens * (passes * forward + head) / (TRAINED * operations * trainers)
    replicas = max(len(plan.places.servers), 1)
    open_at_once = min(config.seats / replicas, max(room(plan) / length, 1.0))
    numbers = 2 if config.dtype == "bfloat16" else 4
    read = shape.parameters * numbers + open_at_once * length * shape.cache_numbers * numbers
    rounds = math.ceil(episodes / replicas / open_at_once)
    sampling = rounds * SAID * length * read / (READ * bandwidth)
    sampling += tokens / replicas * forward / (PREFILLED * operations)
    overlap = config.staleness > 0 and config.engine == "vllm" and not plan.places.shared
    return Times(gpu=gpu, sampling=sampling, training=training, overlap=overlap)


def room(plan: Plan) -> float:
    """Tokens of which one server's cache has room; as many as wanted where no GPU is known."""
    config, each = plan.config, conversation_bytes(plan.shape, plan.config) / plan.config.max_length
    wanted = cache_part(plan.shape, config).bytes / each
    if not plan.places.servers:
        return wanted
    memory = min(plan.gpus[number].memory for number in plan.places.servers)
    left = config.vllm_gpu_memory * memory - peak(plan.server)
    return max(0.0, min(wanted, left / each))
