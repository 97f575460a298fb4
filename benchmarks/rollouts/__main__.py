"""Rollouts on a vLLM server and in real boxes: tokens a second, and steps whose tools take seconds.

    python -m benchmarks.rollouts                     # some 15 minutes; needs `make vllm` and bubblewrap
    python -m benchmarks.rollouts serving --rounds 3  # a part of it, for a quick look
    python -m benchmarks.rollouts learned --run runs/NAME

Parts: `serving` holds our rollouts against a client that only posts; `waiting` gives episodes commands that
sleep; `learned` (only where named) reads what a finished run with ENGINE=vllm has left.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch

from agents.chat import Chat, load_chat
from benchmarks.page import put_into_readme, say
from benchmarks.rollouts import learned, waiting
from benchmarks.rollouts import results as said
from benchmarks.rollouts.serving import Lap, RawClient, Timed, play, scripts_of, share_between
from gym_code.errors import GymCodeError
from gym_code.sandbox import open_backend
from train.config import Config, load_config
from train.curriculum import Curriculum
from train.engine.server import ServerSpec, start
from train.engine.vllm import VllmEngine
from train.groups import orders_of
from train.model import load_base, with_adapter
from train.rollout import Bounds, Roller

HERE = Path(__file__).parent
PARTS = ("serving", "waiting", "learned")


def main() -> int:
    """Measure the parts that are asked for, keep the others, print the tables."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # server, boxes and directories are given back
    options = parse()
    path = options.out / "results.json"
    results: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {}
    measure: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
        "serving": serving,
        "waiting": sleeping,
        "learned": lambda options: learned.read_run(options.run),
    }
    for part in options.parts:
        machine = {"load_at_start": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
        results[part] = measure[part](options) | ({} if part == "learned" else machine)
        options.out.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(results, indent=1) + "\n")
    text = said.markdown(results)
    if options.readme:
        put_into_readme("benchmarks.rollouts", text)
    print(text, end="")
    return 0


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.rollouts", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: {' and '.join(PARTS[:2])}"
    )
    parser.add_argument("--rounds", type=int, default=12, help="serving: laps of each")
    parser.add_argument("--groups", type=int, default=8, help="serving: groups of 8 episodes a lap")
    parser.add_argument("--steps", type=int, default=4, help="waiting: steps of each kind")
    parser.add_argument("--run", type=Path, help="learned: the directory of a finished run")
    parser.add_argument("--out", type=Path, default=HERE, help="where results.json goes")
    parser.add_argument("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    options = parser.parse_args(argv)
    wrong = [part for part in options.parts if part not in PARTS]
    if wrong:
        parser.error(f"unknown part {wrong[0]!r}: expected {', '.join(PARTS)}")
    options.parts = options.parts or list(PARTS[:2])
    if "learned" in options.parts and options.run is None:
        parser.error("learned: name a run with --run")
    return options


def serving(options: argparse.Namespace) -> dict[str, Any]:
    """Ours and the raw client on one server with a LoRA adapter, the tiny base and one thread."""
    torch.set_num_threads(1)
    config = load_config("tiny", {"engine": "vllm", "groups": options.groups})
    base, path = load_base(config.model, torch.float32)
    model, chat = with_adapter(base, config.lora_rank, config.lora_alpha), load_chat(path)
    cores = sorted(os.sched_getaffinity(0))
    half = len(cores) // 2
    # The server has cores of its own: what it takes does not depend on how busy the asking one is.
    with tempfile.TemporaryDirectory(prefix="gym-code-") as directory, on(cores[half:]):
        say("starting a server")
        with on(cores[:half] or cores):
            [server] = start(spec_of(config, path), 1, Path(directory))
        replica = Timed(server, key=server.key, connections=config.seats)
        with closing(replica):
            server.wait(replica.healthy, lambda _: None)
            engine = VllmEngine(
                model, [replica], Path(directory) / "adapters",
                end_ids=chat.end_ids, max_length=config.max_length, concurrency=config.seats,
            )  # fmt: skip
            raw = RawClient(server.url, server.key, raw_sampling(config, chat), config.seats)
            with closing(engine):
                laps = race(config, chat, engine, replica, raw, options.rounds)
    sizes = {"conversations": config.seats, "episodes": config.groups * config.group_size}
    return said.of_laps(laps["ours"], laps["raw"]) | sizes


@contextmanager
def on(cores: Sequence[int]) -> Iterator[None]:
    """This thread, and what it starts meanwhile, runs on these cores only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def race(
    config: Config, chat: Chat, engine: VllmEngine, replica: Timed, raw: RawClient, rounds: int
) -> dict[str, list[Lap]]:
    """Laps of both by turns. A first lap of ours tells the prompts, a first round warms up: not counted."""
    draws = [Curriculum(config).draw(number) for number in range(config.groups)]
    orders = [order for draw in draws for order in orders_of(draw, config)]
    bounds = Bounds(turns=config.turns, max_length=config.max_length)
    laps: dict[str, list[Lap]] = {"ours": [], "raw": []}
    with (
        closing(open_backend("memory")) as boxes,
        Roller(boxes, chat, engine, bounds, workers=config.workers, seats=config.seats) as roller,
    ):
        scripts = scripts_of(play(roller, orders)[1])

        def ours() -> Lap:
            lap, played = play(roller, orders)
            between = share_between([replica.spans[seed] for _, seed in s] for s in scripts_of(played))
            return dataclasses.replace(lap, between=between)

        contestants: dict[str, Callable[[int], Lap]] = {
            "ours": lambda _: ours(),
            "raw": lambda number: raw.play(scripts, f"raw {number}"),
        }
        for number in range(-1, rounds):
            engine.set_version(number)  # a new version has a prefix cache of its own
            for name in ("ours", "raw") if number % 2 else ("raw", "ours"):
                lap = contestants[name](number)
                say(f"round {number + 1} of {rounds}: {name} {lap.rate:.0f} tokens/s")
                if number >= 0:
                    laps[name].append(lap)
    return laps


def spec_of(config: Config, base: Path) -> ServerSpec:
    """The server that a run with this configuration starts."""
    return ServerSpec(
        model=str(base.resolve()),
        dtype=config.dtype,
        max_length=config.max_length,
        lora_rank=config.lora_rank,
        sequences=config.seats,
        threads=config.vllm_threads,
        cache_gib=config.vllm_cache_gib,
        gpu_memory=config.vllm_gpu_memory,
        seed=config.seed,
    )


def raw_sampling(config: Config, chat: Chat) -> dict[str, Any]:
    """What the rollouts ask for, in as few words as the server takes: everything else is its default."""
    return {
        "temperature": config.temperature,
        "max_tokens": config.max_tokens,
        "ignore_eos": True,
        "stop_token_ids": list(chat.end_ids),
        "logprobs": 0,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def sleeping(options: argparse.Namespace) -> dict[str, Any]:
    """Steps whose commands sleep, as the scheduler can be set; the first row is what is required."""
    workload = waiting.Workload()
    sizes = {"groups": 4, "group_size": 8, "steps": options.steps}
    modes: dict[str, dict[str, Any]] = {
        "as completed": {"deterministic": False},
        "as completed, staleness 1": {"deterministic": False, "staleness": 1},
        "lockstep": {"deterministic": True, "workers": 32},
    }
    _, path = load_base("tiny", torch.float32)
    chat, rows = load_chat(path), []
    with closing(open_backend("namespace")) as backend:
        for mode, values in modes.items():
            config = load_config("tiny", sizes | values)
            say(f"{mode}: {config.steps} steps")
            steps = waiting.play(config, workload, backend, chat)
            rows.append(said.of_steps(mode, steps, episodes=config.seats))
            say(f"{rows[-1]}")
    return {
        "nap": workload.nap,
        "share": workload.share,
        "rows": rows,
        "required": said.required_of_steps(rows[0]),
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GymCodeError as error:
        sys.exit(f"benchmarks.rollouts: {error}")
