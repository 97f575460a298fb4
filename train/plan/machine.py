"""What a run would find on this machine: GPUs, vLLM, boxes, weights, room on the disks."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gym_code.errors import ConfigError
from train.config import Config
from train.engine.server import vllm_python
from train.hub import HUB_ID, cached_files, missing_files
from train.plan.shapes import Shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU as `nvidia-smi` names it; memory in bytes."""

    name: str
    memory: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What a run lacks on this machine, and the command or sentence that mends it."""

    what: str
    mend: str
    then: Literal["ends", "fetches", "warns"] = "ends"
    """What a run does: it ends before it begins, fetches what is missing, or warns, for it may do."""


def find_gpus() -> list[Gpu]:
    """The GPUs that `nvidia-smi` lists; none where it is absent or fails."""
    if (smi := shutil.which("nvidia-smi")) is None:
        return []
    query = [smi, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    listed = subprocess.run(query, capture_output=True, text=True, timeout=60, check=False)
    if listed.returncode:
        return []
    rows = [line.rpartition(",") for line in listed.stdout.splitlines()]
    return [
        Gpu(name=name.strip(), memory=float(mib) * 1024**2) for name, _, mib in rows if mib.strip().isdigit()
    ]


def missing_vllm(config: Config) -> list[Missing]:
    """vLLM, where the run would start servers of its own."""
    if config.engine != "vllm" or config.vllm_urls:
        return []
    try:
        vllm_python()
    except ConfigError:
        return [Missing(what="vLLM is not installed", mend="make vllm")]
    return []


def missing_boxes(config: Config) -> list[Missing]:
    """What the sandbox needs: a Docker daemon, or what the doctor finds wanting for the namespace backend."""
    from gym_code.sandbox.doctor import diagnose

    if config.sandbox == "memory":
        return []
    found = diagnose()
    docker = any(finding.name == "docker daemon" and finding.ok for finding in found)
    if docker and config.sandbox in ("auto", "docker"):
        return []
    if config.sandbox == "docker":
        return [Missing(what="no Docker daemon answers", mend="start one, or sandbox=namespace")]
    lacking = [finding for finding in found if finding.required and not finding.ok]
    return [Missing(what=f"{f.name}: {f.detail}", mend=f.mend or "gym-code doctor") for f in lacking]


def missing_weights(config: Config, shape: Shape) -> list[Missing]:
    """The weights, where they are not whole on this machine; and room for them, where that is missing too."""
    model, size = config.model, shape.parameters * 2.0  # hubs keep them in bf16
    if (path := Path(model).expanduser()).is_dir():
        lacking = missing_files(path)
        return [Missing(what=f"{path} has no {lacking}", mend="the whole model there")] if lacking else []
    if not HUB_ID.fullmatch(model):  # the tiny base, which is committed
        return []
    from huggingface_hub.constants import HF_HUB_CACHE

    cached = cached_files(model)
    if cached is not None and missing_files(cached) is None:
        return []
    absent = Missing(
        what=f"the weights are not in {HF_HUB_CACHE} ({size / 1e9:.1f} GB)",
        mend=f"hf download {model} (the run does it where the hub can be reached), or MODEL=/their/directory",
        then="fetches",
    )
    room = shutil.disk_usage(_existing(Path(HF_HUB_CACHE))).free
    if room > size:
        return [absent]
    return [
        absent,
        Missing(
            what=f"{room / 1e9:.1f} GB of disk are free at {HF_HUB_CACHE}, {size / 1e9:.1f} GB are needed",
            mend="HF_HOME=/another/disk",
        ),
    ]


def missing_disk(directory: Path, size: float) -> list[Missing]:
    """Room for what a run leaves in `directory`; `size` in bytes."""
    room = shutil.disk_usage(_existing(directory.resolve())).free
    if room > size:
        return []
    what = f"{room / 1e9:.1f} GB of disk are free at {directory}, a run takes about {size / 1e9:.1f} GB"
    return [Missing(what=what, mend="make room, or run elsewhere")]


def _existing(path: Path) -> Path:
    return path if path.exists() else _existing(path.parent)
