"""`RepoFix-v0` and `RepoBuild-v0` are true Gymnasium envs over real boxes and the real grader."""

from __future__ import annotations

import json
import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from toys import ADD, LIMITS, NEW, ToySuite

import gym_code  # noqa: F401  (registers the ids)
from gym_code.errors import ConfigError, InputError, SandboxClosed, TaskError
from gym_code.sandbox import open_backend
from gym_code.types import Stop
from gym_code.vector import AsCompletedVectorEnv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gym_code.env import RepoEnv
    from gym_code.sandbox.base import Backend

pytestmark = pytest.mark.sandbox


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    backend = open_backend("namespace")
    yield backend
    backend.close()


def make(backend: Backend, env_id: str = "RepoFix-v0", **options: Any) -> gymnasium.Env[Any, Any]:
    return gymnasium.make(env_id, suite=options.pop("suite", ToySuite()), sandbox=backend, **options)


@pytest.fixture
def env(backend: Backend) -> Iterator[gymnasium.Env[Any, Any]]:
    env = make(backend, render_mode="ansi")
    yield env
    env.close()


def call(name: str, **arguments: object) -> dict[str, str]:
    return {"name": name, "arguments": json.dumps(arguments)}


SOLUTION = call(
    "edit", path="calc.py", old="def add(a, b):\n    return a - b", new="def add(a, b):\n    return a + b"
)


