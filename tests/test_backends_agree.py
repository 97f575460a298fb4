"""Law 1 across backends: an episode leaves the same states, patch, verdict and reward in `namespace` and in
`docker`.

The calls are drawn from an explicit seed and repeat no matter what they meet. A few episodes run with the
tests; many run by hand, with the figures printed:

    python -m tests.test_backends_agree --episodes 200
"""

from __future__ import annotations

import argparse
import random
import shlex
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pytest

from agents.loop import play
from agents.policy import Decision
from agents.scripted import NoOp, Oracle, Random, Scripted, submit
from gym_code.data import tasks_directory
from gym_code.episode import Episode
from gym_code.replay import same_observation
from gym_code.sandbox import open_backend
from gym_code.suite import DirectorySuite
from gym_code.types import Limits, ToolCall

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from agents.policy import Policy
    from gym_code.sandbox.base import Backend
    from gym_code.types import JSON, Task, Trajectory

SUITE = DirectorySuite(tasks_directory() / "starter")
BACKENDS = ("namespace", "docker")
EPISODES = 12
LIMITS = Limits(
    exec_seconds=20.0, memory_bytes=256 << 20, disk_bytes=16 << 20, processes=48, output_bytes=16_384
)
"""Small enough for a script to run into each of them."""

Call = tuple[str, dict[str, "JSON"]]


def bash(command: str, **more: JSON) -> Call:
    return "bash", {"command": command, **more}


def edit_a_line(chance: random.Random, files: Mapping[str, str]) -> Call:
    path = chance.choice(sorted(path for path, text in files.items() if text.strip()))
    line = chance.choice([line for line in files[path].splitlines() if line.strip()])
    return "edit", {"path": path, "old": line, "new": chance.choice([f"{line}  # seen", "", "pass"])}


FIXED: Sequence[Call] = (
    ("test", {}),
    ("view", {"path": "."}),
    ("search", {"pattern": "return"}),
    ("write", {"path": "new/deep/é.py", "content": "x = 'größe'\n"}),
    ("write", {"path": "../outside.txt", "content": "not in the repository\n"}),
    bash("mkdir -p made/deep && printf '\\0\\377' > made/deep/blob && ls -AR made; wc -c made/*/*"),
    bash("ln -s /etc/passwd absolute; ln -s nowhere dangling; ln -sfn .. up; stat -c '%A %N' *"),
    bash("git add -A && git commit -qm mine && git rev-parse HEAD && git status --short"),
    bash("git checkout -qb other && git commit -qm empty --allow-empty && git log --oneline --all"),
    bash("git mv README.md READ.me; git stash -q; git stash list; git status --short"),
    bash(
        "printf '*.txt\\n' >> .gitignore; echo hidden > ignored.txt; echo '* text eol=crlf' > .gitattributes"
    ),
    bash("mkfifo pipe; touch 'with space' \"with'quote\" $'new\\nline' -- -dash; ls -A | wc -l"),
    bash("false"),
    bash("no-such-program; echo $?; exit 7"),
    bash("kill -9 $$"),
    bash("echo before > cut; sleep 30", timeout=0.7),
    bash("setsid sleep 30 & echo $((6*7)) > left; exit 3"),
    bash("trap '' TERM INT HUP; echo stubborn > cut2; while :; do sleep 1; done", timeout=0.7),
    bash("yes long line | head -c 300000"),
    bash("head -c 64M /dev/zero > big; ls -s big | cut -d' ' -f1; rm big"),
    bash("python3 -c 'x = [bytearray(8 << 20) for _ in range(100)]' 2>/dev/null; echo after > memory"),
    bash("exec 2>/dev/null; for n in $(seq 99); do sleep 30 & done; echo > never", timeout=0.7),
    bash("python3 -c 'import tempfile; print(open(tempfile.mkstemp()[1]).read() == str())'; id; umask; pwd"),
    bash("cat /proc/sys/kernel/hostname; env | sort; touch /usr/x /x; echo $?"),
    bash("touch -d @1 *; chmod 4755 *; find . -path ./.git -prune -o -printf '%p %m %y %s\\n' | sort"),
)
ON_A_FILE: Sequence[str] = (
    "rm -rf {0}",
    "mv {0} {1}",
    "cp -a {0} {1}.copy",
    "mkdir -p moved; mv {0} moved/",
    "ln -f {0} hard-link",
    "rm -f {0}; ln -s {1} {0}",
    "rm -rf {0}; mkdir {0}; echo inside > {0}/file",
    "chmod 755 {0}; chmod 000 {1}",
    ": > {0}",
    "echo broken >> {0}",
    "sed -i 's/return/return  /' {0}; cat {0} | sha256sum",
    "rm -rf $(dirname {0})",
    "mv $(dirname {0}) renamed; git status --short",
    "truncate -s 3M {0}; printf end >> {0}",
    "git rm -q {0}; git checkout -q -- {1}; git diff HEAD --stat",
)


