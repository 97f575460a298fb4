"""A training run's configuration: one frozen record, read from TOML, checked once."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from gym_code.errors import ConfigError
from gym_code.synth.families import BY_NAME
from gym_code.types import canonical_digest
from train.hub import HUB_ID, read_config
from train.loss import OBJECTIVES
from train.plan.shapes import KNOWN, read_shape

CONFIGS = Path(__file__).parent / "configs"

CHOICES = {
    "engine": ("torch", "vllm"),
    "control": ("none", "shuffled"),
    "objective": tuple(OBJECTIVES),
    "old_policy": ("recomputed", "served"),
    "dtype": ("float32", "bfloat16"),
    "sharding": ("none", "ddp", "fsdp"),
    "device": ("auto", "cpu", "cuda"),
}
UP_TO = {"qwen-0.5b": 1.0e9, "qwen-1.5b": 4.0e9, "qwen-7b": 1.0e10, "qwen-14b": 2.0e10, "qwen-32b": math.inf}
"""Which shipped config a model takes that comes without one, by its parameters."""
LEAST = {
    "vllm_replicas": 1,
    "vllm_threads": 1,
    "vllm_cache_gib": 1,
    "group_size": 2,
    "groups": 1,
    "steps": 0,
    "turns": 1,
    "minibatches": 1,
    "clip_low": 0.0,
    "clip_high": 0.0,
    "kl_coef": 0.0,
    "pack_length": 0,
    "episodes": 0,
    "tool_seconds": 0.0,
    "wait_seconds": 0.0,
    "staleness": 0,
    "refill": 0.0,
    "forward_tokens": 0,
    "promote_at": 0.0,
    "promote_after": 1,
    "stage_groups": 0,
    "earlier_share": 0.0,
    "rate_window": 1,
    "retry_every": 2,
    "real_tasks": 1,
    "warm_start_tasks": 1,
    "warm_start_steps": 1,
    "warm_start_batch": 1,
    "rejection_below": 0.0,
    "eval_every": 0,
    "eval_every_tasks": 1,
    "eval_tasks": 0,
    "eval_held_out_tasks": 0,
    "eval_samples": 1,
    "checkpoint_every": 1,
    "workers": 1,
    "lora_rank": 1,
    "max_tokens": 1,
    "warmup_steps": 0,
    "learning_rate": 0.0,
}
ABOVE_0 = ("temperature", "tis_cap", "length_norm", "max_grad_norm", "lora_alpha")
"""Divided by, or nothing would be learned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a run is made of. A resumed run must have the same values (`digest`)."""

    model: str
    """`tiny`, a directory in the hub's layout, or a hub id."""
    sandbox: str = "namespace"
    seed: int = 0
    control: str = "none"
    """`none`, or `shuffled`: advantages dealt out at random, which must teach nothing."""

    steps: int = 40
    groups: int = 16
    """Tasks a step; one group of samples each."""
    group_size: int = 8
    held_out_families: tuple[str, ...] = ()
    """Families never trained on; evaluated apart."""
    levels: tuple[int, ...] = (1, 2, 3)

    stages: tuple[str, ...] = ("procedural",)
    """Suites by reference, trained on one after the other. `procedural` alone never shows a task twice."""
    promote_at: float = 0.7
    """The next stage begins when the units of a stage are solved this often on average; above 1: never."""
    promote_after: int = 64
    """Fewest groups of a stage before the next can begin."""
    stage_groups: int = 0
    """Groups of a stage after which the next begins however little was solved; 0: never."""
    earlier_share: float = 0.1
    """The share of draws that stays with earlier stages."""
    rate_window: int = 3
    """Groups over which a unit's solve rate is kept (a unit: a procedural family, otherwise a task)."""
    skip_flat: bool = False
    """Skip units whose last `rate_window` groups were all 0 or all 1. Left out: where there are stages."""
    retry_every: int = 8
    """Where units are skipped, one of them is drawn again at one draw in so many."""
    real_tasks: int = 20
    """Most tasks made from each package of a `real:NAME,NAME` suite."""

    warm_start: str = ""
    """What is learned from before the first step: `oracle` (solutions of training tasks), or a file of
    trajectories. Nothing by default."""
    warm_start_tasks: int = 128
    """Most tasks whose solutions are shown."""
    warm_start_steps: int = 20
    warm_start_batch: int = 32
    """Episodes a step of the warm start."""
    rejection_below: float = 0.0
    """While the stage's solve rate is under this, a step learns from its own resolved episodes, and shown
    solutions where there are none; 0: never."""

    turns: int = 6
    max_tokens: int = 64
    """Most tokens of one completion."""
    max_length: int = 512
    """Most tokens of one conversation."""
    temperature: float = 1.0
    workers: int = 8
    """Boxes that are opened or graded at a time. Their tools run in all at once, for tools may wait; in a
    deterministic run in as many."""
    episodes: int = 0
    """Most episodes in play at a time; 0: those of a batch."""
    tool_seconds: float = 0.0
    """Most seconds that an episode's boxes may take; 0: the task's own limit."""
    wait_seconds: float = 0.0
    """An episode that waited so long for completions is ungraded: no fault of the agent; 0: no bound."""

    deterministic: bool = False
    """Lockstep, so that seed and threads give the same bits; needs the torch engine and staleness 0."""
    staleness: int = 0
    """Updates that the policy may be ahead of the one that sampled a group."""
    refill: float = 0.0
    """Groups whose rewards are all the same are left out and others played, at most this share of a batch."""

    lora_rank: int = 16
    lora_alpha: float = 32.0
    learning_rate: float = 1e-3
    warmup_steps: int = 2
    minibatches: int = 2
    """Optimizer steps a batch of rollouts."""
    max_grad_norm: float = 1.0

    objective: str = "dr_grpo"
    """One of `train/loss.py`."""
    clip_low: float = OBJECTIVES["dr_grpo"].clip_low
    """The ratio is clipped at 1 - clip_low and 1 + clip_high; without a value the objective's own."""
    clip_high: float = OBJECTIVES["dr_grpo"].clip_high
    length_norm: float = 30.0
    """dr_grpo: the constant number of action tokens an episode's loss is divided by."""
    kl_coef: float = 0.0
    """Weight of the KL divergence to the base; 0 saves its forward."""
    reward_weights: tuple[tuple[str, float], ...] = ()
    """A table of weights of the reward's named parts; without one the reward is 1 where solved."""
    old_policy: str = "recomputed"
    """What the ratio divides by. `recomputed`: the trainer's logprobs as the step begins; what the engine
    computes otherwise is corrected by truncated weights. `served`: the engine's, if it computes the same."""
    tis_cap: float = 2.0
    """Largest weight of a token's recomputed / served probability."""
    geo_mask_low: float = 0.0
    geo_mask_high: float = math.inf
    """Sequences whose geometric mean of recomputed / served lies outside are left out; 0 and inf: none."""

    device: str = "auto"
    """`cuda`, `cpu`, or `auto`: a GPU where there is one."""
    dtype: str = "float32"
    """Of base and forward, `float32` or `bfloat16`; adapter, optimizer and softmax stay in fp32."""
    pack_length: int = 0
    """Tokens a row: segments are packed into rows of that length; 0: a row each."""
    shared_prefix: bool = False
    """Compute once what packed segments of one group have in common."""
    forward_tokens: int = 0
    """Most tokens of one forward and backward, gradients accumulated; 0: an optimizer step in one."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward: less memory, a third more work."""
    sharding: str = "none"
    """What the processes of a torchrun share: `ddp`, the work; `fsdp`, the base's weights too."""

    engine: str = "torch"
    """What samples: `torch`, in the trainer's process, or `vllm`, servers over HTTP."""
    vllm_replicas: int = 1
    """Servers that the run starts."""
    vllm_urls: tuple[str, ...] = ()
    """Servers that are there already; they must see the run's directory. Then none is started."""
    vllm_threads: int = 1
    """On a CPU: threads of a server's forward. More than one is slower for a small model."""
    vllm_cache_gib: int = 1
    """On a CPU: GiB of a server's key-value cache."""
    vllm_gpu_memory: float = 0.5
    """On a GPU: the fraction of its memory that a server takes."""
    vllm_sleep: bool = False
    """The servers give their GPUs' memory away during an update: for a GPU shared with the trainer."""

    eval_tasks: int = 240
    eval_held_out_tasks: int = 48
    eval_samples: int = 2
    eval_every: int = 0
    """Steps between evaluations on the way, which decide what `checkpoints/best` holds; 0: none."""
    eval_every_tasks: int = 48
    """Held-out tasks of such an evaluation."""
    eval_suites: tuple[str, ...] = ()
    """Suites whose tasks of grade `eval` are evaluated beside the procedural ones, by reference."""
    checkpoint_every: int = 5

    @property
    def seats(self) -> int:
        """Most episodes in play at a time."""
        return self.episodes or self.groups * self.group_size

    @property
    def trained_families(self) -> tuple[str, ...]:
        """The families that are trained on: all but the held-out ones, in the generator's order."""
        return tuple(name for name in BY_NAME if name not in self.held_out_families)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all values."""
        return canonical_digest(dataclasses.asdict(self))


def load_config(name: str, overrides: dict[str, Any], *, download: bool = True) -> Config:
    """A shipped config by name, a TOML file, or a model (directory or hub id) with the config of its size.

    Overrides go on top. A model of the hub that is not known here tells its size by a small file, which may
    have to be downloaded. Raises `ConfigError` naming file and field.
    """
    path = Path(name) if name.endswith(".toml") else CONFIGS / f"{name}.toml"
    if not path.is_file() and not name.endswith(".toml") and (Path(name).is_dir() or HUB_ID.fullmatch(name)):
        overrides = {"model": name} | overrides
        path = CONFIGS / f"{config_for(name, download=download)}.toml"
    if not path.is_file():
        shipped = " ".join(sorted(p.stem for p in CONFIGS.glob("*.toml")))
        raise ConfigError(
            "no such config",
            where=str(path),
            expected=f"{shipped}, a .toml file, a model's directory or its hub id",
            found=name,
        )
    try:
        values = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", where=str(path)) from error
    return _checked(_with_skipping(_with_clips(_with_engine(values, overrides))), str(path))


def _with_engine(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """A table named after an engine (`[vllm]`) holds what is different where that engine samples."""
    tables = {name: values[name] for name in CHOICES["engine"] if isinstance(values.get(name), dict)}
    made = {key: value for key, value in values.items() if key not in tables} | overrides
    special: dict[str, Any] = tables.get(made.get("engine", "torch"), {})
    return made | special | overrides


def config_for(model: str, *, download: bool = True) -> str:
    """The shipped config that fits a model's size. Raises `ConfigError` where its size is not known."""
    shape = KNOWN.get(model) or read_shape(*read_config(model, download=download))
    return next(name for name, parameters in UP_TO.items() if shape.parameters <= parameters)


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """`KEY=VALUE` options as overrides: a value is TOML, or text where it is none.

    >>> parse_settings(["steps=3", "levels=[1, 2]", "model=/models/mine", "learning_rate=1e-5"])
    {'steps': 3, 'levels': [1, 2], 'model': '/models/mine', 'learning_rate': 1e-05}
    """
    made: dict[str, Any] = {}
    for setting in settings:
        key, found, value = setting.partition("=")
        if not found:
            raise ConfigError("not a setting", where="--set", expected="KEY=VALUE", found=setting)
        try:
            made[key.strip()] = tomllib.loads(f"value = {value}")["value"]
        except tomllib.TOMLDecodeError:
            made[key.strip()] = value
    return made


