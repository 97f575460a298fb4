"""Train the tiny model with several seeds, with shuffled advantages, with every objective, and with TRL.

    python -m benchmarks.learning                      # hours on two cores; go on with the same command
    python -m benchmarks.learning --steps 2 --seeds 1  # a quick look, into another --out

Each run is a process of its own with one torch thread; a run that has finished is not repeated. All runs
share one evaluation of the base: before the first step they are the same policy.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.learning import results as said
from benchmarks.learning.picture import draw
from benchmarks.learning.plan import TRL, Run, chosen, plan
from benchmarks.learning.run import RESULT
from benchmarks.page import publish, say

HERE = Path(__file__).parent
BASE = Run(kind="dr_grpo", seed=0)
"""Any untrained policy is the base."""


def main() -> int:
    """Run what has not been run, then say what came of all finished runs."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started here ends with it
    options = parse()
    failed = [] if options.report else run_all(options)
    for name in failed:
        say(f"{name} failed, see {options.out / name / 'log.txt'}")
    report(options.out, options.into, readme=options.readme)
    return 1 if failed else 0


def run_all(options: argparse.Namespace) -> list[str]:
    """Carry out what the options name, so many at a time; the names of those that failed."""
    options.out.mkdir(parents=True, exist_ok=True)
    settle(options.out / "setup.json", {"steps": options.steps, "evaluate": options.evaluate})
    jobs = [("base", BASE, 0, [0])]
    runs = chosen(plan(options.seeds, options.trl_seeds), options.kinds)
    jobs += [(run.name, run, options.steps, options.evaluate) for run in runs]
    alive: set[subprocess.Popen[bytes]] = set()
    pool = ThreadPoolExecutor(max_workers=options.jobs)
    try:
        done = list(pool.map(lambda job: carry_out(options.out, alive, *job), jobs))
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(alive):
            process.terminate()
        pool.shutdown()
    return [name for (name, *_), good in zip(jobs, done, strict=True) if not good]


def report(out: Path, into: Path, *, readme: bool) -> None:
    """Write results.json and results.png, print the tables."""
    results = said.summarize(*said.load(out))
    text = said.markdown(results)
    publish("benchmarks.learning", into, results, text, draw, readme=readme)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.learning", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--evaluate", type=int, nargs="+", default=[10, 20], help="after how many steps")
    parser.add_argument("--seeds", type=int, default=5, help="of the default and of the control")
    parser.add_argument("--trl-seeds", type=int, default=2)
    parser.add_argument("--kinds", nargs="*", default=[], help="only these, e.g. dr_grpo shuffled trl-dapo")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-learning"), help="where runs are kept")
    parser.add_argument("--into", type=Path, default=HERE, help="where results.json and results.png go")
    parser.add_argument("--report", action="store_true", help="run nothing; report what has finished")
    parser.add_argument("--readme", action="store_true", help="put the tables into benchmarks/README.md")
    return parser.parse_args()


def settle(path: Path, wanted: dict[str, Any]) -> None:
    """Hold all runs of a directory to one set-up and note which code ran."""
    wanted = json.loads(json.dumps(wanted))
    if path.is_file():
        found = json.loads(path.read_text())
        if {key: found[key] for key in wanted} != wanted:
            sys.exit(f"benchmarks.learning: {path} was made with other options: {found}; take another --out")
        return
    path.write_text(json.dumps(wanted | {"commit": commit()}) + "\n")


def commit() -> str:
    """The commit that is checked out, marked where the tree differs from it."""
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False
    )
    return said.stdout.strip()


def carry_out(
    out: Path, alive: set[subprocess.Popen[bytes]], name: str, run: Run, steps: int, evaluate: list[int]
) -> bool:
    """Run it unless it has finished; whether it has."""
    where = out / name
    if (where / RESULT).is_file():
        return True
    where.mkdir(exist_ok=True)
    module = "benchmarks.learning.peer" if run.kind.startswith(TRL) else "benchmarks.learning.run"
    command = [sys.executable, "-m", module, "--kind", run.kind, "--seed", str(run.seed)]
    command += ["--steps", str(steps), "--evaluate", *map(str, evaluate), "--out", str(where)]
    say(f"{name}: begins")
    with (where / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )
        alive.add(process)
        status = process.wait()
        alive.discard(process)
    say(f"{name}: {'failed' if status else 'done'}")
    return status == 0


if __name__ == "__main__":
    sys.exit(main())
