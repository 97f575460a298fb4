"""Policies that need no model: the oracle, the no-op, a random one, and the replay of recorded calls."""

from __future__ import annotations

import base64
import posixpath
import random
import shlex
from typing import TYPE_CHECKING

from agents.policy import Decision, Message
from gym_code import records
from gym_code.errors import ConfigError
from gym_code.patch import apply_patch
from gym_code.types import JSON, File, Task, ToolCall, Trajectory

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gym_code.task import Suite

BASE64_CHARS = 90_000
"""Most base64 text in one command: the tool bash takes 100,000 bytes."""


class Scripted:
    """Decides from a list of decisions made when the episode begins; gives up when the list is spent."""

    name = "scripted"

    def __init__(self) -> None:
        self._decisions: list[Decision] = []

    @property
    def sampling(self) -> Mapping[str, JSON]:
        """Nothing: scripts do not sample from a model."""
        return {}

    def begin(self, task: Task, tools: Sequence[Mapping[str, JSON]], seed: int) -> None:
        """Write the script of this episode."""
        self._decisions = list(self.script(task, tools, seed))

    def decide(self, messages: Sequence[Message]) -> Decision:
        """The next decision of the script, whatever was observed."""
        return self._decisions.pop(0) if self._decisions else Decision()

    def script(self, task: Task, tools: Sequence[Mapping[str, JSON]], seed: int) -> Sequence[Decision]:
        """All decisions of an episode; what a subclass defines."""
        return ()


class NoOp(Scripted):
    """Hands the task in untouched."""

    name = "noop"

    def script(self, task: Task, tools: Sequence[Mapping[str, JSON]], seed: int) -> Sequence[Decision]:
        """One submit."""
        return (submit("noop-1"),)


class Oracle(Scripted):
    """Knows the answer: makes the gold patch's changes with the tools of an agent, then submits."""

    name = "oracle"

    def __init__(self, *, suite: Suite) -> None:
        super().__init__()
        self._suite = suite

    def script(self, task: Task, tools: Sequence[Mapping[str, JSON]], seed: int) -> Sequence[Decision]:
        """Two turns: every change, then submit."""
        files = self._suite.start(task.id).files()
        changes = apply_patch(files, self._suite.answer(task.id).gold_patch)
        steps = [step for path, new in changes.items() for step in _steps(path, files.get(path), new)]
        calls = tuple(
            ToolCall(id=f"oracle-{number}", name=name, arguments=arguments)
            for number, (name, arguments) in enumerate(steps, start=1)
        )
        done = submit(f"oracle-{len(calls) + 1}")
        return (Decision(text="Applying the solution.", calls=calls), done) if calls else (done,)


class Random(Scripted):
    """Makes random calls that fit the tools' schemas, then submits. Equal seeds, equal calls."""

    name = "random"

    def __init__(self, *, turns: int = 5) -> None:
        super().__init__()
        self._turns = turns

    def script(self, task: Task, tools: Sequence[Mapping[str, JSON]], seed: int) -> Sequence[Decision]:
        """`turns` calls, then submit."""
        chance = random.Random(f"{task.id} {seed}")
        functions = [tool["function"] for tool in tools if tool["function"]["name"] != "submit"]
        decisions: list[Decision] = []
        for number in range(1, self._turns + 1):
            function = chance.choice(functions)
            arguments = _arguments(function["parameters"], chance)
            call = ToolCall(id=f"random-{number}", name=function["name"], arguments=arguments)
            decisions.append(Decision(calls=(call,)))
        return (*decisions, submit(f"random-{self._turns + 1}"))


class Replay(Scripted):
    """Plays the calls of a recorded episode, with its words, in its order.

    file: a trajectory file; index: which of its records, from 0 (negative from the end). Without one it is
    the record of the task that is played, that with the same seed if there are several.
    """

    name = "replay"

    def __init__(
        self, *, trajectory: Trajectory | None = None, file: str = "", index: int | None = None
    ) -> None:
        super().__init__()
        self._where = file or "trajectory"
        self._trajectories = (trajectory,) if trajectory is not None else _recorded(file, index)

    def script(self, task: Task, tools: Sequence[Mapping[str, JSON]], seed: int) -> Sequence[Decision]:
        """One decision a recorded turn. Raises `ConfigError` where no record is of the task."""
        fitting = [trajectory for trajectory in self._trajectories if trajectory.task_id == task.id]
        if not fitting:
            found = ", ".join(dict.fromkeys(t.task_id for t in self._trajectories[:5])) or "none"
            raise ConfigError(
                "the record is of another task", where=self._where, expected=task.id, found=found
            )
        # Of an episode that was tried again the last try is played.
        chosen = next((record for record in reversed(fitting) if record.seed == seed), fitting[0])
        return [
            Decision(
                text=turn.completion.text if turn.completion else "",
                calls=turn.calls,
                prompt_token_ids=turn.prompt_token_ids,
                completion=turn.completion,
                tokens=turn.tokens,
                cost=turn.cost,
            )
            for turn in chosen.turns
        ]