class Tinkerer(Scripted):
    """Does what agents do and more, drawn from a seed; solves the task in half of its episodes, and may
    break it again."""

    name = "tinkerer"

    def script(self, task: Task, tools: Sequence[Mapping[str, JSON]], seed: int) -> Sequence[Decision]:
        chance = random.Random(f"{task.id} {seed}")
        start = SUITE.start(task.id).files()
        files = {path: file.content.decode("utf-8", "replace") for path, file in start.items()}
        quoted = [shlex.quote(path) for path in sorted(files)]
        draws: Sequence[Callable[[], Call]] = (
            lambda: chance.choice(FIXED),
            lambda: bash(chance.choice(ON_A_FILE).format(*chance.sample(quoted, 2))),
            lambda: edit_a_line(chance, files),
            lambda: ("view", {"path": chance.choice(sorted(files))}),
        )
        calls = [chance.choices(draws, (5, 4, 1, 1))[0]() for _ in range(chance.randint(2, 7))]
        decisions = [Decision(calls=(call,)) for call in numbered(calls)]
        if chance.random() < 0.5:
            oracle = Oracle(suite=SUITE)
            at = chance.randint(0, len(decisions))
            decisions[at:at] = oracle.script(task, tools, seed)[:-1]
        return decisions if chance.random() < 0.1 else [*decisions, submit("last")]


def numbered(calls: Sequence[Call]) -> list[ToolCall]:
    return [ToolCall(id=f"call-{at}", name=name, arguments=found) for at, (name, found) in enumerate(calls)]


def policy_of(seed: int) -> Policy:
    """Mostly tinkerers: one episode in ten of each of the others."""
    others: Sequence[Callable[[], Policy]] = (lambda: Oracle(suite=SUITE), NoOp, lambda: Random(turns=6))
    return others[seed % 10]() if seed % 10 < len(others) else Tinkerer()


def play_seed(seed: int, backend: Backend) -> Trajectory:
    ids = SUITE.ids()
    with Episode(SUITE, ids[seed % len(ids)], backend, LIMITS) as episode:
        return play(policy_of(seed), episode, seed=seed)


def differences(left: Trajectory, right: Trajectory) -> list[str]:
    """In words, what is not the same in two episodes; the durations that observations show may differ."""
    found = []
    for number, (one, two) in enumerate(zip(left.turns, right.turns, strict=False), start=1):
        for call, before, after in zip(one.calls, one.results, two.results, strict=False):
            if not same_observation(before.content, after.content) or before.is_error != after.is_error:
                lines = set(before.content.splitlines()) ^ set(after.content.splitlines())
                found.append(f"turn {number}, {call.arguments}: {sorted(lines)}")
        if one.state_digest != two.state_digest:
            found.append(f"turn {number}, {[call.arguments for call in one.calls]}: state digest")
    found += [
        f"{name}: {before!r} / {after!r}"
        for name, before, after in (
            ("turns", len(left.turns), len(right.turns)),
            ("stop", left.stop, right.stop),
            ("error", left.error, right.error),
            ("patch", left.patch, right.patch),
            ("reward", value(left), value(right)),
            *verdicts(left, right),
        )
        if before != after
    ]
    return found


