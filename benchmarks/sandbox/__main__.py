"""Time the sandbox backends beside mini-swe-agent's environments and plain Docker, in one run.

    python -m benchmarks.sandbox                          # about 8 minutes on 4 quiet cores
    python -m benchmarks.sandbox --rounds 2 --boxes 20    # a quick look

Rounds are interleaved: every round does each operation with every contestant, in a rotating order, so that
a load that comes and goes hits all alike. After what leaves work in the background (a pool that fills up) the
contestant settles before the next one is timed. Needs bubblewrap, a Docker daemon, and PyPI at the first run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.page import publish, say
from benchmarks.sandbox import results as said
from benchmarks.sandbox import throughput
from benchmarks.sandbox.contestants import Contestant, Ours, Peer
from benchmarks.sandbox.peers import IMAGE, job, peers_environment, peers_python
from benchmarks.sandbox.picture import draw
from gym_code.errors import GymCodeError
from gym_code.sandbox.docker import DockerBackend
from gym_code.sandbox.namespace import NamespaceBackend
from gym_code.task import load_suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gym_code.task import Suite

HERE = Path(__file__).parent
OFTEN = {"exec": 4, "shell": 2, "python": 2}
"""Operations carried out several times a round."""
HEAVY = ("grade", "episode")
"""Operations of whole test runs: in every `HEAVY_EVERY`th round only."""
HEAVY_EVERY = 5


def main() -> int:
    """Measure, then write results.json and results.png and print the tables."""
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # everything made here is taken back
    suite = load_suite(options.suite)
    task_id = options.task or suite.ids()[0]
    results: dict[str, Any] = {
        "task": task_id,
        "rounds": options.rounds,
        "date": options.date,
        "machine": machine(),
    }
    with contextlib.ExitStack() as stack:
        contestants = enter(stack, suite, task_id)
        samples = measure(contestants, options.rounds)
        results |= said.summarize(samples)
        results |= many(contestants, options.boxes, options.alive)
    text = said.markdown(results)
    publish("benchmarks.sandbox", options.out, results, text, draw, readme=options.readme)
    return 0


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.sandbox", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--suite", default="starter")
    parser.add_argument("--task", default="", help="default: the suite's first; one that pytest runs")
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument(
        "--boxes", type=int, default=1000, help="opened and closed by 4 threads; a fifth in docker"
    )
    parser.add_argument("--alive", type=int, default=200, help="alive at once in namespace")
    parser.add_argument("--date", default=None, help="noted in the results, e.g. 2026-01-31")
    parser.add_argument("--out", type=Path, default=HERE, help="where results.json and results.png go")
    parser.add_argument("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    options = parser.parse_args()
    if min(options.rounds, options.boxes, options.alive) < 1:
        parser.error("--rounds, --boxes and --alive must be at least 1")
    return options


def enter(stack: contextlib.ExitStack, suite: Suite, task_id: str) -> list[Contestant]:
    """All contestants, ready; what they hold goes with the stack."""
    say("setting up: environments, images, mini-swe-agent")
    python = peers_python()
    contestants: list[Contestant] = []

    def add(contestant: Contestant) -> None:
        stack.callback(contestant.close)
        contestants.append(contestant)

    add(Ours(said.NAMESPACE, suite, task_id, NamespaceBackend(), spare=4))
    add(Ours(said.DOCKER, suite, task_id, DockerBackend(), spare=4))
    add(Ours(said.DOCKER_COLD, suite, task_id, DockerBackend(spare=0), spare=0))
    work, scratch = stack.enter_context(job(suite, task_id))
    env = peers_environment(scratch)
    add(Peer(said.CLI, "docker-cli", Path(sys.executable), work, env))
    add(Peer(said.MINI_DOCKER, "mini-docker", python, work, env))
    add(Peer(said.MINI_BWRAP, "mini-bubblewrap", python, work, env))
    return contestants


def measure(contestants: Sequence[Contestant], rounds: int) -> said.Samples:
    """Seconds by contestant and operation; one round of everything comes first and is not counted."""
    samples: dict[str, dict[str, list[float]]] = {contestant.name: {} for contestant in contestants}
    for number in range(-1, rounds):
        say(f"round {number + 1} of {rounds}")
        for operation in said.OPERATIONS:
            if operation in HEAVY and number % HEAVY_EVERY and number >= 0:
                continue
            first = number % len(contestants)
            for contestant in (*contestants[first:], *contestants[:first]):
                if operation not in contestant.operations:
                    continue
                seconds = [contestant.measure(operation) for _ in range(OFTEN.get(operation, 1))]
                if number >= 0:
                    samples[contestant.name].setdefault(operation, []).extend(seconds)
    return samples


def many(contestants: Sequence[Contestant], boxes: int, alive: int) -> dict[str, Any]:
    """Boxes a second of both backends and of plain Docker, and boxes alive at once."""
    say("many boxes")
    ours = {contestant.name: contestant for contestant in contestants if isinstance(contestant, Ours)}
    rows = []
    for name, count in ((said.NAMESPACE, boxes), (said.DOCKER, max(boxes // 5, 1))):
        subject = ours[name].subject
        use = throughput.open_and_close(subject.backend, subject.spec)
        rows.append(throughput.boxes_a_second(name, use, count))
    plain = throughput.run_and_remove(IMAGE)
    rows.append(throughput.boxes_a_second(said.CLI, plain, max(boxes // 20, 1)))
    subject = ours[said.NAMESPACE].subject
    return {
        "throughput": rows,
        "alive": [throughput.alive_at_once(subject.backend, subject.spec, alive)],
    }


def machine() -> dict[str, Any]:
    """What the figures depend on, in general terms."""
    engine = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    )
    bwrap = subprocess.run(["bwrap", "--version"], capture_output=True, text=True, check=False)
    kernel = re.match(r"\d+\.\d+", platform.release())
    return {
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30),
        "architecture": platform.machine(),
        "linux": kernel[0] if kernel else "",
        "docker_engine": engine.stdout.strip(),
        "bubblewrap": bwrap.stdout.strip().removeprefix("bubblewrap "),
        "python": platform.python_version(),
        "user": "root" if os.geteuid() == 0 else "ordinary",
        "load_at_start": round(os.getloadavg()[0], 1),
    }


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GymCodeError as error:
        sys.exit(f"benchmarks.sandbox: {error}")
