"""vLLM servers that the trainer starts and stops: each in its own virtual environment, on a port of its own.

The trainer holds one end of a pipe to `keeper.py`, which runs the server. Whatever ends the trainer closes
the pipe, and with it the server and every process the server made.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from gym_code.errors import ConfigError
from train.engine.base import ReplicaError

ROOT = Path(__file__).parents[2]
KEEPER = Path(__file__).parent / "keeper.py"
VARIABLE = "GYM_CODE_VLLM"
TORCHRUN = ("RANK", "LOCAL_", "GROUP_", "ROLE_", "WORLD_SIZE", "MASTER_", "TORCHELASTIC_", "TORCH_NCCL_")
"""How the variables begin that torchrun sets for the trainer: a server is no rank of its run."""
SLOTS = 2
"""Adapter versions that stay loaded: the one being sampled from and the one before it."""
RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""The largest LoRA ranks that a vLLM server can be started with."""
START_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSpec:
    """What to serve. threads and cache_gib count on a CPU, gpu_memory (a fraction of 1) on a GPU."""

    model: str
    dtype: str
    max_length: int
    lora_rank: int
    sequences: int
    threads: int
    cache_gib: int
    gpu_memory: float
    seed: int
    sleeps: bool = False
    """Whether it can give its memory away for a time (on a CPU: only pause)."""


def vllm_python() -> Path:
    """The interpreter of the environment that holds vLLM. Raises `ConfigError` where there is none."""
    named = os.environ.get(VARIABLE)
    path = Path(named) if named else ROOT / ".venv-vllm/bin/python"
    if not path.is_file() or not os.access(path, os.X_OK):
        raise ConfigError(
            "vLLM is not installed: run `make vllm`",
            where=VARIABLE if named else "ENGINE=vllm",
            expected=f"an interpreter that imports vllm ({VARIABLE} names another one)",
            found=str(path),
        )
    return path


def gpus() -> int:
    """How many GPUs `nvidia-smi` lists; 0 where it is absent."""
    if (smi := shutil.which("nvidia-smi")) is None:
        return 0
    listed = subprocess.run([smi, "-L"], capture_output=True, text=True, timeout=60, check=False)
    return listed.stdout.count("GPU ") if listed.returncode == 0 else 0


class Server:
    """One server process. `wait` until it answers, `close` when done."""

    def __init__(self, python: Path, spec: ServerSpec, log: Path, *, gpu: int | None = None) -> None:
        self._python, self._spec, self.log, self._gpu = python, spec, log, gpu
        self.key = secrets.token_hex(16)
        self.launches = 0
        self.launch()

    def launch(self) -> None:
        """Start the process, on a free port; again where it has ended."""
        self.launches += 1
        self.port = _free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        scratch = tempfile.mkdtemp(prefix="gym-code-vllm-")
        command = [sys.executable, "-I", str(KEEPER), scratch, str(self._python), "-P", *self._options()]
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self._keeper = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=self._environment(scratch),
                cwd=scratch,
            )

    def _options(self) -> list[str]:
        spec = self._spec
        rank = next((r for r in RANKS if r >= spec.lora_rank), None)
        if rank is None:
            raise ConfigError(
                "vLLM serves no such rank",
                where="lora_rank",
                expected=f"<= {RANKS[-1]}",
                found=spec.lora_rank,
            )
        options: dict[str, object] = {
            "--model": spec.model,
            "--served-model-name": "base",
            "--host": "127.0.0.1",
            "--port": self.port,
            "--dtype": spec.dtype,
            "--seed": spec.seed,
            "--max-model-len": spec.max_length,
            "--max-num-seqs": spec.sequences,
            "--max-lora-rank": rank,
            "--max-loras": SLOTS,
            "--max-cpu-loras": 2 * SLOTS,
            # The distribution that is sampled from is the one whose logprobs come back, and nothing that the
            # model's generation_config.json says (top-k, repetition penalty) changes it.
            "--logprobs-mode": "processed_logprobs",
            "--generation-config": "vllm",
            "--uvicorn-log-level": "warning",
        }
        flags = ["--enable-lora", "--skip-tokenizer-init", "--disable-uvicorn-access-log"]
        if self._gpu is None:
            # With chunked prefill, a seeded request whose prompt is cut ends vLLM 0.32 on a CPU ("CPU
            # Generator does not use offset").
            flags += ["--enforce-eager", "--no-enable-chunked-prefill"]
            options["--max-num-batched-tokens"] = max(4096, spec.max_length)
        else:
            options["--gpu-memory-utilization"] = spec.gpu_memory
            flags += ["--enable-sleep-mode"] if spec.sleeps else []
        return [
            "-m",
            "vllm.entrypoints.openai.api_server",
            *(str(part) for option in options.items() for part in option),
            *flags,
        ]

    def _environment(self, scratch: str) -> dict[str, str]:
        strange = ("PYTHON", "VIRTUAL_ENV", "VLLM_", *TORCHRUN)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(strange)}
        made = kept | {
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_API_KEY": self.key,
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_RPC_BASE_PATH": scratch,
            "TMPDIR": scratch,
            "PYTHONUNBUFFERED": "1",
        }
        if self._spec.sleeps:
            made["VLLM_SERVER_DEV_MODE"] = "1"  # only there is an endpoint to sleep
        if self._gpu is not None:
            return made | {"CUDA_VISIBLE_DEVICES": str(self._gpu)}
        return made | {
            "OMP_NUM_THREADS": str(self._spec.threads),
            "VLLM_CPU_OMP_THREADS_BIND": "nobind",
            "VLLM_CPU_KVCACHE_SPACE": str(self._spec.cache_gib),
            # One small function of the sampler would be compiled at the first request: half a minute.
            "TORCHDYNAMO_DISABLE": "1",
        }

    def alive(self) -> bool:
        """Whether the process runs."""
        return self._keeper.poll() is None

    def wait(self, answers: Callable[[], bool], report: Callable[[str], None]) -> None:
        """Return when `answers()` is true. Raises `ReplicaError` with the end of the log when it never is."""
        began, launches = time.monotonic(), 1
        while not answers():
            spent = time.monotonic() - began
            if not self.alive():
                if launches < 3 and not _is_free(self.port):
                    # Somebody took the port between our choice and the server's bind.
                    launches += 1
                    self.launch()
                    continue
                raise ReplicaError(f"the vLLM server did not start; the end of {self.log}:\n{self.tail()}")
            if spent > START_SECONDS:
                self.close()
                raise ReplicaError(
                    f"the vLLM server did not answer within {START_SECONDS:.0f} s; see {self.log}"
                )
            report(f"vLLM is starting ({spent:.0f} s; log: {self.log})")
            time.sleep(0.5)

    def tail(self, lines: int = 15) -> str:
        """The last lines of the log."""
        if not self.log.is_file():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def close(self) -> None:
        """End the server and everything it started; returns when they are gone."""
        assert self._keeper.stdin is not None
        self._keeper.stdin.close()
        self._keeper.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def start(spec: ServerSpec, count: int, logs: Path) -> list[Server]:
    """Start `count` servers side by side. GPUs are dealt out from the last: the trainer is on the first."""
    python, found = vllm_python(), gpus()
    return [
        Server(python, spec, logs / f"vllm-{number}.log", gpu=found - 1 - number % found if found else None)
        for number in range(count)
    ]
