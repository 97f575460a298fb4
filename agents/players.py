"""Who plays the episodes of an evaluation: policies on threads; a model of ours: `train/predict.py`."""

from __future__ import annotations

import hashlib
import queue
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from agents.loop import play
from agents.policy import load_policy
from gym_code.episode import Episode
from gym_code.errors import InputError, SandboxUnavailable
from gym_code.types import Limits, Stop, Trajectory

if TYPE_CHECKING:
    from agents.policy import Policy
    from gym_code.sandbox.base import Backend
    from gym_code.task import Suite
    from gym_code.types import JSON

Hold = Callable[[str], AbstractContextManager[object]]
"""What must be there while the episode of a task is played, its image for example."""

NO_MATTER = ("api_key", "base_url", "max_retries", "timeout", "prompt_price", "completion_price")
"""Options that change where and how patiently an endpoint is asked, not what it answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """One episode to be played. `sample_id` names it among all others."""

    task_id: str
    sample: int
    seed: int
    sample_id: str
    limits: Limits

    @property
    def instance_id(self) -> str:
        """The task, as data sets call it."""
        return self.task_id


class Player(Protocol):
    """Plays episodes, many at a time. A context manager: leaving it ends whatever it started."""

    name: str
    """What predictions call the model."""
    identity: Mapping[str, JSON]
    """Whatever decides how it plays, apart from task, seed and limits."""

    def play(self, take: Callable[[], Wanted | None]) -> Iterator[tuple[Wanted, Trajectory]]:
        """Play what `take` hands out, ungraded, and give each episode as it ends.

        `take` is asked whenever there is room, and again after it had nothing: an episode may come back. An
        episode that a fault of ours broke has an `error`.
        """

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class AgentPlayer:
    """Plays with policies, one a thread.

    make_policy: called once a thread. reference: by which a replay finds the suite; default its name.
    """

    def __init__(
        self,
        make_policy: Callable[[], Policy],
        suite: Suite,
        backend: Backend,
        *,
        jobs: int,
        identity: Mapping[str, JSON],
        reference: str = "",
        hold: Hold = nullcontext,
    ) -> None:
        self._make, self._suite, self._backend = make_policy, suite, backend
        self._jobs, self._reference, self._hold = jobs, reference, hold
        first = make_policy()  # at once: what is wrong with its options is said before anything is played
        self.name = str(first.sampling.get("model", first.name))
        self.identity = {**identity, "policy": first.name, "sampling": dict(first.sampling)}
        self._free: queue.SimpleQueue[Policy] = queue.SimpleQueue()
        self._free.put(first)
        self._threads = ThreadPoolExecutor(jobs, thread_name_prefix="episode")
        self._open: set[Episode] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for episode in tuple(self._open):
            episode.close()
        self._threads.shutdown(wait=True)

    def play(self, take: Callable[[], Wanted | None]) -> Iterator[tuple[Wanted, Trajectory]]:
        """Play what `take` hands out, `jobs` episodes at a time.

        Raises `SandboxUnavailable` where no box can be opened here at all, `InputError` for a policy that
        cannot play the task it is given.
        """
        running: dict[Future[Trajectory], Wanted] = {}
        while True:
            while len(running) < self._jobs and (wanted := take()) is not None:
                running[self._threads.submit(self._played, wanted)] = wanted
            if not running:
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                yield running.pop(future), future.result()

    def _played(self, wanted: Wanted) -> Trajectory:
        policy = self._policy()
        try:
            with (
                self._hold(wanted.task_id),
                Episode(self._suite, wanted.task_id, self._backend, wanted.limits) as episode,
            ):
                self._open.add(episode)
                try:
                    return play(
                        policy,
                        episode,
                        seed=wanted.seed,
                        suite=self._reference,
                        group_id=wanted.task_id,
                        sample_id=wanted.sample_id,
                        grade=False,
                    )
                finally:
                    self._open.discard(episode)
        except (InputError, SandboxUnavailable):
            raise
        except Exception as error:  # The boundary: whatever breaks an episode is told of that episode.
            return self._broken(wanted, policy, f"{type(error).__name__}: {error}")
        finally:
            self._free.put(policy)

    def _policy(self) -> Policy:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            return self._make()

    def _broken(self, wanted: Wanted, policy: Policy, error: str) -> Trajectory:
        return Trajectory(
            task_id=wanted.task_id,
            task_digest=self._suite.task(wanted.task_id).digest,
            suite=self._reference or self._suite.name,
            agent=policy.name,
            group_id=wanted.task_id,
            sample_id=wanted.sample_id,
            seed=wanted.seed,
            sampling=dict(policy.sampling),
            backend=self._backend.fingerprint(),
            limits=wanted.limits,
            stop=Stop.FAULT,
            error=error,
        )


def agent_player(
    agent: str,
    options: Mapping[str, JSON],
    suite: Suite,
    backend: Backend,
    *,
    jobs: int,
    reference: str = "",
    hold: Hold = nullcontext,
) -> AgentPlayer:
    """A player with an agent by name or `module:Class`. Raises what `load_policy` raises."""
    kept = {name: value for name, value in options.items() if name not in NO_MATTER}
    if (file := Path(str(kept.get("file", "")))).is_file():
        kept["file"] = hashlib.sha256(file.read_bytes()).hexdigest()  # what it says, wherever it lies
    return AgentPlayer(
        lambda: load_policy(agent, options, suite=suite),
        suite,
        backend,
        jobs=jobs,
        identity={"agent": agent, "options": kept},
        reference=reference,
        hold=hold,
    )
