r"""`RepoFix-v0` and `RepoBuild-v0`: an episode as a `gymnasium.Env`.

    action        {"name": "view", "arguments": "{\"path\": \"README.md\"}"}      arguments are JSON text
    observation   {"content": what it showed, "instruction": the task, "is_error": 0 | 1, "turns_left": n}
    reward        0.0 until the episode ends, then the grader's value
    terminated    the agent submitted
    truncated     a limit was reached, or the sandbox failed: `info["truncated_reason"]` says which

A truncated episode is graded as it stands. `info["reward_valid"]` is False when the episode could not be
graded through a fault of ours; its reward, 0.0, must then not be learned from. `info` holds plain values
only: the whole `Reward` is `env.unwrapped.episode.reward`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import gymnasium
import numpy as np
from gymnasium import spaces

from gym_code.episode import Episode
from gym_code.errors import ConfigError, InputError, SandboxClosed, TaskError
from gym_code.spaces import ToolCallSpace, UnicodeText
from gym_code.task import Suite, load_suite
from gym_code.tools import choose_tools, parse_call
from gym_code.types import Limits, Stop, ToolResult

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

    from gym_code.sandbox.base import Backend

_MOST_TURNS = 2**31 - 1

Observation = dict[str, Any]
Action = Mapping[str, Any]


class RepoEnv(gymnasium.Env[Observation, Action]):
    """Repair or build a repository, one tool call a step.

    kind: which tasks of the suite are played. suite: a reference for `load_suite`, or a suite. sandbox: a
    backend's name ("auto" takes the best there is), or a backend, which then stays the caller's. tools:
    names of the tools offered (None: all). limits: instead of each task's own. render_mode: "ansi" makes
    `render` return the transcript so far. Raises `TaskError`, `ConfigError` or `SandboxUnavailable`.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 (as Gymnasium has it)

    def __init__(
        self,
        kind: Literal["fix", "build"] = "fix",
        *,
        suite: str | Suite = "starter",
        sandbox: str | Backend = "auto",
        tools: Iterable[str] | None = None,
        limits: Limits | None = None,
        render_mode: str | None = None,
    ) -> None:
        if render_mode not in (None, "ansi"):
            raise ConfigError(
                "unknown render mode", where="render_mode", expected="None or 'ansi'", found=render_mode
            )
        self.kind, self.render_mode = kind, render_mode
        self.suite = load_suite(suite) if isinstance(suite, str) else suite
        self.tools = choose_tools(tools)
        self._limits = limits
        self._owned: Backend | None = None
        self.backend: Backend
        if isinstance(sandbox, str):
            from gym_code.sandbox import open_backend

            self.backend = self._owned = open_backend(sandbox)
        else:
            self.backend = sandbox
        self.episode: Episode | None = None
        """The episode in progress or just ended."""
        self._transcript: list[str] = []
        self._closed = False
        self._spec: EnvSpec | None = None
        self.action_space = ToolCallSpace(self.tools)
        self.observation_space = spaces.Dict(
            {
                "content": UnicodeText(),
                "instruction": UnicodeText(),
                "is_error": spaces.Discrete(2),
                "turns_left": spaces.Box(0, _MOST_TURNS, (), np.int64),
            }
        )

    @property
    def spec(self) -> EnvSpec | None:
        """How Gymnasium made this env: a recipe that can be copied, so it names a backend and holds none."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        if spec is not None and not isinstance(spec.kwargs.get("sandbox", ""), str):
            spec.kwargs = {**spec.kwargs, "sandbox": self.backend.name}
        self._spec = spec

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode on a task drawn with the seed, or on `options["task"]`; ends the last one.

        Raises `InputError` for unknown options, `TaskError` for a task that is not there or of another kind.
        """
        super().reset(seed=seed)
        options = options or {}
        if unknown := sorted(set(options) - {"task"}):
            raise InputError("unknown option", where="reset", expected="task", found=", ".join(unknown))
        task_id = options["task"] if "task" in options else self._draw()
        self._check_kind(task_id)
        if self.episode is not None:
            self.episode.close()
        self.episode = Episode(self.suite, task_id, self.backend, self._limits, tools=self.tools)
        if self._closed:  # by another thread, while the box was opened
            self.episode.close()
            raise SandboxClosed("the env was closed")
        task = self.episode.task
        self._transcript = [f"# {task.id}", task.instruction.rstrip()]
        info = {
            "task_id": task.id,
            "kind": task.kind,
            "repo": task.repo,
            "visible_tests": list(task.visible_tests),
        }
        return self._observation(self.episode, ToolResult(call_id="", content="")), info

    def step(self, action: Action) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out one tool call. Whatever is wrong with it is explained in the observation."""
        episode = self.episode
        if episode is None:
            raise gymnasium.error.ResetNeeded("call reset() before step()")
        if episode.stop is not None:
            raise gymnasium.error.ResetNeeded(f"the episode is over ({episode.stop.value}); call reset()")
        result = self._act(episode, action)
        reward, info = self._outcome(episode)
        stop = info["stop"]
        terminated, truncated = stop is Stop.SUBMITTED, stop not in (None, Stop.SUBMITTED)
        return self._observation(episode, result), reward, terminated, truncated, info

    def render(self) -> str | None:
        """The transcript of the episode so far, for `render_mode="ansi"`; None without a render mode."""
        return "\n".join(self._transcript) + "\n" if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Give back the box, and the backend where the env opened it. Idempotent; cancels a running step."""
        self._closed = True
        if self.episode is not None:
            self.episode.close()
        if self._owned is not None:
            self._owned.close()

    def _act(self, episode: Episode, action: object) -> ToolResult:
        fields = action if isinstance(action, Mapping) else {}
        name, arguments = fields.get("name"), fields.get("arguments")
        if isinstance(name, str) and isinstance(arguments, str):
            [result] = episode.act([parse_call(str(episode.turns + 1), name, arguments)])
        else:
            [result] = episode.act('an action must be {"name": text, "arguments": JSON text}.')
        self._transcript += [f"$ {name} {arguments}", result.content.rstrip("\n")]
        return result

    def _draw(self) -> str:
        """A task of the env's kind, drawn without loading more of the suite than needed."""
        ids = self.suite.ids()
        for index in self.np_random.permutation(len(ids)):
            if self.suite.task(ids[index]).kind == self.kind:
                return str(ids[index])
        raise TaskError(
            "the suite has no task of this kind", where=self.suite.name, expected=self.kind, found="none"
        )

    def _check_kind(self, task_id: str) -> None:
        kind = self.suite.task(task_id).kind
        if kind != self.kind:
            raise TaskError("the task is of another kind", where=task_id, expected=self.kind, found=kind)

    def _outcome(self, episode: Episode) -> tuple[float, dict[str, Any]]:
        """The step's reward and info; grades the episode where it is over."""
        stop = episode.stop
        info: dict[str, Any] = {"task_id": episode.task.id, "stop": stop, "reward_valid": True}
        if stop is None:
            return 0.0, info
        reward = episode.finish()
        self._transcript.append(f"# {episode.stop}: reward {reward.value}")
        info |= {
            "stop": episode.stop,
            "truncated_reason": None if episode.stop is Stop.SUBMITTED else episode.stop,
            "reward_valid": reward.value is not None,
            "reward_parts": dict(reward.parts),
            "patch": episode.patch,
            "error": episode.error,
        }
        if reward.verdict is not None:
            info |= {"resolved": reward.verdict.resolved, "flags": list(reward.verdict.flags)}
        return reward.value or 0.0, info

    def _observation(self, episode: Episode, result: ToolResult) -> Observation:
        return {
            "content": result.content,
            "instruction": episode.task.instruction,
            "is_error": int(result.is_error),
            "turns_left": np.array(episode.turns_left, dtype=np.int64),
        }
