"""Our evaluation beside SWE-bench's own harness, on instances made from source distributions.

    python -m benchmarks.evaluation                            # throughput; about 15 minutes on 4 quiet cores
    python -m benchmarks.evaluation --rounds 1 --instances 2   # a quick look
    python -m benchmarks.evaluation parity                     # the same verdicts? (parity.py)

Needs a Docker daemon with `gym-code/base:3.11` (`make docker-base`), the package `swebench`, and a package
index the first time: the instances are kept in runs/parity.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from pathlib import Path

from benchmarks.evaluation import parity, throughput
from benchmarks.evaluation import results as said
from benchmarks.evaluation.corpus import corpus
from benchmarks.evaluation.images import remove_images
from benchmarks.evaluation.picture import draw
from benchmarks.page import publish, say
from gym_code.errors import GymCodeError
from gym_code.sandbox.dockerd import connect

HERE = Path(__file__).parent
SMALL = 21
"""Instances of the throughput part: the first of the list, but for `throughput.NEVER_ENDS`."""


def main() -> int:
    """Do the part that is asked for; the images that were built for it go when it is over."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # images and directories are given back
    options = parse()
    try:
        if options.part == "parity":
            instances = corpus(options.cache, options.instances, options.seed)
            lines = parity.compare(options.cache, instances, options.workers, options.timeout)
            return parity.report(lines, options.seed, options.out, readme=options.readme)
        return measure(options)
    finally:
        if not options.keep:
            client = connect()
            remove_images(client)
            client.close()


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.evaluation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("part", nargs="?", choices=("throughput", "parity"), default="throughput")
    parser.add_argument(
        "--instances", type=int, default=None, help="the first of the list; default: 20, or all"
    )
    parser.add_argument("--seed", type=int, default=0, help="which functions are taken out of the packages")
    parser.add_argument("--rounds", type=int, default=5, help="throughput: rounds of each contestant")
    parser.add_argument("--workers", type=int, default=4, help="parity: gradings at a time")
    parser.add_argument("--timeout", type=int, default=parity.TIMEOUT, help="parity: seconds for the tests")
    parser.add_argument(
        "--cache", type=Path, default=Path("runs/parity"), help="instances, official verdicts"
    )
    parser.add_argument("--keep", action="store_true", help="keep the instances' images")
    parser.add_argument("--out", type=Path, default=HERE, help="where results go")
    parser.add_argument("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    options = parser.parse_args()
    if min(options.rounds, options.workers, options.timeout, options.instances or 1) < 1:
        parser.error("--instances, --rounds, --workers and --timeout must be at least 1")
    return options


def measure(options: argparse.Namespace) -> int:
    """Throughput: results.json, results.png, the table."""
    instances = [
        each
        for each in corpus(options.cache, options.instances or SMALL, options.seed)
        if each.id not in throughput.NEVER_ENDS
    ]
    machine = {"load_at_start": round(os.getloadavg()[0], 1), "cores": os.cpu_count()}
    rounds = throughput.race(options.cache, instances, options.rounds, say)
    results = {**said.of_rounds(rounds), "instances": len(instances), "machine": machine}
    text = said.markdown(results)
    publish("benchmarks.evaluation", options.out, results, text, draw, readme=options.readme)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except GymCodeError as error:
        sys.exit(f"benchmarks.evaluation: {error}")
