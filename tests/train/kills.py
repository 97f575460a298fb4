"""Kills parts of a small run at random points, and sees what becomes of it.

    python -m tests.train.kills --kills 40 --seed 0 [--engine vllm] [--lanes 2] [--json FILE]

A case is a run in which one process gets SIGKILL: the trainer, a part of the sandbox (its keeper, a box) or
of vLLM (the server, its engine core, its keeper). Points are spread over the life of the run: by time, as
measured on a run that nobody disturbs, and for the trainer also by its operations on files, so that every
write of a checkpoint can be cut in two. A run that ends is resumed. Then

- all steps are there, every file can be read, the checkpoint is whole, and nothing half-written is left;
- no process, lease, shared memory or temporary directory of it is left;
- a deterministic run has the bytes of the undisturbed one: adapter, metrics, held-out rewards.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import queue
import random
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from gym_code.records import read
from gym_code.sandbox.layout import open_home
from gym_code.sandbox.lease import gc

ROOT = Path(__file__).parents[2]
STEPS = 2
CONFIG = f"""
model = "tiny"
steps = {STEPS}
groups = 2
group_size = 3
checkpoint_every = 1
held_out_families = ["same_word"]
eval_tasks = 1
eval_held_out_tasks = 1
eval_samples = 1
eval_every = 1
eval_every_tasks = 1
workers = 4
refill = 0.5
deterministic = true

[vllm]
deterministic = false
staleness = 1
"""
VICTIMS = {
    "torch": ("operation", "box", "trainer", "operation", "keeper", "box", "trainer"),
    "vllm": ("server", "trainer", "server keeper", "box", "operation", "engine core", "keeper"),
}
"""Dealt out in turn. `operation`: the trainer, before an operation on a file; others by time."""
OPTIONS = ["--model", "small.toml", "--name", "r", "--threads", "1"]
MARK = "GYM_CODE_KILLS"
"""An environment variable by which all processes of a case are found."""
RUN_SECONDS = 900.0
BUSY_SECONDS = 2.0
"""How long is waited for a box in which something runs before any will do."""
REST_SECONDS = 40.0
"""How long processes may take to end by themselves once their trainer is gone."""


@dataclass(frozen=True, slots=True)
class Process:
    """A process as /proc shows it."""

    pid: int
    parent: int
    words: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Which part of a run it is; empty where it is none that is killed."""
        line = " ".join(self.words)
        if self.words[0].endswith("/supervisor"):
            return "box"
        if self.words[0].startswith("VLLM::EngineCor"):
            return "engine core"
        if "keeper.main()" in line:
            return "keeper"
        if "engine/keeper.py" in line:
            return "server keeper"
        return "server" if "vllm.entrypoints.openai.api_server" in self.words else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is killed, and where: a fraction of the time (or of the operations) in which it can be hit."""

    number: int
    victim: str
    place: float


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What came of a case; `problems` is empty where all is as it should be."""

    case: Case
    at: str = ""
    after: str = ""
    """`resumed`, `went on`, or `stopped with 1, 'error: ...', resumed`."""
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Reference:
    """An undisturbed run: what it leaves, when its parts lived (seconds), what it did to files."""

    left: dict[str, Any]
    spans: dict[str, tuple[float, float]]
    operations: list[str]
    """When each was begun (seconds), and what it was."""

    def before(self, operation: str) -> float:
        """The place of a case that kills before the last operation of that text."""
        found = [at for at, line in enumerate(self.operations) if line.split(maxsplit=1)[1] == operation]
        return (found[-1] + 0.5) / len(self.operations)

    def point(self, case: Case) -> tuple[int, float]:
        """How many operations come before the point of a case, and the seconds from the last of them to it:
        another run is faster or slower, but does the same."""
        first, last = self.spans[case.victim]
        wanted = first + case.place * (last - first)
        begun = [float(line.split()[0]) for line in self.operations]
        before = [seconds for seconds in begun if seconds <= wanted]
        return len(before), wanted - max(before, default=0.0)


def cases(count: int, seed: int, engine: str) -> list[Case]:
    """Victims in turn; the points of each are spread evenly over its time, each at random in its part."""
    draw = random.Random(f"{seed}/{engine}")
    victims = [VICTIMS[engine][number % len(VICTIMS[engine])] for number in range(count)]
    made, met = [], Counter[str]()
    for number, victim in enumerate(victims):
        place = (met[victim] + draw.random()) / victims.count(victim)
        met[victim] += 1
        made.append(Case(number=number, victim=victim, place=place))
    draw.shuffle(made)
    return made