def value(trajectory: Trajectory) -> float | None:
    return trajectory.reward.value if trajectory.reward else None


def verdicts(left: Trajectory, right: Trajectory) -> Iterator[tuple[str, object, object]]:
    """What is compared of two verdicts, test by test."""
    one, two = (reward.verdict if (reward := each.reward) else None for each in (left, right))
    if one is None or two is None:
        yield "verdict", one, two
        return
    yield "verdict", (one.resolved, one.valid, one.flags), (two.resolved, two.valid, two.flags)
    for test in one.report.outcomes.keys() | two.report.outcomes.keys():
        yield test, one.report.outcomes.get(test), two.report.outcomes.get(test)


@pytest.fixture(scope="module")
def backends() -> Iterator[Sequence[Backend]]:
    with ExitStack() as stack:
        yield [stack.enter_context(open_backend(name)) for name in BACKENDS]


@pytest.mark.docker
@pytest.mark.sandbox
@pytest.mark.parametrize("seed", range(EPISODES))
def test_law_1_an_episode_is_the_same_in_both_backends(seed: int, backends: Sequence[Backend]) -> None:
    embedded, containers = (play_seed(seed, backend) for backend in backends)
    assert value(embedded) is not None
    assert all(turn.state_digest for turn in embedded.turns)
    assert differences(embedded, containers) == []


@pytest.mark.sandbox
def test_every_difference_is_told() -> None:
    with open_backend("namespace") as backend:
        whole = play_seed(0, backend)
    assert whole.reward is not None
    first = whole.turns[0]
    other = replace(first, state_digest="", results=(replace(first.results[0], content="other"),))
    ungraded = replace(whole.reward, value=None, parts={})
    changed = replace(whole, turns=(other,), patch=b"", stop=None, reward=ungraded)
    assert differences(whole, whole) == []
    assert len(differences(whole, changed)) == 6


@dataclass(slots=True)
class Tally:
    """What is told of many episodes."""

    episodes: int = 0
    turns: int = 0
    ungraded: int = 0
    resolved: int = 0
    seconds: float = 0.0
    stops: Counter[str] = field(default_factory=Counter)
    different: dict[int, list[str]] = field(default_factory=dict)

    def add(self, seed: int, left: Trajectory, right: Trajectory) -> None:
        self.episodes += 1
        self.turns += len(left.turns)
        self.ungraded += value(left) is None
        self.resolved += value(left) == 1.0
        self.stops[str(left.stop)] += 1
        if found := differences(left, right):
            self.different[seed] = found
            print(f"seed {seed}, {left.task_id}, {left.agent}:", *found, sep="\n  ", flush=True)

    def words(self) -> str:
        return (
            f"{self.episodes} episodes, {self.turns} turns in {self.seconds:.0f} s; "
            f"{self.resolved} resolved, {self.ungraded} ungraded; {dict(self.stops)}; "
            f"{len(self.different)} differ"
        )


def main() -> None:
    """Play many episodes in both backends and tell what came of it; status 1 where they differ."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--episodes", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    options = parser.parse_args()
    tally, begin = Tally(), time.monotonic()
    with ExitStack() as stack:
        backends = [stack.enter_context(open_backend(name)) for name in BACKENDS]
        workers = stack.enter_context(ThreadPoolExecutor(len(backends)))
        for seed in range(options.first, options.first + options.episodes):
            left, right = workers.map(lambda backend, seed=seed: play_seed(seed, backend), backends)
            tally.add(seed, left, right)
    tally.seconds = time.monotonic() - begin
    print(tally.words())
    sys.exit(bool(tally.different))


if __name__ == "__main__":
    main()
