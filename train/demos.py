"""Demonstrations for the tiny model: a careless programmer at work on procedural tasks.

Each demonstration views the file, edits the stub, sometimes runs the visible tests and submits. The
programmer's mistakes are *systematic*: in every family the same tempting wrong body, most of the time. So the
base model's likeliest answer is wrong while the right one is sampled often enough to be rewarded: what
reinforcement learning from verifiable rewards can then correct.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from agents.chat import Chat
from gym_code.synth.families import BY_NAME
from gym_code.synth.procedural import STUB, Function, repository
from gym_code.tools import openai_tools
from gym_code.types import Task, ToolCall, ToolResult

TEST_SHARE = 0.25
"""How often the programmer runs the visible tests before submitting (only where they pass)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demonstration:
    """One episode as tokens.

    token_ids    P  P  a  a  E  a      prompt, action, environment
    action_mask  0  0  1  1  0  1
    """

    task_id: str
    token_ids: tuple[int, ...]
    action_mask: tuple[int, ...]


def demonstrate(task_id: str, chat: Chat, rng: random.Random) -> Demonstration:
    """One demonstration on a procedural task with a single missing function."""
    made = repository(task_id)
    [(path, function)] = made.missing.items()
    task = Task(id=task_id, instruction=f"Implement {function.name} in {path}.", base_commit="")
    tokens = chat.start(task, openai_tools())
    mask = [0] * len(tokens)
    steps = script(path, function, made.start[path].content.decode(), rng)
    for call, observation in steps:
        action = chat.assistant([call])
        tokens += action
        mask += [1] * len(action)
        if observation is not None:
            seen = chat.observe(action, [ToolResult(call_id=call.id, content=observation)])
            tokens += seen
            mask += [0] * len(seen)
    return Demonstration(task_id=task_id, token_ids=tuple(tokens), action_mask=tuple(mask))


def script(path: str, function: Function, text: str, rng: random.Random) -> list[tuple[ToolCall, str | None]]:
    """The calls of a demonstration and what the tools answer (None after the last: the episode is over)."""
    wrong = rng.random() < BY_NAME[function.family].tempting
    body = f"return {function.wrong if wrong else function.right}"
    steps: list[tuple[ToolCall, str | None]] = [
        (_call("view", path=path), text),
        (_call("edit", path=path, old=STUB, new=body), f"Edited {path}."),
    ]
    if rng.random() < TEST_SHARE:
        steps.append((_call("test"), f"{1 + bool(function.shared)} passed, 0 failed"))
    return [*steps, (_call("submit"), None)]


def _call(name: str, **arguments: str) -> ToolCall:
    return ToolCall(id=name, name=name, arguments=arguments)


def demonstrations(task_ids: Sequence[str], chat: Chat, seed: int) -> list[Demonstration]:
    """One demonstration a task; the programmer's luck depends on the seed and the task alone."""
    return [demonstrate(task_id, chat, random.Random(f"{seed}/{task_id}")) for task_id in task_ids]
