"""What a GPU does with the trainer, in one command.

    python -m benchmarks.gpu            # everything; needs a GPU
    python -m benchmarks.gpu speed --models Qwen3-4B --lengths 16384
    python -m benchmarks.gpu --toy      # everything at toy size on the CPU; prints, writes nothing

`speed`: the update alone, on models of published shapes with random weights, beside prime-rl's table.
`learn`: a larger policy built in place, then GRPO; held-out tasks before and after.
`step`: whole GRPO steps by their parts, sampled by torch and by vLLM, on that policy or on --model.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu import results as said
from benchmarks.gpu import runs, speed
from benchmarks.gpu.shapes import SHAPES, TOY
from benchmarks.page import put_into_readme, say
from gym_code.errors import ConfigError, GymCodeError
from train.tiny_base import Recipe

HERE = Path(__file__).parent
PARTS = ("speed", "learn", "step")


def main(argv: Sequence[str] | None = None) -> int:
    """Measure; write results.json, the picture and the page's tables unless at toy size; print the tables."""
    options = parse(argv)
    device = device_for(options)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="gym-code-gpu-") as scratch:
        work = options.work or Path(scratch)
        work.mkdir(parents=True, exist_ok=True)
        for part in PARTS:
            if part in options.parts:
                say(part)
                found = MEASURE[part](options, device, work)
                results[part] = {"date": options.date, "machine": machine(device), **found}
                if not options.toy:
                    keep(options, {part: results[part]})
    print(said.markdown(results), end="")
    return 0


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line; `--toy` stands for small values of all that is not given."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0]
    )
    add = parser.add_argument
    add("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    add("--toy", action="store_true", help="toy sizes, on the CPU")
    add("--models", nargs="+", help="shapes for `speed`")
    add("--lengths", nargs="+", type=int, help="tokens a forward for `speed`")
    add("--layouts", nargs="+", choices=tuple(speed.LAYOUTS), default=tuple(speed.LAYOUTS))
    add("--steps", type=int, help="timed steps of `speed` and of `step`")
    add("--rank", type=int, default=16, help="of the adapter, for `speed`")
    add("--model", help="what `step` trains: a name or directory; default: the base of `learn`, else tiny")
    add("--engines", nargs="+", choices=("torch", "vllm"), default=("torch", "vllm"))
    add("--sft-minutes", type=float, default=4.0, help="most minutes of SFT steps for `learn`")
    add("--grpo-minutes", type=float, default=11.0, help="minutes of GRPO steps for `learn`")
    add("--hidden", type=int, default=512, help="width of the policy of `learn`")
    add("--layers", type=int, default=8, help="and its depth")
    add("--sandbox", default="namespace")
    add("--work", type=Path, help="keeps the base and the runs there; default: they are removed")
    add("--out", type=Path, default=HERE, help="where results.json and results.png go")
    add("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    add("--date", help="noted in the results, e.g. 2026-01-31")
    options = parser.parse_args(argv)
    wrong = [part for part in options.parts if part not in PARTS]
    if wrong:
        parser.error(f"unknown part {wrong[0]!r}: expected {', '.join(PARTS)}")
    options.parts = options.parts or list(PARTS)
    options.models = options.models or list(TOY if options.toy else SHAPES)
    options.lengths = options.lengths or ([64] if options.toy else [16_384, 65_536])
    options.steps = options.steps or (1 if options.toy else 5)
    return options


def device_for(options: argparse.Namespace) -> torch.device:
    """The GPU, or at toy size the CPU. Raises `ConfigError` where there is no GPU."""
    if options.toy:
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise ConfigError(
            "needs a CUDA GPU, and torch sees none; "
            "`python -m benchmarks.gpu --toy` tries everything at toy size on the CPU"
        )
    return torch.device("cuda", 0)


def measure_speed(options: argparse.Namespace, device: torch.device, work: Path) -> dict[str, Any]:
    """Trained tokens per second."""
    plan = speed.Plan(
        models=options.models,
        lengths=options.lengths,
        layouts=options.layouts,
        steps=options.steps,
        rank=options.rank,
    )
    rows = []
    for row in speed.measure(plan, device):
        say(f"speed: {row}")
        rows.append(row)
    return {"rank": options.rank, "rows": rows}


def measure_learn(options: argparse.Namespace, device: torch.device, work: Path) -> dict[str, Any]:
    """A larger policy before and after."""
    plan = runs.Larger(
        hidden=options.hidden,
        layers=options.layers,
        sft_minutes=options.sft_minutes,
        grpo_minutes=options.grpo_minutes,
        overrides=overrides(options),
    )
    if options.toy:
        recipe = Recipe(demonstrations=96, steps=4, batch=16, warmup=1)
        plan = replace(plan, hidden=128, layers=2, recipe=recipe, grpo_minutes=0.0)
    return runs.learn(plan, device, work, say)


def measure_step(options: argparse.Namespace, device: torch.device, work: Path) -> dict[str, Any]:
    """Whole steps by their parts."""
    built = work / "base"
    model = options.model or (built if (built / "config.json").is_file() else "tiny")
    rows = runs.steps_of(model, options.engines, options.steps, overrides(options), work)
    return {"model": "the base of `learn`" if model == built else Path(model).name, "rows": rows}


MEASURE = {"speed": measure_speed, "learn": measure_learn, "step": measure_step}


def overrides(options: argparse.Namespace) -> dict[str, Any]:
    """Of the tiny model's configuration, for `learn` and `step`."""
    device = "cpu" if options.toy else "cuda"
    made = {"sandbox": options.sandbox, "device": device, "deterministic": False}
    small = {"groups": 2, "group_size": 2, "turns": 3, "max_tokens": 40, **runs.UNEVALUATED}
    return made | (small if options.toy else {"workers": min(os.cpu_count() or 8, 64)})


def keep(options: argparse.Namespace, measured: dict[str, Any]) -> None:
    """Put what was measured beside what the file holds of the other parts, and draw both."""
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "results.json"
    results = (json.loads(path.read_text()) if path.is_file() else {}) | measured
    path.write_text(json.dumps(results, indent=1) + "\n")
    said.draw(options.out / "results.png", results)
    if options.readme:
        put_into_readme("benchmarks.gpu", said.markdown(results))


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures depend on, in general terms."""
    made: dict[str, Any] = {"device": "CPU", "cores": os.cpu_count(), "torch": torch.__version__}
    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        made |= {
            "device": found.name,
            "memory_gib": round(found.total_memory / 2**30),
            "cuda": torch.version.cuda,
        }
    return made


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # everything made here is taken back
    try:
        sys.exit(main())
    except GymCodeError as error:
        sys.exit(f"benchmarks.gpu: {error}")
