"""Many envs on a sized executor, their results taken as they complete: a slow test run holds up no other env.

    envs = AsCompletedVectorEnv([make] * 8, workers=4)
    for i in range(8):
        envs.send_reset(i, seed=i)
    while playing:
        done = envs.recv()
        envs.send(done.env_index, policy(done.observation))

`reset` and `step` are the lockstep calls of `gymnasium.vector.VectorEnv`, for callers that want those;
autoreset is disabled, so an env that ended must be reset (`options={"reset_mask": ...}`) before it is
stepped.
"""

from __future__ import annotations

import queue
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, iterate

from gym_code.errors import InputError, SandboxClosed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import gymnasium


class Completed(NamedTuple):
    """What one env's `step` returned, or its `reset` (then with reward 0.0 and neither end)."""

    env_index: int
    observation: Any
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]


class AsCompletedVectorEnv(VectorEnv[Any, Any, Any]):
    """Envs that step side by side on threads; each has at most one call in flight.

    env_fns: one callable for each env. Share one backend among them. workers: most calls that run at a time
    (default: one for each env). Call its methods from one thread.
    """

    def __init__(
        self, env_fns: Sequence[Callable[[], gymnasium.Env[Any, Any]]], *, workers: int | None = None
    ) -> None:
        self.envs = [make() for make in env_fns]
        self.num_envs = len(self.envs)
        self.metadata = {**self.envs[0].metadata, "autoreset_mode": AutoresetMode.DISABLED}
        self.render_mode = self.envs[0].render_mode
        self.single_observation_space = self.envs[0].observation_space
        self.single_action_space = self.envs[0].action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._executor = ThreadPoolExecutor(workers or self.num_envs, thread_name_prefix="env")
        self._done: queue.SimpleQueue[tuple[int, Future[Completed]]] = queue.SimpleQueue()
        self._in_flight: set[int] = set()
        self._latest: list[Any] = [None] * self.num_envs

    def send(self, index: int, action: Any) -> None:
        """Start a step of one env. Raises `InputError` when that env still has a call in flight."""
        self._start(index, lambda: Completed(index, *self._step(index, action)))

    def send_reset(
        self, index: int, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> None:
        """Start a reset of one env. Raises `InputError` when that env still has a call in flight."""

        def call() -> Completed:
            observation, info = self.envs[index].reset(seed=seed, options=options)
            return Completed(index, observation, 0.0, False, False, info)

        self._start(index, call)

    def recv(self, timeout: float | None = None) -> Completed:
        """The next call to complete, of whichever env; what the env raised is raised here, with its index.

        Raises `TimeoutError` after `timeout` seconds and `InputError` when nothing is in flight.
        """
        if not self._in_flight:
            raise InputError("nothing is in flight", where="recv", expected="a send before", found="none")
        try:
            index, future = self._done.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no env completed within {timeout} seconds") from None
        self._in_flight.discard(index)
        if (error := future.exception()) is not None:
            error.add_note(f"raised by env {index}")
            raise error
        self._latest[index] = future.result().observation
        return future.result()

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all envs side by side (an int seeds env i with seed + i), or those of the `reset_mask`."""
        options = dict(options or {})
        mask = options.pop("reset_mask", np.ones(self.num_envs, dtype=np.bool_))
        if seed is None or isinstance(seed, int):
            seeds = [None if seed is None else seed + i for i in range(self.num_envs)]
        else:
            seeds = list(seed)
        chosen = np.flatnonzero(mask).tolist()
        for i in chosen:
            self.send_reset(i, seed=seeds[i], options=options)
        infos = self._gather(len(chosen))[3]
        return self._batch(), infos

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all envs side by side and wait for the last."""
        for i, action in enumerate(iterate(self.action_space, actions)):
            self.send(i, action)
        rewards, terminated, truncated, infos = self._gather(self.num_envs)
        return self._batch(), rewards, terminated, truncated, infos

    def close_extras(self, **kwargs: Any) -> None:
        """Cancel what waits, break off what runs by closing its box, and end the threads."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        for env in self.envs:
            env.close()
        self._executor.shutdown(wait=True)
        self._in_flight.clear()

    def _step(self, index: int, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = self.envs[index].step(action)
        return observation, float(reward), terminated, truncated, info

    def _start(self, index: int, call: Callable[[], Completed]) -> None:
        if self.closed:
            raise SandboxClosed("the vector env was closed")
        if index in self._in_flight:
            raise InputError(
                "the env is busy", where=f"env {index}", expected="recv before", found="a call in flight"
            )
        self._in_flight.add(index)
        future = self._executor.submit(call)
        future.add_done_callback(lambda done: self._done.put((index, done)))

    def _gather(self, count: int) -> tuple[Any, Any, Any, dict[str, Any]]:
        rewards = np.zeros(self.num_envs)
        terminated, truncated = np.zeros(self.num_envs, np.bool_), np.zeros(self.num_envs, np.bool_)
        infos: dict[str, Any] = {}
        for _ in range(count):
            done = self.recv()
            rewards[done.env_index] = done.reward
            terminated[done.env_index], truncated[done.env_index] = done.terminated, done.truncated
            infos = self._add_info(infos, done.info, done.env_index)
        return rewards, terminated, truncated, infos

    def _batch(self) -> Any:
        space = self.single_observation_space
        empty: Any = create_empty_array(space, self.num_envs)
        return concatenate(space, self._latest, empty)