def processes() -> Iterator[Process]:
    """All that run."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                words = (entry / "cmdline").read_text(errors="replace").rstrip("\0").split("\0")
            except OSError:
                continue
            if fields[0] not in "ZX":
                yield Process(int(entry.name), int(fields[1]), tuple(words))


def family(root: int) -> list[Process]:
    """The processes that one has started, and those that they have."""
    by_parent: dict[int, list[Process]] = {}
    for process in processes():
        by_parent.setdefault(process.parent, []).append(process)
    found, todo = [], [root]
    while todo:
        children = by_parent.get(todo.pop(), [])
        found += children
        todo += [child.pid for child in children]
    return found


def marked(mark: str) -> list[Process]:
    """The processes of a case, by their environment or where they are (a title that vLLM gives itself lies
    over its environment); those in boxes end with what carries the mark.
    """
    found = []
    for process in processes():
        try:
            environment = Path(f"/proc/{process.pid}/environ").read_bytes()
            place = str(Path(f"/proc/{process.pid}/cwd").readlink())
        except OSError:
            continue
        if f"{MARK}={mark}\0".encode() in environment or Path(place).is_relative_to(mark):
            found.append(process)
    return found


class Trainer:
    """A trainer that `killed_trainer.py` has started, used like a `Popen`."""

    def __init__(self, starter: subprocess.Popen[bytes], order: dict[str, Any]) -> None:
        assert starter.stdin is not None
        assert starter.stdout is not None
        self._answers = starter.stdout
        starter.stdin.write(json.dumps(order).encode() + b"\n")
        self.pid = int(self._answers.readline())
        self.returncode: int | None = None

    def wait(self, seconds: float) -> int | None:
        """The exit status, within so many seconds; None while it runs."""
        if self.returncode is None and select.select([self._answers], [], [], seconds)[0]:
            self.returncode = int(self._answers.readline())
        return self.returncode

    def kill(self) -> None:
        """SIGKILL to it alone."""
        if self.wait(0) is None:
            os.kill(self.pid, signal.SIGKILL)


class Lane:
    """One run after the other, in a directory and with a sandbox home of its own."""

    def __init__(self, directory: Path, engine: str) -> None:
        self.directory, self.engine = directory, engine
        self.home = directory / "home"
        directory.mkdir(parents=True)
        self._starter = subprocess.Popen(
            [sys.executable, "-m", "tests.train.killed_trainer"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        )
        self._started: list[Trainer] = []
        self._shared: set[Path] = set()
        """Shared memory that a run had just before something of it was killed."""

    def __enter__(self) -> Lane:
        return self

    def stop(self) -> None:
        """End what runs."""
        for trainer in self._started[-1:]:
            trainer.kill()
            trainer.wait(REST_SECONDS)

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._starter.kill()
        self._starter.wait()

    def prepare(self) -> None:
        """Play the undisturbed run; one before it, which is not kept, builds the environment."""
        self._run_whole("first")
        self.reference = self._run_whole("whole")

    def _run_whole(self, name: str) -> Reference:
        place = self._place(name)
        began, spans = time.monotonic(), dict[str, tuple[float, float]]()
        process = self._start(place, 0)
        while process.wait(1.0) is None:
            now = time.monotonic() - began
            for kind in {"trainer", *(p.kind for p in family(process.pid))}:
                spans[kind] = spans.get(kind, (now, now))[0], now
        assert process.returncode == 0, (place / "log").read_text()
        problems = [*broken(place / "runs/r"), *self._left_behind(place)]
        assert not problems, problems
        operations = operations_of(place)
        made = Reference(left=left(place / "runs/r"), spans=spans, operations=operations)
        shutil.rmtree(place)
        return made

    def play(self, case: Case) -> Outcome:
        """Start a run, kill, resume, and look at what is left."""
        outcome, self._shared = Outcome(case=case), set()
        place, began = self._place(str(case.number)), time.monotonic()
        last = 1 + int(case.place * len(self.reference.operations)) if case.victim == "operation" else 0
        process = self._start(place, last)
        if last:
            outcome.at = self._await_operation(process, place)
        else:
            outcome.at = self._kill(process, place, case)
        status = self._wait(process)
        log = (place / "log").read_text()
        if status == -signal.SIGKILL:
            outcome.after = "resumed"
        elif status == 0:
            outcome.after = "went on"
        else:
            reason = next((line for line in log.splitlines() if line.startswith("error: ")), "")
            outcome.after = f"stopped with {status}, {reason[:200]!r}, resumed"
        if status not in (0, 1, -signal.SIGKILL):
            outcome.problems.append(f"ended with {status}: {log[-2000:]}")
        if status:
            resume = ["--resume"] if (place / "runs/r").exists() else []
            status = self._wait(self._start(place, 0, *resume))
        log = (place / "log").read_text()
        if status or "Traceback" in log:
            outcome.problems.append(f"ends with {status}: {log[-2000:]}")
        else:
            outcome.problems += broken(place / "runs/r")
            if self.engine == "torch":
                outcome.problems += differences(left(place / "runs/r"), self.reference.left)
        outcome.problems += self._left_behind(place)
        outcome.seconds = round(time.monotonic() - began, 1)
        if not outcome.problems:
            shutil.rmtree(place)
        return outcome

    def _place(self, name: str) -> Path:
        place = self.directory / name
        (place / "tmp").mkdir(parents=True)
        (place / "small.toml").write_text(CONFIG)
        return place

    def _start(self, place: Path, last: int, *options: str) -> Trainer:
        environment = {
            MARK: str(place),
            "GYM_CODE_HOME": str(self.home),
            "TMPDIR": str(place / "tmp"),
            "TORCHINDUCTOR_CACHE_DIR": str(self.directory / "torch"),  # torch's own, kept between runs
        }
        order = {
            "place": str(place),
            "last": last,
            "environment": environment,
            "options": [*OPTIONS, "--engine", self.engine, *options],
        }
        self._started.append(Trainer(self._starter, order))
        return self._started[-1]

    def _wait(self, process: Trainer) -> int:
        if (status := process.wait(RUN_SECONDS)) is None:
            process.kill()
            raise TimeoutError(f"still running after {RUN_SECONDS:.0f} s")
        return status

    def _await_operation(self, process: Trainer, place: Path) -> str:
        self._wait(process)
        lines = operations_of(place)
        return f"{phase(place / 'runs/r')}: before operation {len(lines)}, {lines[-1].split(maxsplit=1)[1]}"

    def _kill(self, process: Trainer, place: Path, case: Case) -> str:
        """Wait for the point and for a victim; what was killed, and in what part of the run."""
        draw = random.Random(f"{case.number}/{case.victim}")
        operations, seconds = self.reference.point(case)
        while process.wait(0) is None and len(operations_of(place)) < operations:
            time.sleep(0.01)
        # A faster run has come to its next operation by then.
        until = time.monotonic() + seconds
        while time.monotonic() < until and len(operations_of(place)) <= operations:
            if process.wait(0.01) is not None:
                break
        until = time.monotonic() + BUSY_SECONDS
        while process.wait(0) is None:
            relatives = family(process.pid)
            self._shared = shared_by([process.pid, *(p.pid for p in relatives)])
            # A fork that has not become another program yet is not the part itself, nor is a server's guard.
            forks = {p.pid for p in relatives if p.kind == case.victim}
            found = [p for p in relatives if p.pid in forks and p.parent not in forks]
            if case.victim == "keeper":  # two processes: one outside of its namespace, and the first in it
                outside = {p.pid for p in found}
                found += [p for p in relatives if p.pid in forks and p.parent in outside]
            if case.victim == "trainer":
                found = [Process(process.pid, 0, ())]
            parents = {p.parent for p in relatives}
            # Most boxes wait in the pool or for the policy: three in four times one in which something runs.
            if case.victim == "box" and case.number % 4 and time.monotonic() < until:
                found = [p for p in found if p.pid in parents]
            if found:
                victim = draw.choice(found)
                where = phase(place / "runs/r")
                try:
                    os.kill(victim.pid, signal.SIGKILL)
                except ProcessLookupError:  # it has just ended by itself
                    continue
                busy = case.victim == "box" and victim.pid in parents
                return f"{where}, {seconds:.1f} s after operation {operations}" + (", busy" if busy else "")
        raise ValueError("nothing was killed: the run was over before")

    def _left_behind(self, place: Path) -> list[str]:
        """Processes, and what neither they nor `gc` removed."""
        deadline = time.monotonic() + REST_SECONDS
        while (rest := marked(str(place))) and time.monotonic() < deadline:
            time.sleep(0.2)
        problems = [f"still runs: {process.pid} {' '.join(process.words)[:200]}" for process in rest]
        for process in rest:
            os.kill(process.pid, signal.SIGKILL)
        home = open_home(self.home)
        gc(home)
        found = [*home.leases.glob("*.json"), *home.boxes.iterdir(), *home.root.glob("*/.part-*")]
        found += (place / "tmp").iterdir()
        # `gc` has removed what carries the trainer's pid.
        for trainer in self._started:
            found += Path("/dev/shm").glob(f"gym-code-git-{trainer.pid}-*")
        found += [path for path in self._shared if path.exists()]
        return problems + [f"still there: {path}" for path in found]


def shared_by(pids: Iterable[int]) -> set[Path]:
    """The files of shared memory that processes have mapped or opened."""
    found = set()
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
            found |= {Path(line.split(maxsplit=5)[5]) for line in lines if "/dev/shm/" in line}
            found |= {link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()}
        except OSError:
            continue
    memory = Path("/dev/shm")
    return {path for path in found if memory in path.parents and path.exists()}


def operations_of(place: Path) -> list[str]:
    """A line for each operation on files so far."""
    listing = place / "operations"
    return listing.read_text().splitlines() if listing.exists() else []


def phase(run: Path) -> str:
    """In what part of its life a run is, by what it has written."""
    if not (run / "heldout-before.json").exists():
        return "first evaluation" if (run / "config.toml").exists() else "start-up"
    rows = len((run / "metrics.jsonl").read_text().splitlines()) if (run / "metrics.jsonl").exists() else 0
    latest = run / "checkpoints/LATEST"
    if rows and (not latest.exists() or latest.read_text() != f"step-{rows:05d}"):
        return f"checkpoint {rows}"
    if rows < STEPS:
        return (
            f"{'update' if (run / f'trajectories/step-{rows:05d}.jsonl').exists() else 'rollouts'} {rows + 1}"
        )
    return "report" if (run / "heldout-after.json").exists() else "last evaluation"


def broken(run: Path) -> list[str]:
    """What is missing, torn or left over in the directory of a run that is done."""
    problems = []
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    if [row["step"] for row in rows] != list(range(STEPS)):
        problems.append(f"steps in metrics.jsonl: {[row['step'] for row in rows]}")
    for path in run.glob("*.json"):
        json.loads(path.read_text())
    files = sorted(path.name for path in (run / "trajectories").iterdir())
    if files != [f"step-{step:05d}.jsonl" for step in range(STEPS)]:
        problems.append(f"trajectories: {files}")
    problems += [torn for name in files if (torn := read(run / "trajectories" / name).torn)]
    checkpoint = run / "checkpoints" / f"step-{STEPS:05d}"
    found = {path.name for path in [*(run / "checkpoints").iterdir(), *run.rglob("*.tmp")]}
    best = (run / "checkpoints/best").readlink()
    expected = {"LATEST", checkpoint.name, "best", str(best)}
    if found != expected:
        problems.append(f"checkpoints: expected {sorted(expected)}, found {sorted(found)}")
    if (run / "checkpoints/LATEST").read_text() != checkpoint.name:
        problems.append(f"LATEST names {(run / 'checkpoints/LATEST').read_text()}")
    state = json.loads((checkpoint / "state.json").read_text())
    for name, digest in state["files"].items():
        if hashlib.sha256((checkpoint / name).read_bytes()).hexdigest() != digest:
            problems.append(f"{checkpoint / name} is not the file that was written")
    json.loads((run / "checkpoints/best/score.json").read_text())
    for directory in (checkpoint, run / "checkpoints/best"):
        load_file(directory / "adapter_model.safetensors")
    torch.load(checkpoint / "optimizer.pt", weights_only=True)
    return problems


def left(run: Path) -> dict[str, Any]:
    """What a deterministic run must leave the same, whatever happened to it."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    adapters = {"adapter": f"step-{STEPS:05d}", "best": "best"}
    return {
        **{
            key: hashlib.sha256(
                (run / "checkpoints" / name / "adapter_model.safetensors").read_bytes()
            ).hexdigest()
            for key, name in adapters.items()
        },
        "metrics": [{key: value for key, value in row.items() if key != "seconds"} for row in rows],
        **{name: json.loads((run / f"heldout-{name}.json").read_text()) for name in ("before", "after")},
    }


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """Where two runs that should be the same are not."""
    return [
        f"{key}: expected {expected[key]}, found {found[key]}"
        for key in expected
        if found[key] != expected[key]
    ]