def submit(call_id: str) -> Decision:
    """The decision that ends an episode."""
    return Decision(calls=(ToolCall(id=call_id, name="submit", arguments={}),))


def _recorded(file: str, index: int | None) -> tuple[Trajectory, ...]:
    trajectories = records.read(file).trajectories
    if index is None:
        return trajectories
    try:
        return (trajectories[index],)
    except IndexError:
        expected = f"an index below {len(trajectories)}"
        raise ConfigError("no such record", where=file, expected=expected, found=index) from None


def _steps(path: str, old: File | None, new: File | None) -> list[tuple[str, dict[str, JSON]]]:
    """The tool calls that bring one file of the repository to its new state."""
    if new is None:
        return [_bash(f"rm -f -- {shlex.quote(path)}")]
    if new.link is not None:
        return [_bash(f"{_parent(path)}ln -sfn -- {shlex.quote(new.link)} {shlex.quote(path)}")]
    steps: list[tuple[str, dict[str, JSON]]] = []
    if old is not None and old.link is not None:
        steps.append(_bash(f"rm -f -- {shlex.quote(path)}"))
        old = None
    if old is None or old.content != new.content:
        steps += _content_steps(path, old, new.content)
    if new.executable != (old is not None and old.executable):
        steps.append(_bash(f"chmod {'+x' if new.executable else '-x'} -- {shlex.quote(path)}"))
    return steps


def _content_steps(path: str, old: File | None, content: bytes) -> list[tuple[str, dict[str, JSON]]]:
    try:
        text = content.decode("utf-8")
        before = None if old is None else old.content.decode("utf-8")
    except UnicodeDecodeError:
        return _binary_steps(path, content)
    if before and (change := smallest_edit(before, text)):
        return [("edit", {"path": path, "old": change[0], "new": change[1]})]
    return [("write", {"path": path, "content": text})]


def smallest_edit(before: str, after: str) -> tuple[str, str] | None:
    """The shortest run of whole lines that is unique in `before` and turns it into `after` when replaced.

    None where that run would be the whole text.

    >>> smallest_edit("a\\nb\\nc\\n", "a\\nx\\nc\\n")
    ('b\\n', 'x\\n')
    """
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    shortest = min(len(old), len(new))
    head = next((i for i in range(shortest) if old[i] != new[i]), shortest)
    tail = next((i for i in range(shortest - head) if old[-1 - i] != new[-1 - i]), shortest - head)
    while head or tail:
        first, last = len("".join(old[:head])), len("".join(old[len(old) - tail :]))
        piece = before[first : len(before) - last]
        if piece and before.find(piece) == first == before.rfind(piece):
            return piece, after[first : len(after) - last]
        head, tail = max(head - 1, 0), max(tail - 1, 0)
    return None


def _binary_steps(path: str, content: bytes) -> list[tuple[str, dict[str, JSON]]]:
    """Bytes that no text holds, through base64 in pieces that a command line takes."""
    text, file = base64.b64encode(content).decode("ascii"), shlex.quote(path)
    steps = [_bash(f"{_parent(path)}: > {file}")]
    for at in range(0, len(text), BASE64_CHARS):
        steps.append(_bash(f"printf %s {text[at : at + BASE64_CHARS]} | base64 -d >> {file}"))
    return steps


def _parent(path: str) -> str:
    """The beginning of a command that makes the directory a path lies in, where it lies in one."""
    directory = posixpath.dirname(path)
    return f"mkdir -p -- {shlex.quote(directory)} && " if directory else ""


def _bash(command: str) -> tuple[str, dict[str, JSON]]:
    return "bash", {"command": command}


WORDS = (
    "README.md",
    ".",
    "src",
    "setup.py",
    "tests",
    "def",
    "return None",
    "x = 1\n",
    "ls -a",
    "true",
    "\N{SNOWMAN}",
)


def _arguments(schema: Mapping[str, JSON], chance: random.Random) -> dict[str, JSON]:
    required = schema.get("required", ())
    return {
        name: _value(inner, chance)
        for name, inner in schema["properties"].items()
        if name in required or chance.random() < 0.3
    }


def _value(schema: Mapping[str, JSON], chance: random.Random) -> JSON:
    if "enum" in schema:
        return chance.choice(schema["enum"])
    match schema["type"]:
        case "integer":
            return schema.get("minimum", 0) + chance.randrange(20)
        case "number":
            return round(chance.uniform(0.1, 5.0), 1)
        case "array":
            return [_value(schema["items"], chance)]
        case _:
            return chance.choice(WORDS)
