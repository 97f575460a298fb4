"""A training run's configuration: one frozen record, read from TOML, checked once."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from gym_code.errors import ConfigError
from gym_code.synth.families import BY_NAME
from gym_code.types import canonical_digest

CONFIGS = Path(__file__).parent / "configs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a run is made of. A resumed run must have the same values (`digest`)."""

    model: str
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

    turns: int = 6
    max_tokens: int = 64
    """Most tokens of one completion."""
    max_length: int = 512
    """Most tokens of one conversation."""
    temperature: float = 1.0
    workers: int = 8
    """Threads that step and grade boxes."""

    lora_rank: int = 16
    lora_alpha: float = 32.0
    learning_rate: float = 1e-3
    warmup_steps: int = 2
    minibatches: int = 2
    clip_low: float = 0.2
    clip_high: float = 0.28
    length_norm: float = 30.0
    """The constant number of action tokens an episode's loss is divided by."""
    max_grad_norm: float = 1.0

    eval_tasks: int = 240
    eval_held_out_tasks: int = 48
    eval_samples: int = 2
    checkpoint_every: int = 5

    @property
    def trained_families(self) -> tuple[str, ...]:
        """The families that are trained on: all but the held-out ones, in the generator's order."""
        return tuple(name for name in BY_NAME if name not in self.held_out_families)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all values."""
        return canonical_digest(dataclasses.asdict(self))


def load_config(name_or_path: str, overrides: dict[str, Any]) -> Config:
    """A shipped config by name or a TOML file, with overrides. Raises `ConfigError` naming file and field."""
    path = Path(name_or_path) if name_or_path.endswith(".toml") else CONFIGS / f"{name_or_path}.toml"
    if not path.is_file():
        shipped = " ".join(sorted(p.stem for p in CONFIGS.glob("*.toml")))
        raise ConfigError("no such config", where=str(path), expected=shipped, found=name_or_path)
    try:
        values = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"not valid TOML: {error}", where=str(path)) from error
    return _checked(values | overrides, str(path))


def _checked(values: dict[str, Any], where: str) -> Config:
    hints = get_type_hints(Config)
    checked: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise ConfigError("unknown field", where=f"{where}: {key}", expected=" ".join(hints), found=key)
        wanted = hints[key]
        if wanted is float and type(value) is int:
            value = float(value)
        if wanted not in (int, float, str):
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
    if checked.get("control", "none") not in ("none", "shuffled"):
        raise ConfigError(
            "unknown control",
            where=f"{where}: control",
            expected="none or shuffled",
            found=checked["control"],
        )
    for key, least in (("group_size", 2), ("groups", 1), ("steps", 0), ("turns", 1), ("minibatches", 1)):
        if key in checked and checked[key] < least:
            raise ConfigError(
                "too small", where=f"{where}: {key}", expected=f">= {least}", found=checked[key]
            )
    return Config(**checked)


def to_toml(config: Config) -> str:
    """The config as TOML that `load_config` reads back to the same record."""
    lines = []
    for key, value in dataclasses.asdict(config).items():
        if isinstance(value, str):
            text = '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
        elif isinstance(value, tuple):
            text = "[" + ", ".join(f'"{v}"' if isinstance(v, str) else str(v) for v in value) + "]"
        else:
            text = repr(value)
        lines.append(f"{key} = {text}")
    return "\n".join(lines) + "\n"