@contextmanager
def prepared(root: Path, count: int, engine: str) -> Iterator[list[Lane]]:
    """Lanes below a directory, each with its undisturbed run; in lockstep all of these end the same."""
    root.chmod(0o755)  # boxes belong to another user than root
    with ExitStack() as stack:
        lanes = [stack.enter_context(Lane(root / str(number), engine)) for number in range(count)]
        with ThreadPoolExecutor() as threads:
            list(threads.map(Lane.prepare, lanes))
        if engine == "torch":
            assert all(lane.reference.left == lanes[0].reference.left for lane in lanes)
            assert all(row["grad_norm"] > 0 for row in lanes[0].reference.left["metrics"])
        yield lanes


def play(todo: Sequence[Case], lanes: Sequence[Lane], report: Path | None) -> list[Outcome]:
    """Every case once, as many at a time as there are lanes; told as they end."""
    waiting: queue.SimpleQueue[Case] = queue.SimpleQueue()
    for case in todo:
        waiting.put(case)
    done: list[Outcome] = []
    lock = threading.Lock()

    def work(lane: Lane) -> None:
        while True:
            try:
                case = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                outcome = lane.play(case)
            except Exception as error:  # one case must not end the others
                outcome = Outcome(case=case, problems=[f"{type(error).__name__}: {error}"])
                lane.stop()
            with lock:
                done.append(outcome)
                say(outcome)
                if report is not None:
                    report.write_text(json.dumps([asdict(o) for o in done], indent=1))

    threads = [threading.Thread(target=work, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


def say(outcome: Outcome) -> None:
    """One line, and one for each problem."""
    case = outcome.case
    print(
        f"{case.number:3} {case.victim:13} {outcome.at} -> {outcome.after} ({outcome.seconds:.0f} s)",
        flush=True,
    )
    for problem in outcome.problems:
        print(f"    PROBLEM {problem}", flush=True)


def summary(done: Sequence[Outcome]) -> str:
    """How it went on, victim by victim, as a table in Markdown."""
    ways = ("went on", "resumed", "stopped")
    rows = [
        "| killed | times | went on | resumed | stopped, resumed | problems |",
        "|---|---|---|---|---|---|",
    ]
    for victim in sorted({outcome.case.victim for outcome in done}):
        of = [outcome for outcome in done if outcome.case.victim == victim]
        counts = [sum(outcome.after.startswith(way) for outcome in of) for way in ways]
        rows.append(
            f"| {victim} | {len(of)} | {' | '.join(map(str, counts))} | {sum(bool(o.problems) for o in of)} |"
        )
    return "\n".join(rows)


def main() -> int:
    """Play the cases; exit status 1 when one has a problem."""
    parser = argparse.ArgumentParser(prog="tests.train.kills")
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=tuple(VICTIMS), default="torch")
    parser.add_argument("--lanes", type=int, default=1, help="runs side by side")
    parser.add_argument("--only", type=int, nargs="*", help="numbers of cases")
    parser.add_argument("--json", type=Path, help="where outcomes are written")
    options = parser.parse_args()
    todo = [
        case
        for case in cases(options.kills, options.seed, options.engine)
        if options.only is None or case.number in options.only
    ]
    root = Path(tempfile.mkdtemp(prefix="gym-code-kills-"))
    with prepared(root, options.lanes, options.engine) as lanes:
        print(f"a run takes {lanes[0].reference.spans['trainer'][1]:.0f} s", flush=True)
        done = play(todo, lanes, options.json)
    print(summary(done))
    failed = [outcome for outcome in done if outcome.problems]
    print(
        f"{len(done)} kills, {len(failed)} with problems; what they left: {root}"
        if failed
        else f"{len(done)} kills"
    )
    if not failed:
        shutil.rmtree(root)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
