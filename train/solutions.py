"""Episodes that are known to be right, as tokens of the model's own template.

They are demonstrated, by an oracle that works as an agent would, or read from a trajectory file of any agent.
Token ids that were sampled through this very template are taken as they are; other episodes are written out
in it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from agents.chat import Chat
from agents.loop import play
from agents.policy import Decision
from agents.scripted import Oracle
from gym_code.episode import Episode
from gym_code.records import encode, read
from gym_code.sandbox.base import Backend
from gym_code.task import load_suite
from gym_code.tools import openai_tools
from gym_code.types import JSON, Segment, Stop, Task, ToolCall, Trajectory
from train.checkpoint import write_whole
from train.config import Config
from train.curriculum import Curriculum, Draw, reference, trainable
from train.segments import segments_of

if TYPE_CHECKING:
    from collections.abc import Mapping

ORACLE = "oracle"
WHOLE_FILE_LINES, AROUND_LINES = 200, 40
"""A file up to this long is viewed whole, of a longer one so many lines before and after the change."""


class Demonstrator(Oracle):
    """The oracle, as an agent would have done it: a call a turn, each file looked at before it is changed."""

    name = "demonstrator"

    def script(self, task: Task, tools: Sequence[Mapping[str, JSON]], seed: int) -> Sequence[Decision]:
        """Views and changes in turn, then submit."""
        files = self._suite.start(task.id).files()
        calls: list[ToolCall] = []
        for decision in super().script(task, tools, seed):
            for call in decision.calls:
                path = str(call.arguments.get("path"))
                if call.name in ("edit", "write") and path in files:
                    text = files[path].content.decode("utf-8", "replace")
                    calls.append(_look(call, text))
                    calls.append(_trimmed(call, text) if call.name == "edit" else call)
                else:
                    calls.append(call)
        return [Decision(calls=(call,)) for call in calls]


def _look(change: ToolCall, text: str) -> ToolCall:
    """The view that comes before a change of a file with this text."""
    arguments: dict[str, JSON] = {"path": change.arguments["path"]}
    lines = text.count("\n")
    if lines > WHOLE_FILE_LINES and "old" in change.arguments:
        first = text[: text.index(change.arguments["old"])].count("\n") + 1
        last = first + change.arguments["old"].count("\n")
        arguments |= {"start": max(1, first - AROUND_LINES), "end": min(lines, last + AROUND_LINES)}
    return ToolCall(id=f"look-{change.id}", name="view", arguments=arguments)


def _trimmed(edit: ToolCall, text: str) -> ToolCall:
    """The edit without the indentation and line end that stay, where what is left stands in the text once."""
    old, new = edit.arguments["old"], edit.arguments["new"]
    indent = old[: len(old) - len(old.lstrip(" \t"))]
    start = len(indent) if new.startswith(indent) else 0
    end = 1 if old.endswith("\n") and new.endswith("\n") else 0
    piece = old[start : len(old) - end]
    if not piece or text.count(piece) != 1:
        return edit
    return replace(edit, arguments={**edit.arguments, "old": piece, "new": new[start : len(new) - end]})


def demonstrations(config: Config, curriculum: Curriculum, backend: Backend) -> Iterator[Trajectory]:
    """Solutions of `warm_start_tasks` training tasks of all stages, played in boxes and graded, in order."""

    def demonstrate(draw: Draw) -> Trajectory:
        limits = draw.suite.task(draw.task_id).limits
        limits = replace(limits, turns=min(limits.turns, config.turns))
        with Episode(draw.suite, draw.task_id, backend, limits) as episode:
            return play(Demonstrator(suite=draw.suite), episode, suite=reference(draw.suite))

    with ThreadPoolExecutor(max_workers=config.workers, thread_name_prefix="demonstrate") as pool:
        yield from pool.map(demonstrate, curriculum.demonstrated(config.warm_start_tasks))


def segments_from(trajectories: Sequence[Trajectory], chat: Chat, config: Config) -> list[Segment]:
    """What can be learned from: resolved, submitted, of a task that may be trained on, within `max_length`.

    Raises `TaskError` for a trajectory of a suite or a task that cannot be found.
    """
    suite_of = cache(load_suite)
    made: list[Segment] = []
    for trajectory in trajectories:
        if not resolved(trajectory):
            continue
        task = suite_of(trajectory.suite).task(trajectory.task_id)
        if trainable(task, config):
            made += as_recorded(trajectory, chat) or rendered(trajectory, task, chat)
    return [segment for segment in made if len(segment.token_ids_T) <= config.max_length]


def resolved(trajectory: Trajectory) -> bool:
    """Whether an episode solved its task and said so itself."""
    reward = trajectory.reward
    return trajectory.stop is Stop.SUBMITTED and reward is not None and reward.value == 1


def as_recorded(trajectory: Trajectory, chat: Chat) -> list[Segment]:
    """The tokens that were sampled, where they were sampled through this very template; otherwise nothing."""
    sampled = all(turn.completion and turn.completion.token_ids for turn in trajectory.turns)
    return segments_of(trajectory, 1.0) if sampled and trajectory.template_digest == chat.digest else []


def rendered(trajectory: Trajectory, task: Task, chat: Chat) -> list[Segment]:
    """The calls of an episode written out in the model's template; nothing where a turn held no call.

    The words beside the calls are kept of policies that record them apart, which those with token ids do not.
    """
    tokens = chat.start(task, openai_tools())
    mask = [0] * len(tokens)
    for number, turn in enumerate(trajectory.turns):
        if not turn.calls:
            return []
        words = turn.completion.text if turn.completion and not turn.completion.token_ids else ""
        action = chat.assistant(turn.calls, words)
        seen = chat.observe(action, turn.results) if number + 1 < len(trajectory.turns) else []
        tokens, mask = [*tokens, *action, *seen], [*mask, *[1] * len(action), *[0] * len(seen)]
    return [
        Segment(
            task_id=task.id,
            group_id=task.id,
            token_ids_T=tuple(tokens),
            action_mask_T=tuple(mask),
            logprobs_T=(0.0,) * len(tokens),
            advantages_T=(0.0,) * len(tokens),
        )
    ]


def demonstrated_segments(
    config: Config,
    chat: Chat,
    curriculum: Curriculum,
    backend: Backend,
    directory: Path,
    on_episode: Callable[[int, int], None] = lambda *_: None,
) -> list[Segment]:
    """What `warm_start` learns from: a trajectory file, or demonstrations, which are kept in the directory.

    A file of demonstrations that an earlier attempt left is read again; it is written when all are played.
    """
    if config.warm_start not in ("", ORACLE):
        return segments_from(read(config.warm_start).trajectories, chat, config)
    path = directory / "demonstrations.jsonl"
    if not path.is_file():
        played = []
        for trajectory in demonstrations(config, curriculum, backend):
            played.append(trajectory)
            on_episode(len(played), config.warm_start_tasks)
        write_whole(path, b"".join(map(encode, played)))
    return segments_from(read(path).trajectories, chat, config)
