"""Where a model lies: the committed tiny base, a directory, the local cache of the hub, the hub itself."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from gym_code.errors import ConfigError
from gym_code.types import JSON

TINY = Path(__file__).parent / "tiny"
"""The committed base: weights, tokenizer, recipe and training log."""
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
FILES = ("*.json", "*.safetensors", "merges.txt", "vocab.json", "*.jinja")
"""What a model needs; not its weights once more in other formats."""


def locate(model: str) -> Path:
    """The directory of a model: `tiny`, a directory, or a hub id such as `Qwen/Qwen2.5-Coder-7B-Instruct`.

    Weights that are in the local cache of the hub are taken from there; others are downloaded, unless
    `HF_HUB_OFFLINE` is set. Raises `ConfigError` that says what was tried.
    """
    path = TINY if model == "tiny" else Path(model).expanduser()
    if path.is_dir():
        if lacking := missing_files(path):
            raise ConfigError(
                "no whole model here",
                where=str(path),
                expected="config.json, safetensors and tokenizer.json",
                found=f"no {lacking}",
            )
        return path
    if not HUB_ID.fullmatch(model):
        raise ConfigError(
            "no model here",
            where=str(path),
            expected="a directory with config.json, safetensors and tokenizer.json, or a hub id",
            found="none",
        )
    cached = cached_files(model)
    if cached is not None and missing_files(cached) is None:
        return cached
    found = _download(model, FILES)
    if lacking := missing_files(found):
        _refuse(model, f"it has no {lacking}")
    return found


def read_config(model: str, *, download: bool = True) -> tuple[dict[str, JSON], str]:
    """A model's `config.json` and where it lies; of a hub id from the local cache, else from the hub.

    Raises `ConfigError` where there is none, or none without a download, or where it is no JSON object.
    """
    path = TINY if model == "tiny" else Path(model).expanduser()
    if not path.is_dir():
        cached = cached_files(model) if HUB_ID.fullmatch(model) else None
        if cached is None and not download:
            _refuse(model, "nothing is downloaded for a plan")
        path = cached or _download(model, ("config.json",))
    file = path / "config.json"
    try:
        made = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(
            "no model here", where=str(file), expected="a model's config.json", found=repr(error)
        ) from error
    if not isinstance(made, dict):
        raise ConfigError("not a model's config", where=str(file), expected="an object", found=made)
    return made, str(file)


def cached_files(model: str) -> Path | None:
    """What the local cache of the hub has of a model, whole or not; None where that is nothing."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(model, local_files_only=True, allow_patterns=list(FILES)))
    except LocalEntryNotFoundError as error:
        part = getattr(error, "snapshot_path", None)
        return Path(part) if part else None
    except HFValidationError:
        return None


def missing_files(path: Path) -> str | None:
    """The first file that a model's directory lacks; None where it is whole.

    Raises `ConfigError` for an index of the shards that cannot be read.
    """
    for name in ("config.json", "tokenizer.json"):
        if not (path / name).is_file():
            return name
    index = path / "model.safetensors.index.json"
    if not index.is_file():
        return None if any(path.glob("*.safetensors")) else "safetensors"
    try:
        shards = sorted(set(json.loads(index.read_text())["weight_map"].values()))
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ConfigError(
            "not an index of shards", where=str(index), expected="weight_map", found=repr(error)
        ) from error
    return next((shard for shard in shards if not (path / shard).is_file()), None)


def _download(model: str, files: Sequence[str]) -> Path:
    from httpx import HTTPError
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        return Path(snapshot_download(model, allow_patterns=list(files)))
    except (OSError, HTTPError, HFValidationError) as error:
        # The cause says more than the advice that the library wraps it in.
        _refuse(model, f"{type(error).__name__}: {str(error.__cause__ or error).splitlines()[0]}")


def _refuse(model: str, reason: str) -> NoReturn:
    from huggingface_hub.constants import HF_HUB_CACHE

    raise ConfigError(
        f"no such directory, not whole in the cache {HF_HUB_CACHE}, and not to be had from the hub "
        f"({reason}); run `hf download {model}` where the hub can be reached, and give this machine that "
        "cache (HF_HOME) or the model's directory (MODEL=/path)",
        where=model,
    )
