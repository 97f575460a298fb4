"""One episode, played to its end: query the policy, act in the box, observe what came back."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from agents.policy import ContextFullError, PolicyError
from gym_code.errors import SandboxError
from gym_code.tools import openai_tools
from gym_code.types import Completion, Stop, Trajectory, Turn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agents.policy import Decision, Message, Policy
    from gym_code.episode import Episode
    from gym_code.types import Task, ToolResult

SYSTEM = (
    "You work in the git repository in {workdir}, with the tools you are given: there is no network and "
    "nobody to ask. Make the change that is asked for, check it, then call submit. Hidden tests decide."
)
SILENT_TURNS = 3
"""So many turns in a row without a tool call are giving up: after each of them the policy was told."""


def play(
    policy: Policy,
    episode: Episode,
    *,
    seed: int = 0,
    suite: str = "",
    group_id: str = "",
    sample_id: str = "",
    grade: bool = True,
) -> Trajectory:
    """Play a fresh episode to its end and grade it as it stands there.

    suite: the reference by which a replay finds the suite; default its name. grade: without it the patch is
    exported and the reward stays None. A policy that fails
    (`PolicyError`) leaves the trajectory without stop and reward; `error` says why. The caller closes the
    episode.
    """
    policy.begin(episode.task, openai_tools(episode.tools), seed)
    turns: list[Turn] = []
    seconds: dict[str, float] = {}
    error = None
    end = episode.finish if grade else episode.export
    messages = opening(episode.task)
    try:
        while episode.stop is None and not gave_up(turns):
            with _timed(seconds, "policy_seconds"):
                decision = policy.decide(messages)
            with _timed(seconds, "tool_seconds"):
                results = episode.act(decision.calls or decision.problem)
            turns.append(_turn(messages, decision, results, _state(episode)))
            episode.charge(tokens=decision.tokens, cost=decision.cost)
            messages = observe(results)
        with _timed(seconds, "grade_seconds"):
            end(Stop.GAVE_UP)
    except ContextFullError:
        end(Stop.TOKENS)
    except PolicyError as failure:
        error = f"{type(failure).__name__}: {failure}"
    return Trajectory(
        task_id=episode.task.id,
        task_digest=episode.task.digest,
        suite=suite or episode.suite.name,
        agent=policy.name,
        group_id=group_id,
        sample_id=sample_id,
        seed=seed,
        sampling=dict(policy.sampling),
        backend=episode.backend.fingerprint(),
        limits=episode.limits,
        turns=tuple(turns),
        stop=episode.stop,
        patch=episode.patch,
        reward=episode.reward,
        error=error or episode.error,
        timings=seconds,
    )


def opening(task: Task) -> tuple[Message, ...]:
    """The messages an episode begins with."""
    return (
        {"role": "system", "content": SYSTEM.format(workdir=task.workdir)},
        {"role": "user", "content": task.instruction},
    )


def observe(results: Sequence[ToolResult]) -> tuple[Message, ...]:
    """The messages that tell a policy what its calls brought; what belongs to no call is said by the user."""
    return tuple(
        {"role": "tool", "tool_call_id": result.call_id, "content": result.content}
        if result.call_id
        else {"role": "user", "content": result.content}
        for result in results
    )


def gave_up(turns: Sequence[Turn]) -> bool:
    """Whether the policy fell silent: not a word in the last turn, or no call in the last `SILENT_TURNS`."""
    if turns and not turns[-1].calls and turns[-1].completion and not turns[-1].completion.text:
        return True
    last = turns[-SILENT_TURNS:]
    return len(last) == SILENT_TURNS and not any(turn.calls for turn in last)


def _turn(
    messages: Sequence[Message], decision: Decision, results: Sequence[ToolResult], state_digest: str
) -> Turn:
    said = Completion(token_ids=(), logprobs=(), text=decision.text, finish_reason="stop")
    return Turn(
        messages=(*decision.compacted, *messages),
        prompt_token_ids=decision.prompt_token_ids,
        completion=decision.completion or said,
        calls=decision.calls,
        results=tuple(results),
        state_digest=state_digest,
        tokens=decision.tokens,
        cost=decision.cost,
    )


def _state(episode: Episode) -> str:
    """The state digest; empty where the box is broken, which the next use of it makes known."""
    try:
        return episode.state_digest()
    except SandboxError:
        return ""


@contextmanager
def _timed(seconds: dict[str, float], name: str) -> Iterator[None]:
    begin = time.monotonic()
    try:
        yield
    finally:
        seconds[name] = seconds.get(name, 0.0) + time.monotonic() - begin
