"""The engine that a configuration asks for."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from train.config import Config
from train.engine.base import Engine, EngineError
from train.engine.replica import Replica
from train.engine.server import ServerSpec, start
from train.engine.torch import TorchEngine
from train.engine.vllm import VllmEngine

KEY_VARIABLE = "GYM_CODE_VLLM_KEY"
"""The API key of servers that are given by URL."""


def open_engine(
    config: Config,
    model: Any,
    base: Path,
    *,
    end_ids: Sequence[int],
    directory: Path,
    report: Callable[[str], None],
) -> Engine:
    """The engine for `model`, whose base lies in the directory `base`; logs and adapters go to `directory`.

    Raises `ConfigError` where vLLM is missing, `EngineError` where it does not start or serve as it should.
    """
    slots = config.seats
    if config.engine == "torch":
        return TorchEngine(model, end_ids=end_ids, slots=slots, max_length=config.max_length)
    replicas = _replicas(config, base, slots, directory)
    try:
        for replica in replicas:
            if replica.server is not None:
                replica.server.wait(replica.healthy, report)
            elif not replica.healthy():
                raise EngineError(f"no vLLM server answers at {replica.url}")
        return VllmEngine(
            model,
            replicas,
            directory / "adapters",
            end_ids=end_ids,
            max_length=config.max_length,
            concurrency=slots,
            dtype=config.dtype,
            sleeps=config.vllm_sleep,
            report=report,
        )
    except BaseException:
        for replica in replicas:
            replica.close()
        raise


def _replicas(config: Config, base: Path, slots: int, directory: Path) -> list[Replica]:
    if config.vllm_urls:
        key = os.environ.get(KEY_VARIABLE, "")
        return [Replica(url.rstrip("/"), key=key, connections=slots) for url in config.vllm_urls]
    spec = ServerSpec(
        model=str(base.resolve()),
        dtype=config.dtype,
        max_length=config.max_length,
        lora_rank=config.lora_rank,
        sequences=slots,
        threads=config.vllm_threads,
        cache_gib=config.vllm_cache_gib,
        gpu_memory=config.vllm_gpu_memory,
        sleeps=config.vllm_sleep,
        seed=config.seed,
    )
    servers = start(spec, config.vllm_replicas, directory)
    return [Replica(server, key=server.key, connections=slots) for server in servers]