@pytest.mark.parametrize("env_id", ["RepoFix-v0", "RepoBuild-v0"])
def test_the_checker_has_nothing_to_say(backend: Backend, env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = make(backend, env_id)
        check_env(env.unwrapped)
        env.close()


def test_the_spec_is_a_recipe_that_can_be_copied(backend: Backend) -> None:
    env = make(backend)
    assert env.spec is not None
    assert env.spec.kwargs["sandbox"] == "namespace"
    env.close()


def test_an_episode_from_reset_to_reward(env: gymnasium.Env[Any, Any]) -> None:
    observation, info = env.reset(seed=0, options={"task": ADD.id})
    assert observation == {"content": "", "instruction": ADD.instruction, "is_error": 0, "turns_left": 10}
    assert info == {
        "task_id": ADD.id,
        "kind": "fix",
        "repo": "gym-code/toy",
        "visible_tests": list(ADD.pass_to_pass),
    }
    observation, reward, terminated, truncated, info = env.step(SOLUTION)
    assert (observation["content"], reward, terminated, truncated) == ("Edited calc.py.", 0.0, False, False)
    assert info == {"task_id": ADD.id, "stop": None, "reward_valid": True}
    observation, reward, terminated, truncated, info = env.step(call("submit"))
    assert (observation["content"], reward, terminated, truncated) == ("Submitted.", 1.0, True, False)
    assert (info["stop"], info["truncated_reason"], info["resolved"]) == (Stop.SUBMITTED, None, True)
    assert info["patch"].startswith(b"diff --git a/calc.py b/calc.py")
    with pytest.raises(gymnasium.error.ResetNeeded, match="the episode is over"):
        env.step(call("submit"))


@pytest.mark.parametrize("env_id", ["RepoFix-v0", "RepoBuild-v0"])
def test_by_default_the_starter_suite_is_played(env_id: str) -> None:
    env = gymnasium.make(env_id)
    _, info = env.reset(seed=0)
    assert info["kind"] == {"RepoFix-v0": "fix", "RepoBuild-v0": "build"}[env_id]
    observation, *_ = env.step(call("test"))
    assert observation["content"] == f"{len(info['visible_tests'])} passed, 0 failed"
    assert env.step(call("submit"))[1:4] == (0.0, True, False)
    env.close()


def test_ten_steps_of_sampled_actions_stay_in_the_spaces(env: gymnasium.Env[Any, Any]) -> None:
    env.action_space.seed(3)
    observation, _ = env.reset(seed=3)
    assert observation in env.observation_space
    for _ in range(10):
        action = env.action_space.sample()
        assert action in env.action_space
        observation, _, terminated, truncated, info = env.step(action)
        assert observation in env.observation_space
        if terminated or truncated:
            assert info["stop"] in (Stop.SUBMITTED, Stop.TURNS)
            env.reset()


def test_the_same_seed_draws_the_same_tasks(backend: Backend) -> None:
    def drawn(seed: int) -> list[str]:
        env = make(backend)
        first = env.reset(seed=seed)[1]["task_id"]
        rest = [env.reset()[1]["task_id"] for _ in range(5)]
        env.close()
        return [first, *rest]

    assert drawn(1) == drawn(1)
    assert {task for seed in range(3) for task in drawn(seed)} == {"toy__add-1", "toy__word-1"}


def test_the_kind_of_the_env_decides_which_tasks_it_plays(backend: Backend) -> None:
    env = make(backend, "RepoBuild-v0")
    assert env.reset(seed=0)[1]["task_id"] == NEW.id
    with pytest.raises(TaskError, match="expected build, found fix"):
        env.reset(options={"task": ADD.id})
    env.close()
    env = make(backend, "RepoBuild-v0", suite=ToySuite(ADD))
    with pytest.raises(TaskError, match="no task of this kind"):
        env.reset()
    env.close()


def test_options_that_are_wrong(env: gymnasium.Env[Any, Any], backend: Backend) -> None:
    with pytest.raises(InputError, match="expected task, found level"):
        env.reset(options={"level": 3})
    with pytest.raises(TaskError, match="found nowhere"):
        env.reset(options={"task": "nowhere"})
    with pytest.raises(ConfigError, match="unknown tool"):
        make(backend, tools=["fly"])


@pytest.mark.parametrize(
    ("limits", "reason"),
    [({"turns": 1}, Stop.TURNS), ({"episode_seconds": 0.0}, Stop.SECONDS)],
)
def test_a_limit_truncates_with_its_reason_and_grades(
    backend: Backend, limits: dict[str, Any], reason: Stop
) -> None:
    env = make(backend, limits=replace(LIMITS, **limits))
    env.reset(seed=0, options={"task": ADD.id})
    _, reward, terminated, truncated, info = env.step(SOLUTION)
    assert (terminated, truncated, info["truncated_reason"]) == (False, True, reason)
    # The turn was taken where a turn was left; there was no second for it in the other case.
    assert (reward, info["reward_valid"]) == (1.0 if reason is Stop.TURNS else 0.0, True)
    env.close()


def test_law_3_a_fault_of_ours_is_marked_and_not_a_reward(env: gymnasium.Env[Any, Any]) -> None:
    env.reset(seed=0)
    unwrapped: RepoEnv = env.unwrapped  # type: ignore[assignment]
    assert unwrapped.episode is not None
    unwrapped.episode.close()
    observation, reward, terminated, truncated, info = env.step(call("view", path="."))
    assert observation["is_error"] == 1
    assert (reward, terminated, truncated) == (0.0, False, True)
    assert (info["truncated_reason"], info["reward_valid"]) == (Stop.FAULT, False)
    assert "SandboxClosed" in info["error"]


def test_rendering(env: gymnasium.Env[Any, Any]) -> None:
    env.reset(seed=0, options={"task": ADD.id})
    env.step(call("view", path="calc.py", end=1))
    env.step({"name": "fly", "arguments": "{}"})
    env.step(call("submit"))
    assert env.render() == (
        "# toy__add-1\n`add` must return the sum of its arguments.\n"
        '$ view {"path": "calc.py", "end": 1}\ndef add(a, b):\n'
        "$ fly {}\nError: unknown tool 'fly'. The tools are: bash, view, edit, write, search, test, submit.\n"
        "$ submit {}\nSubmitted.\n# submitted: reward 0.0\n"
    )


@pytest.mark.parametrize(
    "action",
    [
        None,
        7,
        "submit",
        [],
        {},
        {"name": "view"},
        {"name": 3, "arguments": "{}"},
        {"name": "view", "arguments": {}},
    ],
)
def test_an_action_that_is_none_is_explained(env: gymnasium.Env[Any, Any], action: object) -> None:
    env.reset(seed=0)
    observation, *_ = env.unwrapped.step(action)
    assert observation["content"] == 'Error: an action must be {"name": text, "arguments": JSON text}.'


ODD = st.text(alphabet=st.characters(codec=None)) | st.sampled_from(
    ["\ud800", "\0", "../../etc/passwd", "/proc/1/mem"]
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(["view", "edit", "write", "search", "test", "submit"]) | ODD,
    arguments=ODD
    | st.dictionaries(st.sampled_from(["path", "old", "new", "content", "pattern"]), ODD).map(json.dumps),
)
def test_no_call_whatsoever_raises(backend: Backend, name: str, arguments: str) -> None:
    env = _SHARED.setdefault("env", make(backend, suite=ToySuite(limits=replace(LIMITS, turns=1000))))
    if not _SHARED.get("going"):
        env.reset(seed=0)
    observation, _, terminated, truncated, info = env.unwrapped.step({"name": name, "arguments": arguments})
    assert observation in env.observation_space
    assert info["reward_valid"]
    _SHARED["going"] = not (terminated or truncated)


_SHARED: dict[str, Any] = {}


def test_results_come_as_they_complete(backend: Backend) -> None:
    envs = AsCompletedVectorEnv([lambda: make(backend)] * 3, workers=3)
    for index in range(3):
        envs.send_reset(index, seed=index, options={"task": ADD.id})
    assert {envs.recv(timeout=60).env_index for _ in range(3)} == {0, 1, 2}
    envs.send(0, call("bash", command="sleep 2; echo slow"))
    with pytest.raises(InputError, match="the env is busy"):
        envs.send(0, call("submit"))
    for index in (1, 2):
        envs.send(index, call("bash", command="echo fast"))
    order = [envs.recv(timeout=60) for _ in range(3)]
    assert [done.observation["content"] for done in order] == ["fast\n", "fast\n", "slow\n"]
    assert order[2].env_index == 0
    with pytest.raises(InputError, match="nothing is in flight"):
        envs.recv()
    envs.send(1, call("bash", command="sleep 60"))
    with pytest.raises(TimeoutError):
        envs.recv(timeout=0.1)
    before = time.monotonic()
    envs.close()
    assert time.monotonic() - before < 10
    with pytest.raises(SandboxClosed):
        envs.send(0, call("submit"))


def test_lockstep_calls_of_the_vector_env(backend: Backend) -> None:
    envs = AsCompletedVectorEnv([lambda: make(backend, suite=ToySuite(ADD))] * 2)
    observations, infos = envs.reset(seed=4)
    assert observations["instruction"] == (ADD.instruction, ADD.instruction)
    assert infos["task_id"].tolist() == [ADD.id, ADD.id]
    assert envs.step((SOLUTION, call("view", path=".")))[1].tolist() == [0.0, 0.0]
    observations, rewards, terminated, truncated, _ = envs.step((call("submit"), call("submit")))
    assert observations["content"] == ("Submitted.", "Submitted.")
    assert (rewards.tolist(), terminated.tolist(), truncated.tolist()) == (
        [1.0, 0.0],
        [True, True],
        [False, False],
    )
    observations, _ = envs.reset(options={"reset_mask": np.array([True, False])})
    assert observations["turns_left"].tolist() == [10, 0]
    envs.close()


def test_an_error_in_an_env_is_raised_with_its_number(backend: Backend) -> None:
    envs = AsCompletedVectorEnv([lambda: make(backend)] * 2)
    envs.send_reset(1, options={"task": "nowhere"})
    with pytest.raises(TaskError) as caught:
        envs.recv(timeout=60)
    assert caught.value.__notes__ == ["raised by env 1"]
    envs.close()


def test_a_closed_env_opens_no_box(backend: Backend) -> None:
    env = make(backend)
    env.close()
    env.close()
    with pytest.raises(SandboxClosed):
        env.reset()
