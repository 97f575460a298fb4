"""Gradings a minute: `gym-code evaluate` beside SWE-bench's harness on the same patches, in rounds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.evaluation import official
from benchmarks.evaluation.corpus import rows
from benchmarks.evaluation.images import AT_ONCE, USUAL
from benchmarks.evaluation.parity import our_command
from benchmarks.evaluation.watch import Watch
from gym_code.evaluate.results import load_evaluation
from gym_code.sandbox.dockerd import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from docker import APIClient

    from benchmarks.evaluation.corpus import Instance

OURS, THEIRS, THEIRS_AT_ONCE = "gym-code evaluate", "swebench", "swebench, containers that stop at once"
GRADED = ("gold", "wrong", "partial", "crashing", "unfitting")
"""What is graded: an empty patch is graded by nobody, and one that hangs would time the time limit."""
WORKERS, TIMEOUT = 4, 300
NEVER_ENDS = frozenset({"cachetools__ttlcache-delitem-6c70ad"})
"""Instances of which another answer than the hanging one never ends either."""
PEERS_SHARE = 12
"""Gradings of each of the others in a round: enough to keep its workers busy for a minute and more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one contestant did in one round."""

    who: str
    seconds: float
    """Of the whole command, from its start to its end."""
    cases: frozenset[tuple[str, str]]
    """(instance id, variant) of what it graded."""
    resolved: frozenset[tuple[str, str]]
    """Those of them that it found resolved."""
    docker_peak: int
    state_peak: int
    left: int
    """Containers left behind."""

    @property
    def rate(self) -> float:
        """Gradings a minute."""
        return 60 * len(self.cases) / self.seconds


def race(
    folder: Path, instances: Sequence[Instance], rounds: int, say: Callable[[str], None]
) -> list[list[Round]]:
    """Every round: all variants of every instance by ours, a share of them by the others, who are slower.

    The order rotates, and so does the share.
    """
    usual, at_once = (rows(folder, instances, signal) for signal in (USUAL, AT_ONCE))
    found = []
    client = connect()
    try:
        for number in range(rounds):
            some = peers_share(instances, number)
            every = {(instance.id, variant): instance for instance in instances for variant in GRADED}
            turns = [(THEIRS, usual, some), (THEIRS_AT_ONCE, at_once, some), (OURS, usual, every)]
            first = number % len(turns)
            done = []
            for turn in (*turns[first:], *turns[:first]):
                done.append(_round(client, *turn))
                say(f"round {number + 1} of {rounds}: {done[-1].who}: {done[-1].rate:.1f} gradings a minute")
            found.append(done)
    finally:
        client.close()
    return found


def peers_share(instances: Sequence[Instance], number: int) -> dict[tuple[str, str], Instance]:
    """What the others grade in round `number`: up to `PEERS_SHARE` instances, one variant of each."""
    some = [
        instances[(number * PEERS_SHARE + k) % len(instances)]
        for k in range(min(PEERS_SHARE, len(instances)))
    ]
    return {(each.id, GRADED[(number + k) % len(GRADED)]): each for k, each in enumerate(some)}


def _round(
    client: APIClient, who: str, data: Sequence[Mapping[str, Any]], cases: Mapping[tuple[str, str], Instance]
) -> Round:
    """One command from start to end in directories of its own, state directory included."""
    with tempfile.TemporaryDirectory(prefix="gym-code-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # boxes run as another user
        (folder / "home").mkdir(mode=0o755)
        ids = {instance_id for instance_id, _ in cases}
        official.write_lines(folder / "rows.jsonl", [row for row in data if row["instance_id"] in ids])
        patches: dict[str, dict[str, str]] = {}
        for (instance_id, variant), instance in cases.items():
            sample = variant if who == OURS else "mixed"
            patches.setdefault(sample, {})[instance_id] = instance.predictions[variant]
        for sample, some in patches.items():
            official.write_lines(folder / f"{sample}.jsonl", official.predictions(some, sample))
        if who == OURS:
            command = our_command(list(patches), WORKERS, TIMEOUT)
        else:
            command = official.command("rows.jsonl", "mixed.jsonl", "mixed", TIMEOUT, WORKERS)
        env = {**os.environ, "GYM_CODE_HOME": str(folder / "home")}
        with Watch(client, folder) as watch, (folder / "said").open("w") as said:
            began = time.monotonic()
            process = subprocess.Popen(command, cwd=folder, env=env, stdout=said, stderr=said)
            status = process.wait()
            seconds = time.monotonic() - began
        if status:
            sys.stderr.write((folder / "said").read_text()[-2000:])
            raise subprocess.CalledProcessError(status, command)
        return Round(
            who=who,
            seconds=seconds,
            cases=frozenset(cases),
            resolved=_resolved(folder, who, cases),
            docker_peak=watch.docker_peak,
            state_peak=watch.state_peak,
            left=len(watch.left(process.pid, {str(row["image"]) for row in data})),
        )


def _resolved(
    folder: Path, who: str, cases: Mapping[tuple[str, str], Instance]
) -> frozenset[tuple[str, str]]:
    if who == OURS:
        results = load_evaluation(folder / "out").results
        return frozenset((each.instance_id, each.model) for each in results if each.resolved)
    found = set()
    for instance_id, variant in cases:
        report = folder / official.LOGS / "mixed" / "mixed" / instance_id / "report.json"
        if report.is_file() and json.loads(report.read_text())[instance_id]["resolved"]:
            found.add((instance_id, variant))
    return frozenset(found)
