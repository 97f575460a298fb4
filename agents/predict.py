"""Predictions for an evaluation: an episode for each task and sample, played and not graded.

    with agent_player("oracle", {}, suite, backend, jobs=4) as player:
        played = predict(player, suite, suite.ids(), samples=2, out=Path("runs/eval/oracle"))

`trajectories.jsonl` is journal and result: an episode that ended is a line of it, synced. What stands there
is not played again; it is found by a digest of task, agent, options, seed, sample and limits, the end of its
`sample_id`. In the end the lines are put in order, and `predictions-N.jsonl` are made from them. What a fault
of ours broke (the sandbox failed, nobody answered) is tried again, and otherwise told: its row has no patch,
and `gym.error`. Seconds are the only values that differ from one time to the next.
"""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from agents.budgets import KINDS, Budget, limited, used
from agents.budgets import parse_limits as parse_limits
from agents.budgets import parse_totals as parse_totals
from agents.players import Player, Wanted
from agents.players import agent_player as agent_player
from agents.policy import PolicyError
from gym_code import records
from gym_code.files import replace_file, sync_directory
from gym_code.interop.predictions import MAX_LINE_BYTES, MAX_PATCH_BYTES
from gym_code.types import canonical_digest

if TYPE_CHECKING:
    from gym_code.task import Suite
    from gym_code.types import JSON, Trajectory

TRAJECTORIES = "trajectories.jsonl"
HOPELESS = 10
"""So many episodes in a row that break with the same words share a fault that playing on cannot mend."""

Arrange = Callable[[Iterable[Wanted]], list[Wanted]]
OnDone = Callable[[int, int, str], None]
"""Told how many episodes are done, of how many, and what came of the last one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """What came of the episodes that were wanted."""

    files: tuple[Path, ...]
    """The predictions of each sample."""
    unplayed: tuple[tuple[str, int], ...]
    """(task, sample) of what the run's budget left out: it has no row."""
    faults: tuple[tuple[str, int, str], ...]
    """(task, sample, error) of what a fault of ours broke."""
    used: Mapping[str, float]
    """Turns, tokens, cost and seconds of all episodes, those of earlier calls included."""


def predict(
    player: Player,
    suite: Suite,
    task_ids: Sequence[str],
    *,
    out: Path,
    samples: int = 1,
    seed: int = 0,
    limits: Budget | None = None,
    totals: Budget | None = None,
    retries: int = 2,
    arrange: Arrange = list,
    on_done: OnDone = lambda done, total, what: None,
) -> Played:
    """Play `samples` episodes of each task that are not in `out` yet, and write the predictions there.

    limits: for an episode, instead of the task's own. totals: no new episode is begun when the run has used
    so much. retries: of an episode that a fault of ours broke, after all others. arrange: the order in which
    they are played (the files have that of `task_ids`). Raises `PolicyError` where one fault breaks episode
    after episode, and what the player raises; what was played stays.
    """
    wanted = [
        _wanted(player, suite, task_id, sample, seed, limits or {})
        for task_id in task_ids
        for sample in range(samples)
    ]
    journal = _Journal(out / TRAJECTORIES, wanted)
    queue = _Queue(journal, wanted, tries=1 + retries, totals=totals or {}, arrange=arrange)
    before = len(wanted) - queue.left
    on_done(before, len(wanted), f"{before} were played before" if before else "")
    for one, trajectory in player.play(queue.take):
        journal.add(trajectory)
        queue.ended(one)
        on_done(len(wanted) - queue.left, len(wanted), _said(one, trajectory))
    journal.put_in_order()
    return _written(out, player.name, journal, wanted, samples)


def _wanted(player: Player, suite: Suite, task_id: str, sample: int, seed: int, limits: Budget) -> Wanted:
    task = suite.task(task_id)
    # Samples differ, and the samples of two runs with different seeds too.
    own = int(canonical_digest([seed, task_id, sample])[:15], 16)
    bounds = limited(task.limits, limits)
    key = canonical_digest([task.digest, dict(player.identity), own, sample, asdict(bounds)])
    sample_id = f"{task_id}/{sample}/{key[:16]}"
    return Wanted(task_id=task_id, sample=sample, seed=own, sample_id=sample_id, limits=bounds)


@dataclass(slots=True, kw_only=True)
class _Episode:
    """What the journal holds of an episode: its tries, the last of which counts."""

    tries: list[tuple[int, int]] = field(default_factory=list)
    """Where each stands in the file: first byte, length."""
    patch: bytes = b""
    stop: str | None = None
    error: str | None = None
    used: Mapping[str, float] = field(default_factory=dict)


