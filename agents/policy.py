"""What a policy is: told of a task, then asked again and again what to say and which tools to call."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from gym_code.errors import ConfigError, GymCodeError
from gym_code.types import JSON, Completion, Task, ToolCall

if TYPE_CHECKING:
    from gym_code.task import Suite

Message = Mapping[str, JSON]
"""A chat message as OpenAI-compatible endpoints take it: role, content, tool_calls or tool_call_id."""


class PolicyError(GymCodeError):
    """The policy could not answer (its endpoint failed, say): neither the agent's doing nor the sandbox's."""


class ContextFullError(PolicyError):
    """The episode no longer fits the model's context window: it ends as if its token limit were reached."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a policy says in one turn.

    Without calls the policy is told `problem`, or that it must call a tool; without words either it gave up.
    `completion` and `prompt_token_ids` are for policies whose tokens are trained on; others leave them out.
    """

    text: str = ""
    calls: tuple[ToolCall, ...] = ()
    problem: str = ""
    """Why the words hold no call, where the policy reads calls out of text and found a broken one."""
    compacted: tuple[Message, ...] = ()
    """Messages that took the place of older ones before this decision (`agents/compact.py`)."""
    prompt_token_ids: tuple[int, ...] = ()
    completion: Completion | None = None
    tokens: int = 0
    """Tokens this decision used, prompt and completion: counted against `limits.tokens`."""
    cost: float = 0.0
    """What it cost, in the unit of `limits.cost`."""


@runtime_checkable
class Policy(Protocol):
    """Plays one episode at a time; `begin` starts the next."""

    name: str

    @property
    def sampling(self) -> Mapping[str, JSON]:
        """The sampling parameters as the trajectory keeps them; empty for a policy that does not sample."""

    def begin(self, task: Task, tools: Sequence[Mapping[str, JSON]], seed: int) -> None:
        """A new episode; `tools` as OpenAI-compatible schemas. What is random follows from `seed`."""

    def decide(self, messages: Sequence[Message]) -> Decision:
        """The next decision, after the messages that are new since the last one. Raises `PolicyError`."""


def load_policy(name: str, options: Mapping[str, Any] | None = None, *, suite: Suite | None = None) -> Policy:
    """A policy by name (a key of `POLICIES`) or as `module:Class`, made with `options` as keyword arguments.

    The suite, which knows the answers, is handed to the oracle and to no other policy. Raises `ConfigError`
    for a name that is not known, a module that does not import and options that do not fit.
    """
    target = POLICIES.get(name, name)
    module_name, _, attribute = target.partition(":")
    if not attribute:
        known = ", ".join(sorted(POLICIES))
        raise ConfigError("no such agent", where="agent", expected=f"{known} or module:Class", found=name)
    try:
        factory = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(
            "agent cannot be loaded", where=name, expected="module:Class", found=error
        ) from None
    known_answers = {"suite": suite} if name == "oracle" else {}
    try:
        policy = factory(**known_answers, **(options or {}))
    except TypeError as error:
        raise ConfigError("agent cannot be made", where=name, expected="its options", found=error) from None
    if not isinstance(policy, Policy):
        raise ConfigError("not a policy", where=name, expected="name, sampling, begin, decide", found=policy)
    return policy


POLICIES: Mapping[str, str] = {
    "oracle": "agents.scripted:Oracle",
    "noop": "agents.scripted:NoOp",
    "random": "agents.scripted:Random",
    "replay": "agents.scripted:Replay",
    "llm": "agents.llm:ChatPolicy",
}
