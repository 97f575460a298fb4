"""Trained tokens per second beside TRL's GRPOTrainer: same model, segments, optimizer steps and loss.

    python -m benchmarks.training_speed                # some minutes on two cores
    python -m benchmarks.training_speed --rounds 3     # a quick look

The tiny base plays one step of the reference run in real boxes; what it played is what all learn from. Timed
are forward, loss, backward, clipping and optimizer, in full precision, without generation. Before anything is
timed the losses must agree.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.learning.run import play_step
from benchmarks.page import publish, say
from benchmarks.training_speed import results as said
from benchmarks.training_speed.contestants import LAYOUTS, TRL, Batches, Contestant, Ours, Theirs
from benchmarks.training_speed.picture import draw
from gym_code.errors import GymCodeError
from gym_code.types import Segment
from train.config import Config, load_config
from train.grpo import Learner, learn_from

HERE = Path(__file__).parent
LOSS_GAP = 1e-5
"""Losses that differ by more are not the same computation."""


def main() -> int:
    """Measure, then write results.json and results.png and print the table."""
    options = parse()
    config = load_config("tiny", {"seed": 0, "device": "cpu"})
    load = round(os.getloadavg()[0], 1)
    batches = split(play(config), config)
    with tempfile.TemporaryDirectory(prefix="gym-code-") as directory:
        contestants: list[Contestant] = [Ours(name, config, batches) for name in LAYOUTS]
        contestants.append(Theirs(config, batches, Path(directory)))
        agreed = check(contestants)
        seconds = {threads: measure(contestants, threads, options.rounds) for threads in options.threads}
    described = describe(batches)
    results = {
        "rounds": options.rounds,
        "machine": machine() | {"load_at_start": load},
        "data": described,
        **agreed,
        **said.summarize(seconds, described["tokens"], next(iter(LAYOUTS)), TRL),
        "seconds": seconds,
    }
    text = said.markdown(results)
    publish("benchmarks.training_speed", options.out, results, text, draw, readme=options.readme)
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training_speed", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="torch threads")
    parser.add_argument("--out", type=Path, default=HERE, help="where results.json and results.png go")
    parser.add_argument("--readme", action="store_true", help="put the table into benchmarks/README.md")
    return parser.parse_args()


def play(config: Config) -> list[Segment]:
    """What the base learns from in the first step of the reference run."""
    say("playing one step")
    with Learner(config) as learner:
        segments, _ = learn_from(play_step(learner, 0), config, 0)
    return segments


def split(segments: Sequence[Segment], config: Config) -> Batches:
    """As many optimizer steps as the configuration takes, drawn at random as in training."""
    order = list(segments)
    random.Random(config.seed).shuffle(order)
    return [order[n :: config.minibatches] for n in range(config.minibatches)]


def check(contestants: Sequence[Contestant]) -> dict[str, float]:
    """The largest gap between the losses of any two. Raises `GymCodeError` where it is no rounding."""
    losses = [contestant.learn() for contestant in contestants]
    for contestant in contestants:
        contestant.restore()
    gap = max(abs(a - b) for mine in losses for a, b in zip(mine, losses[-1], strict=True))
    if gap > LOSS_GAP:
        raise GymCodeError(f"the losses differ by {gap:.2e}: {losses}")
    return {"loss_gap": gap, "largest_loss": max(abs(loss) for loss in losses[-1])}


def measure(contestants: Sequence[Contestant], threads: int, rounds: int) -> dict[str, list[float]]:
    """Seconds by contestant, a value a round; one round comes first and is not counted."""
    torch.set_num_threads(threads)
    seconds: dict[str, list[float]] = {contestant.name: [] for contestant in contestants}
    for number in range(-1, rounds):
        say(f"{threads} threads: round {number + 1} of {rounds}")
        first = number % len(contestants)
        for contestant in (*contestants[first:], *contestants[:first]):
            began = time.perf_counter()
            contestant.learn()
            spent = time.perf_counter() - began
            contestant.restore()
            if number >= 0:
                seconds[contestant.name].append(round(spent, 5))
    return seconds


def describe(batches: Batches) -> dict[str, int]:
    """The shapes."""
    segments = [segment for batch in batches for segment in batch]
    return {
        "optimizer_steps": len(batches),
        "segments": len(segments),
        "groups": len({segment.group_id for segment in segments}),
        "tokens": sum(len(segment.token_ids_T) for segment in segments),
        "sampled": sum(sum(segment.action_mask_T) for segment in segments),
        "longest": max(len(segment.token_ids_T) for segment in segments),
    }


def machine() -> dict[str, Any]:
    """What the figures depend on, in general terms."""
    return {
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": importlib.metadata.version("transformers"),
        "trl": importlib.metadata.version("trl"),
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GymCodeError as error:
        sys.exit(f"benchmarks.training_speed: {error}")