def _with_clips(values: dict[str, Any]) -> dict[str, Any]:
    """The clips of the objective that is named, where the values name none."""
    objective = OBJECTIVES.get(values.get("objective", "dr_grpo"))
    if objective is None:
        return values
    return {"clip_low": objective.clip_low, "clip_high": objective.clip_high} | values


def _with_skipping(values: dict[str, Any]) -> dict[str, Any]:
    """Skipping on where a curriculum has several stages and the values say nothing of it."""
    stages = values.get("stages")
    return {"skip_flat": isinstance(stages, (list, tuple)) and len(stages) > 1} | values


def _checked(values: dict[str, Any], where: str) -> Config:
    hints = get_type_hints(Config)
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise ConfigError("unknown field", where=f"{where}: {key}", expected=" ".join(hints), found=key)
        wanted = hints[key]
        if wanted is float and type(value) is int:
            value = float(value)
        if key == "reward_weights":
            value = _weights(value, where)
        elif wanted not in (int, float, str, bool):
            kind = int if key == "levels" else str
            if not isinstance(value, (list, tuple)) or any(type(item) is not kind for item in value):
                raise ConfigError(
                    "wrong type",
                    where=f"{where}: {key}",
                    expected=f"list of {kind.__name__}",
                    found=repr(value),
                )
            value = tuple(value)
        elif type(value) is not wanted:
            raise ConfigError(
                "wrong type", where=f"{where}: {key}", expected=wanted.__name__, found=repr(value)
            )
        checked[key] = value
    if "model" not in checked:
        raise ConfigError("missing field", where=f"{where}: model", expected="a model", found="nothing")
    for key, known in CHOICES.items():
        if key in checked and checked[key] not in known:
            raise ConfigError(
                f"unknown {key}", where=f"{where}: {key}", expected=" or ".join(known), found=checked[key]
            )
    for key, least in LEAST.items():
        if key in checked and checked[key] < least:
            raise ConfigError(
                "too small", where=f"{where}: {key}", expected=f">= {least}", found=checked[key]
            )
    for key in ABOVE_0:
        if key in checked and not checked[key] > 0:
            raise ConfigError("too small", where=f"{where}: {key}", expected="> 0", found=checked[key])
    for key in ("levels", "stages"):
        if checked.get(key) == ():
            raise ConfigError(
                f"no {key[:-1]}", where=f"{where}: {key}", expected="at least one", found="none"
            )
    if checked.get("earlier_share", 0.0) >= 1.0:
        raise ConfigError(
            "nothing is left for the present stage",
            where=f"{where}: earlier_share",
            expected="less than 1",
            found=checked["earlier_share"],
        )
    if checked.get("shared_prefix") and not checked.get("pack_length"):
        raise ConfigError(
            "rows can share a prefix only where they are packed",
            where=f"{where}: shared_prefix",
            expected="pack_length > 0",
            found="pack_length = 0",
        )
    _check_deterministic(checked, where)
    _check_places(checked, where)
    made = Config(**checked)
    _check_room(made, where)
    return made


