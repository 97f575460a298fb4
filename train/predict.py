"""A model of ours plays the episodes of an evaluation: a base, or the adapter that a run has trained.

It is served as in training (`train/engine`) and played by the same `Roller`: token ids in and out, by the
model's own template. What its episodes leave is graded by whoever asked for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, nullcontext
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from agents.budgets import Budget
from agents.chat import load_chat
from agents.players import Hold, Wanted
from gym_code.errors import ConfigError
from gym_code.sandbox.base import Backend
from gym_code.task import Suite
from gym_code.types import JSON, Trajectory
from train.checkpoint import LATEST, base_digest, file_sha256
from train.config import Config, load_config
from train.distributed import Ranks
from train.engine.base import Sampling
from train.engine.choose import open_engine
from train.engine.server import vllm_python
from train.grpo import make_policy
from train.hub import locate
from train.model import device_of, load_adapter
from train.rollout import Bounds, Order, Roller

ADAPTER = "adapter_model.safetensors"
EPISODES_A_JOB = 4
"""Episodes in play for each box at work: while the model thinks, its box has nothing to do."""
PLAYING: Mapping[str, Any] = {
    "stages": ("procedural",),  # no training task is drawn, so no stage has to be made
    "sharding": "none",
    "staleness": 0,
    "deterministic": False,
    "gradient_checkpointing": False,
    "vllm_sleep": False,
}
"""What is different where a model only plays."""


class ModelPlayer:
    """Plays with a model. Leaving it ends the engine and the boxes that are open.

    config: as `model_config` makes it. adapter: a checkpoint's directory, or None for the base. directory:
    takes the engine's files; report: told while it starts, which it does when there is something to play.

    Raises `ConfigError` where the model is missing.
    """

    def __init__(
        self,
        config: Config,
        adapter: Path | None,
        suite: Suite,
        backend: Backend,
        *,
        name: str,
        sampling: Sampling,
        bounds: Bounds,
        directory: Path,
        threads: int = 0,
        hold: Hold = nullcontext,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.name, self._suite, self._sampling, self._hold = name, suite, sampling, hold
        self._config, self._adapter, self._backend, self._bounds = config, adapter, backend, bounds
        self._directory, self._report = directory, report
        report(f"loading {name}")
        ranks = Ranks(device=device_of(config.device))
        self._policy, _, self._base = ranks.run(make_policy, config, threads)
        self._chat = load_chat(self._base)
        self._stack = ExitStack()
        self.identity: Mapping[str, JSON] = {
            "base": base_digest(self._policy),
            "adapter": file_sha256(adapter / ADAPTER) if adapter else "",
            "template": self._chat.digest,
            "engine": config.engine,
            "sampling": asdict(sampling),
            "bounds": asdict(bounds),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def play(self, take: Callable[[], Wanted | None]) -> Iterator[tuple[Wanted, Trajectory]]:
        """Play what `take` hands out, as many episodes at a time as there are seats.

        Raises `ConfigError` where vLLM is missing, `EngineError` where it does not start or serve.
        """
        roller: Roller | None = None
        playing: dict[str, Wanted] = {}
        while True:
            while len(playing) < self._config.seats and (wanted := take()) is not None:
                roller = roller or self._started()
                playing[wanted.sample_id] = wanted
                roller.start(self._order(wanted))
            if roller is None or not playing:
                return
            for order, trajectory in roller.advance():
                yield playing.pop(order.sample_id), trajectory

    def _started(self) -> Roller:
        config = self._config
        engine = open_engine(
            config,
            self._policy,
            self._base,
            end_ids=self._chat.end_ids,
            directory=self._directory,
            report=self._report,
        )
        self._stack.enter_context(closing(engine))
        if self._adapter is not None:
            load_adapter(self._policy, self._adapter)
        engine.set_version(0)
        return self._stack.enter_context(
            Roller(
                self._backend,
                self._chat,
                engine,
                self._bounds,
                workers=config.workers,
                seats=config.seats,
                grades=False,
            )
        )

    def _order(self, wanted: Wanted) -> Order:
        return Order(
            suite=self._suite,
            task_id=wanted.task_id,
            group_id=wanted.task_id,
            sample_id=wanted.sample_id,
            seed=wanted.seed,
            sampling=self._sampling,
            limits=wanted.limits,
            hold=self._hold,
        )


def model_player(
    model: str,
    suite: Suite,
    backend: Backend,
    *,
    directory: Path,
    engine: str | None = None,
    jobs: int = 4,
    options: Mapping[str, JSON] | None = None,
    limits: Budget | None = None,
    hold: Hold = nullcontext,
    report: Callable[[str], None] = lambda _: None,
) -> ModelPlayer:
    """A player with a model: `tiny` or another config, a training run, a checkpoint, a directory, a hub id.

    engine: `vllm` or `torch`; default vLLM where it is installed. options: `temperature` (0 is greedy),
    `threads` (of torch) and any value of a config, such as `max_tokens`, `max_length`, `turns`. limits: of an
    episode; the configuration's turns and seconds bound what they do not name.
    """
    given = dict(options or {})
    temperature, threads = given.pop("temperature", None), given.pop("threads", 0)
    made = {"engine": engine or _installed_engine(), "workers": jobs, "episodes": EPISODES_A_JOB * jobs}
    config, adapter = model_config(model, {**PLAYING, **made, **given})
    locate(config.model)
    limits = limits or {}
    return ModelPlayer(
        config,
        adapter,
        suite,
        backend,
        name=model.rstrip("/"),
        sampling=Sampling(temperature=_temperature(temperature, config), max_tokens=config.max_tokens),
        bounds=Bounds(
            turns=int(limits.get("turns", config.turns)),
            max_length=config.max_length,
            tool_seconds=0.0 if "seconds" in limits else config.tool_seconds,
            wait_seconds=config.wait_seconds,
        ),
        directory=directory,
        threads=threads,
        hold=hold,
        report=report,
    )


def model_config(model: str, overrides: dict[str, Any]) -> tuple[Config, Path | None]:
    """The configuration to play a model with, and the adapter it has learned: the best of a run, or the last.

    Raises `ConfigError` for a run without a checkpoint, a checkpoint without its run and what `load_config`
    refuses.
    """
    path = Path(model).expanduser()
    adapter: Path | None = None
    if (path / ADAPTER).is_file():
        adapter, path = path, path.resolve().parents[1]
    elif (path / "config.toml").is_file():
        adapter = _checkpoint(path / "checkpoints")
    if adapter is None:
        return load_config(model, overrides), None
    if not (path / "config.toml").is_file():
        raise ConfigError(
            "a checkpoint without its run", where=model, expected=str(path / "config.toml"), found="nothing"
        )
    return load_config(str(path / "config.toml"), overrides), adapter


def _checkpoint(checkpoints: Path) -> Path:
    if (checkpoints / "best" / ADAPTER).is_file():
        return checkpoints / "best"
    if not (checkpoints / LATEST).is_file():
        raise ConfigError(
            "the run has no checkpoint", where=str(checkpoints), expected=f"best or {LATEST}", found="neither"
        )
    return checkpoints / (checkpoints / LATEST).read_text()


def _installed_engine() -> str:
    try:
        vllm_python()
    except ConfigError:
        return "torch"
    return "vllm"


def _temperature(given: Any, config: Config) -> float:
    if given is None:
        return config.temperature
    if not isinstance(given, int | float) or not 0.0 <= given < math.inf:
        raise ConfigError("wrong value", where="temperature", expected=">= 0", found=given)
    return float(given)
