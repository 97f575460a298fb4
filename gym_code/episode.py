"""One episode: an agent acts in a box until something stops it, then its patch is graded elsewhere.

    with Episode(suite, "textkit__slugify-1", backend) as episode:
        while episode.stop is None:
            results = episode.act(policy(episode))
        reward = episode.finish()

`RepoEnv` is a thin Gymnasium surface over this class; the agent loop and the trainer use it directly. An
episode is thread-confined; many run side by side on a sized executor. `close` from another thread cancels
it.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Self

from gym_code.errors import InputError, SandboxError
from gym_code.grading import grade
from gym_code.sandbox.base import BoxSpec
from gym_code.tools import choose_tools, error_result, run_tool
from gym_code.types import Limits, Reward, Stop, ToolCall, ToolResult

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from gym_code.sandbox.base import Backend, Sandbox
    from gym_code.task import Suite

NO_CALL = "no tool call was found; every turn must call a tool. Call submit when the work is done."
_LEAST_SECONDS = 0.1


class Episode:
    """A task, a box, and what is left of its limits.

    limits: instead of the task's own. tools: names of the tools the agent may call (None: all). sandbox: a
    box that is already open, for example a fork; the episode owns it from then on. clock: seconds, for
    tests. Raises `TaskError` for an unknown task and `SandboxError` when no box can be opened.
    """

    def __init__(
        self,
        suite: Suite,
        task_id: str,
        backend: Backend,
        limits: Limits | None = None,
        *,
        tools: Iterable[str] | None = None,
        sandbox: Sandbox | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.suite, self.backend = suite, backend
        self.tools = choose_tools(tools)
        task = suite.task(task_id)
        self.task = task if limits is None else replace(task, limits=limits)
        self.limits = self.task.limits
        self.stop: Stop | None = None
        self.error: str | None = None
        """What failed of ours, when `stop` is `Stop.FAULT` or the patch could not be graded."""
        self.patch = b""
        """The agent's changes as a git patch; set by `export` and `finish`."""
        self.reward: Reward | None = None
        """Set by `finish`."""
        self.turns, self.tokens, self.cost = 0, 0, 0.0
        self._exported = False
        self._clock = clock
        self._box = sandbox if sandbox is not None else backend.open(self._spec())
        self._began = clock()

    @property
    def seconds(self) -> float:
        """Seconds since the box stood ready."""
        return self._clock() - self._began

    @property
    def turns_left(self) -> int:
        """Turns that may still be taken."""
        return 0 if self.stop is not None else max(self.limits.turns - self.turns, 0)

    def act(self, calls: Sequence[ToolCall] | str) -> list[ToolResult]:
        """Take one turn: carry out the calls in order, one result each, and note which limit is reached.

        A text instead of calls says why the policy's words held none; it comes back as the one error
        result. Calls after the one that ends the episode are not run, and their results say so. A sandbox
        that fails stops the episode with `Stop.FAULT`. Raises `InputError` when the episode is over.
        """
        if self.stop is not None:
            raise InputError(
                "the episode is over", where=self.task.id, expected="no turn", found=self.stop.value
            )
        self.turns += 1
        if not calls:
            results = [error_result("", NO_CALL)]
        elif isinstance(calls, str):
            results = [error_result("", calls)]
        else:
            results = [self._run(call) for call in calls]
        if self.stop is None and self.turns >= self.limits.turns:
            self.stop = Stop.TURNS
        if self.stop is None and self._seconds_left() <= 0:
            self.stop = Stop.SECONDS
        return results

    def charge(self, *, tokens: int = 0, cost: float = 0.0) -> None:
        """Count what a completion used; cost is in the currency of its limit. Reaching a limit stops."""
        self.tokens += tokens
        self.cost += cost
        if self.stop is None and self.limits.tokens is not None and self.tokens >= self.limits.tokens:
            self.stop = Stop.TOKENS
        if self.stop is None and self.limits.cost is not None and self.cost >= self.limits.cost:
            self.stop = Stop.COST

    def export(self, stop: Stop = Stop.GAVE_UP) -> bytes:
        """End the episode ungraded: export the patch and give the box back; later calls return the same.

        stop: why the episode ends, where nothing has stopped it yet. Where `error` is set afterwards the
        sandbox has failed, and the empty patch says nothing of what the agent did.
        """
        self.stop = self.stop or stop
        if not self._exported:
            self._exported = True
            try:
                if self.stop is not Stop.FAULT:
                    self.patch = self._box.diff()
            except SandboxError as error:
                self.error = f"{type(error).__name__}: {error}"
            finally:
                self._box.close()
        return self.patch

    def finish(self, stop: Stop = Stop.GAVE_UP) -> Reward:
        """Export the patch, give the box back and grade the patch as it stands; later calls return the same.

        stop: why the episode ends, where nothing has stopped it yet. The value is None only for a fault of
        ours.
        """
        if self.reward is None:
            # The box is given back before grading opens another: an episode holds one at a time.
            patch = self.export(stop)
            failed = self.stop is Stop.FAULT or self.error is not None
            try:
                self.reward = Reward(value=None) if failed else self._grade(patch)
            except SandboxError as error:
                # The agent's episode ended as it did; only its grade is missing.
                self.error = f"{type(error).__name__}: {error}"
                self.reward = Reward(value=None)
        return self.reward

    def state_digest(self) -> str:
        """SHA-256 (hex) of what the agent has changed so far; raises `SandboxClosed` after `finish`."""
        return self._box.digest()

    def fork(self, n: int) -> list[Episode]:
        """`n` episodes that go on from here, each in a copy of the box, with as much of the limits used."""
        episodes = []
        for box in self._box.fork(n):
            twin = Episode(
                self.suite, self.task.id, self.backend, self.limits, sandbox=box, clock=self._clock
            )
            twin.tools, twin.stop = self.tools, self.stop
            twin.turns, twin.tokens, twin.cost, twin._began = self.turns, self.tokens, self.cost, self._began
            episodes.append(twin)
        return episodes

    def close(self) -> None:
        """Give the box back, graded or not. Idempotent."""
        self._box.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _run(self, call: ToolCall) -> ToolResult:
        left = self._seconds_left()
        if self.stop is None and left <= 0:
            self.stop = Stop.SECONDS
        if self.stop is not None:
            return error_result(call.id, f"not run, the episode is over: {self.stop.value}.")
        # A command may not run on past the end of the episode.
        seconds = max(min(self.limits.exec_seconds, left), _LEAST_SECONDS)
        task = replace(self.task, limits=replace(self.limits, exec_seconds=seconds))
        try:
            result = run_tool(call, self._box, task, self.tools)
        except SandboxError as error:
            self.stop, self.error = Stop.FAULT, f"{type(error).__name__}: {error}"
            return error_result(call.id, "the sandbox failed; this is no fault of yours.")
        if call.name == "submit" and not result.is_error:
            self.stop = Stop.SUBMITTED
        return result

    def _seconds_left(self) -> float:
        limit = self.limits.episode_seconds
        return float("inf") if limit is None else limit - self.seconds

    def _grade(self, patch: bytes) -> Reward:
        task_id = self.task.id
        # The suite's own task: the limits of an episode are no limits on its grading.
        return grade(
            self.suite.task(task_id),
            self.suite.answer(task_id),
            patch,
            self.backend,
            self.suite.start(task_id),
        )

    def _spec(self) -> BoxSpec:
        task = self.task
        return BoxSpec(
            start=self.suite.start(task.id),
            environment=task.environment,
            limits=task.limits,
            workdir=task.workdir,
        )