def _check_room(config: Config, where: str) -> None:
    """What would leave no family to train on, or no episode room to say anything."""
    unknown = [name for name in config.held_out_families if name not in BY_NAME]
    if unknown or not config.trained_families:
        raise ConfigError(
            "unknown family" if unknown else "no family is left to train on",
            where=f"{where}: held_out_families",
            expected=f"some of {' '.join(BY_NAME)}",
            found=" ".join(unknown or config.held_out_families),
        )
    if config.max_tokens >= config.max_length:
        raise ConfigError(
            "a completion leaves no room for a prompt",
            where=f"{where}: max_tokens",
            expected=f"less than max_length ({config.max_length})",
            found=config.max_tokens,
        )


def _check_deterministic(checked: dict[str, Any], where: str) -> None:
    for key, wanted in (("engine", "torch"), ("staleness", 0), ("wait_seconds", 0.0)):
        if checked.get("deterministic") and checked.get(key, wanted) != wanted:
            raise ConfigError(
                "a deterministic run cannot have this",
                where=f"{where}: {key}",
                expected=str(wanted),
                found=checked[key],
            )


def _check_places(checked: dict[str, Any], where: str) -> None:
    """What trains, what samples, and whether the two can share what they would have to."""
    engine = checked.get("engine", "torch")
    if checked.get("sharding") == "fsdp" and engine == "torch":
        raise ConfigError(
            "the torch engine samples in rank 0, which holds only a part of a sharded base",
            where=f"{where}: engine",
            expected="vllm with sharding = fsdp",
            found=engine,
        )
    if checked.get("vllm_sleep") and engine != "vllm":
        raise ConfigError(
            "only vLLM servers sleep", where=f"{where}: vllm_sleep", expected="engine = vllm", found=engine
        )
    if checked.get("vllm_sleep") and checked.get("staleness"):
        raise ConfigError(
            "servers that sleep while the trainer learns sample nothing meanwhile",
            where=f"{where}: vllm_sleep",
            expected="staleness = 0",
            found=f"staleness = {checked['staleness']}",
        )


def _weights(value: Any, where: str) -> tuple[tuple[str, float], ...]:
    if not isinstance(value, dict) or any(type(weight) not in (int, float) for weight in value.values()):
        raise ConfigError(
            "wrong type",
            where=f"{where}: reward_weights",
            expected="a table such as { resolved = 1.0, shaped = 0.2 }",
            found=repr(value),
        )
    return tuple((name, float(weight)) for name, weight in sorted(value.items()))


def to_toml(config: Config) -> str:
    """The config as TOML that `load_config` reads back to the same record."""
    lines = []
    for key, value in dataclasses.asdict(config).items():
        if isinstance(value, str):
            text = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        elif key == "reward_weights":
            text = "{ " + ", ".join(f'"{name}" = {weight!r}' for name, weight in value) + " }"
        elif isinstance(value, bool):
            text = str(value).lower()
        elif isinstance(value, tuple):
            text = "[" + ", ".join(f'"{v}"' if isinstance(v, str) else str(v) for v in value) + "]"
        else:
            text = repr(value)
        lines.append(f"{key} = {text}")
    return "\n".join(lines) + "\n"