class _Journal:
    """The trajectory file and what it holds of the episodes wanted; others in it are left alone."""

    def __init__(self, path: Path, wanted: Sequence[Wanted]) -> None:
        self._path = path
        self._episodes = {one.sample_id: _Episode() for one in wanted}
        self._others: list[tuple[int, int]] = []
        self.used: dict[str, float] = dict.fromkeys(KINDS, 0)
        records.append(path)  # a torn tail is cut off
        self._size = 0
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                self._take_in(records.decode(line, where=f"{path}:{number}"), len(line))

    def __getitem__(self, one: Wanted) -> _Episode:
        return self._episodes[one.sample_id]

    def add(self, trajectory: Trajectory) -> None:
        """Keep an episode: on disk when this returns."""
        records.append(self._path, trajectory)
        self._take_in(trajectory, self._path.stat().st_size - self._size)

    def put_in_order(self) -> None:
        """Have the episodes stand in the order in which they were wanted, before what else the file holds."""
        places = [place for episode in self._episodes.values() for place in episode.tries] + self._others
        if places == sorted(places):
            return
        aside = self._path.with_name(f".{self._path.name}.ordered")
        with self._path.open("rb") as old, aside.open("wb") as new:
            for start, length in places:
                old.seek(start)
                new.write(old.read(length))
            new.flush()
            os.fsync(new.fileno())
        aside.replace(self._path)
        sync_directory(self._path.parent)

    def _take_in(self, trajectory: Trajectory, length: int) -> None:
        place = (self._size, length)
        self._size += length
        episode = self._episodes.get(trajectory.sample_id)
        if episode is None:
            self._others.append(place)
            return
        episode.tries.append(place)
        episode.patch, episode.error = trajectory.patch, trajectory.error
        episode.stop = trajectory.stop.value if trajectory.stop else None
        episode.used = used(trajectory)
        for kind, amount in episode.used.items():
            self.used[kind] += amount


class _Queue:
    """What is still to be played: first what never was, then what a fault of ours broke."""

    def __init__(
        self, journal: _Journal, wanted: Sequence[Wanted], *, tries: int, totals: Budget, arrange: Arrange
    ) -> None:
        self._journal, self._tries, self._totals = journal, tries, totals
        self._open = {one.sample_id for one in wanted if not self._settled(one)}
        self._fresh = deque(arrange(one for one in wanted if not journal[one].tries))
        self._broken = deque(one for one in wanted if journal[one].tries and not self._settled(one))
        self._in_a_row: set[str] = set()
        """Episodes that one and the same error has broken, with none between them that was played."""
        self._error = ""

    @property
    def left(self) -> int:
        """Episodes that are in play or to be played."""
        return len(self._open)

    def take(self) -> Wanted | None:
        """The next to be played; None where there is none, or the budget of the run is used up."""
        if any(self._journal.used[kind] >= amount for kind, amount in self._totals.items()):
            return None
        waiting = self._fresh or self._broken
        return waiting.popleft() if waiting else None

    def ended(self, one: Wanted) -> None:
        """An episode that was taken has ended. Raises `PolicyError` where playing on has no sense."""
        if self._settled(one):
            self._open.discard(one.sample_id)
        else:
            self._broken.append(one)
        error = self._journal[one].error
        if error is None or error != self._error:
            self._in_a_row.clear()
        if error is not None:
            self._error = error
            self._in_a_row.add(one.sample_id)
        if len(self._in_a_row) >= HOPELESS:
            raise PolicyError(f"{HOPELESS} episodes in a row broke, each with: {error}")

    def _settled(self, one: Wanted) -> bool:
        episode = self._journal[one]
        return bool(episode.tries) and (episode.error is None or len(episode.tries) >= self._tries)


def _written(out: Path, model: str, journal: _Journal, wanted: Sequence[Wanted], samples: int) -> Played:
    """Write the predictions of each sample, and say what is missing in them."""
    files = tuple(out / f"predictions-{sample}.jsonl" for sample in range(samples))
    for sample, file in enumerate(files):
        lines = [
            _line(one, model, journal[one]) for one in wanted if one.sample == sample and journal[one].tries
        ]
        replace_file(file, b"".join(lines))
    return Played(
        files=files,
        unplayed=tuple((one.task_id, one.sample) for one in wanted if not journal[one].tries),
        faults=tuple(
            (one.task_id, one.sample, error) for one in wanted if (error := journal[one].error) is not None
        ),
        used=journal.used,
    )


def _line(one: Wanted, model: str, episode: _Episode) -> bytes:
    """A prediction. A patch that is no UTF-8 keeps its bytes as surrogates (`surrogateescape`).

    A patch that nobody who reads predictions takes, for its size, is none, and `gym.refused` says so.
    """
    about = {
        "sample": one.sample,
        "seed": one.seed,
        **episode.used,
        "stop": episode.stop,
        "error": episode.error,
    }
    row = {"instance_id": one.task_id, "model_name_or_path": model, "model_patch": None, "gym": about}
    if episode.error is not None:
        return _encoded(row)
    patch = episode.patch.decode("utf-8", "surrogateescape")
    whole = _encoded({**row, "model_patch": patch})
    if len(patch.encode("utf-8", "surrogatepass")) <= MAX_PATCH_BYTES and len(whole) <= MAX_LINE_BYTES:
        return whole
    about["refused"] = f"a patch of {len(episode.patch)} bytes ({len(whole)} as JSON)"
    return _encoded(row)


def _encoded(row: Mapping[str, JSON]) -> bytes:
    return json.dumps(row).encode() + b"\n"


def _said(one: Wanted, trajectory: Trajectory) -> str:
    ended = trajectory.error or (trajectory.stop.value if trajectory.stop else "")
    return f"{one.task_id} sample {one.sample}: {ended}, {len(trajectory.turns)} turns"
