"""Rollouts in real boxes with the real grader; only the sampling of tokens is scripted."""

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from tokenizers import Tokenizer

from agents.chat import TinyChat
from gym_code.errors import SandboxError
from gym_code.sandbox import Backend, BoxSpec, Sandbox, open_backend
from gym_code.synth.procedural import STUB, ProceduralSuite, repository
from gym_code.types import Completion, Stop, Task, ToolCall, Trajectory
from train.config import load_config
from train.curriculum import Draw
from train.demos import demonstrate, script
from train.engine.base import Dropped, Engine, Request, Sampling
from train.groups import Group
from train.grpo import learn_from
from train.rollout import Bounds, Order, Roller, insist_on_grades
from train.tokenizer import build_tokenizer

pytestmark = pytest.mark.sandbox

TASK = "procedural__at_most-l2-f1-train-5"


@pytest.fixture(scope="module")
def chat() -> TinyChat:
    tokenizer: Tokenizer = build_tokenizer(["def f(value, stop):\n    return min(value, stop)\n"] * 20, 400)
    return TinyChat(tokenizer)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    made = open_backend("namespace")
    yield made
    made.close()


class Scripted:
    """Says what `lines(sample_id)` lists, turn by turn; what is `slow` takes so many seconds to say."""

    concurrent = True

    def __init__(
        self,
        chat: TinyChat,
        lines: Callable[[str], list[ToolCall]],
        slow: Mapping[str, float] | None = None,
    ) -> None:
        self.chat, self.lines, self.slow = chat, lines, slow or {}
        self.turn: dict[str, int] = {}
        self.due: dict[str, float] = {}
        self.woken = threading.Event()

    def submit(self, request: Request, sampling: Sampling) -> None:
        assert request.key not in self.due
        self.due[request.key] = time.monotonic() + self.slow.get(request.key, 0.0)

    def collect(self, timeout: float | None = None) -> list[tuple[str, Completion | Dropped]]:
        end = time.monotonic() + (60.0 if timeout is None else timeout)
        while self.due and not self.woken.is_set() and time.monotonic() < end:
            if ready := [key for key, due in self.due.items() if due <= time.monotonic()]:
                return [(key, self.say(key)) for key in ready if self.due.pop(key)]
            self.woken.wait(0.005)
        self.woken.clear()
        return []

    def say(self, key: str) -> Completion | Dropped:
        turn = self.turn.get(key, 0)
        self.turn[key] = turn + 1
        ids = self.chat.assistant([self.lines(key)[turn]])
        return Completion(token_ids=tuple(ids), logprobs=(-0.5,) * len(ids), text="", finish_reason="stop")

    def wake(self) -> None:
        self.woken.set()

    def forget(self, key: str) -> None:
        self.due.pop(key, None)

    def set_version(self, version: int) -> None:
        pass

    def take_metrics(self) -> dict[str, float]:
        return {}

    def close(self) -> None:
        pass


def calls(body: str) -> list[ToolCall]:
    [path] = repository(TASK).missing
    return [
        ToolCall(id="1", name="view", arguments={"path": path}),
        ToolCall(id="2", name="edit", arguments={"path": path, "old": STUB, "new": body}),
        ToolCall(id="3", name="submit", arguments={}),
    ]


def roller(
    backend: Backend, chat: TinyChat, engine: Engine, turns: int = 6, workers: int = 4, **options: Any
) -> Roller:
    bounds = {
        "wait_seconds": options.pop("wait_seconds", 0.0),
        "tool_seconds": options.pop("tool_seconds", 0),
    }
    return Roller(
        backend,
        chat,
        engine,
        Bounds(turns=turns, max_length=900, **bounds),
        workers=workers,
        seats=8,
        **options,
    )


def order(number: int, task_id: str = TASK) -> Order:
    return Order(
        suite=ProceduralSuite(),
        task_id=task_id,
        group_id="g",
        sample_id=f"g/{number}",
        seed=number,
        sampling=Sampling(),
    )


def group(trajectories: Sequence[Trajectory]) -> list[Group]:
    draw = Draw(number=0, suite=ProceduralSuite(), task_id=TASK, unit="at_most")
    return [Group(draw=draw, trajectories=tuple(trajectories), version=0)]


def test_a_group_is_rewarded_by_its_hidden_tests(chat: TinyChat, backend: Backend) -> None:
    [function] = repository(TASK).missing.values()
    bodies = {"g/0": f"return {function.right}", "g/1": f"return {function.wrong}", "g/2": "return None"}
    with roller(backend, chat, Scripted(chat, lambda key: calls(bodies[key]))) as rolls:
        made = rolls.play([order(n) for n in range(3)])
    assert [t.reward.value for t in made if t.reward] == [1.0, 0.0, 0.0]
    assert [t.stop for t in made] == [Stop.SUBMITTED] * 3
    assert [len(t.turns) for t in made] == [3, 3, 3]
    assert function.right.encode() in made[0].patch


def test_law_2_the_trained_tokens_are_the_sampled_ones(chat: TinyChat, backend: Backend) -> None:
    config = load_config("tiny", {"groups": 1, "group_size": 2})
    [function] = repository(TASK).missing.values()
    bodies = {"g/0": f"return {function.right}", "g/1": "return 0"}
    with roller(backend, chat, Scripted(chat, lambda key: calls(bodies[key]))) as rolls:
        made = rolls.play([order(0), order(1)])
    segments, advantages = learn_from(group(made), config, 0)
    assert advantages == [1.0, -1.0]
    assert len(segments) == 2
    for trajectory, segment in zip(made, segments, strict=True):
        said = [t for turn in trajectory.turns if turn.completion for t in turn.completion.token_ids]
        marked = [t for t, m in zip(segment.token_ids_T, segment.action_mask_T, strict=True) if m]
        assert marked == said


def test_what_the_demonstrator_is_shown_is_what_the_tools_say(chat: TinyChat, backend: Backend) -> None:
    rng = random.Random(1)
    for number, family in enumerate(("with_item", "gap", "lookup", "unique")):
        task_id = f"procedural__{family}-l3-f1-train-{number}"
        made = repository(task_id)
        [(path, function)] = made.missing.items()
        steps = script(path, function, made.start[path].content.decode(), rng)
        while not any(call.name == "test" for call, _ in steps):
            steps = script(path, function, made.start[path].content.decode(), rng)
        with roller(backend, chat, Scripted(chat, lambda _, s=steps: [c for c, _ in s])) as rolls:  # type: ignore[misc]
            [played] = rolls.play([order(0, task_id)])
        seen = [result.content for turn in played.turns for result in turn.results]
        assert seen[:-1] == [observation for _, observation in steps][:-1]


def test_a_demonstration_is_tokenised_as_an_episode_is(chat: TinyChat, backend: Backend) -> None:
    task_id = "procedural__gap-l1-f1-train-4"
    shown = demonstrate(task_id, chat, random.Random(3))
    made = repository(task_id)
    [(path, function)] = made.missing.items()
    steps = script(path, function, made.start[path].content.decode(), random.Random(3))
    with roller(backend, chat, Scripted(chat, lambda _: [c for c, _ in steps])) as rolls:
        [played] = rolls.play([order(0, task_id)])
    last = played.turns[-1]
    assert last.completion is not None
    assert shown.token_ids == last.prompt_token_ids + last.completion.token_ids


def test_a_policy_that_never_submits_is_cut_off_and_graded_as_it_stands(
    chat: TinyChat, backend: Backend
) -> None:
    [function] = repository(TASK).missing.values()
    lines = [*calls(f"return {function.right}")[:2], *calls("")[:1] * 3]
    with roller(backend, chat, Scripted(chat, lambda _: lines), turns=4) as rolls:
        [made] = rolls.play([order(0)])
    assert made.stop is Stop.TURNS
    assert made.reward is not None
    assert made.reward.value == 1.0


class _Failing:
    """A backend whose second box never opens: the fault is injected, the rest is real."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self.opened, self.name = backend, 0, backend.name

    def open(self, spec: BoxSpec) -> Sandbox:
        self.opened += 1
        if self.opened == 2:
            raise SandboxError("no room")
        return self._backend.open(spec)

    def __getattr__(self, name: str) -> object:
        return getattr(self._backend, name)


def test_law_3_a_box_that_does_not_open_is_no_zero(chat: TinyChat, backend: Backend) -> None:
    [function] = repository(TASK).missing.values()
    engine = Scripted(chat, lambda _: calls(f"return {function.right}"))
    with roller(_Failing(backend), chat, engine, workers=1) as rolls:  # type: ignore[arg-type]
        made = rolls.play([order(n) for n in range(3)])
    assert [t.reward.value for t in made if t.reward] == [1.0, None, 1.0]
    assert made[1].stop is Stop.FAULT
    assert made[1].error == "SandboxError: no room"
    config = load_config("tiny", {"groups": 1, "group_size": 3})
    assert learn_from(group(made), config, 0)[1] == [0.0, 0.0, 0.0]


class Losing(Scripted):
    """Loses the second completion of one sample."""

    def say(self, key: str) -> Completion | Dropped:
        made = super().say(key)
        lost = key == "g/1" and self.turn[key] == 2
        return Dropped(reason="a logprob is missing or no number") if lost else made


def test_law_3_a_dropped_completion_is_no_zero(chat: TinyChat, backend: Backend) -> None:
    [function] = repository(TASK).missing.values()
    bodies = {"g/0": f"return {function.right}", "g/1": "return 0", "g/2": "return 0"}
    with roller(backend, chat, Losing(chat, lambda key: calls(bodies[key]))) as rolls:
        made = rolls.play([order(n) for n in range(3)])
    assert [t.reward.value for t in made if t.reward] == [1.0, None, 0.0]
    assert made[1].stop is Stop.FAULT
    assert made[1].error == "completion dropped: a logprob is missing or no number"
    assert len(made[1].turns) == 1
    config = load_config("tiny", {"groups": 1, "group_size": 3})
    assert learn_from(group(made), config, 0)[1] == [1.0, 0.0, -1.0]


def test_law_3_a_batch_that_cannot_be_graded_at_all_stops_the_run(
    chat: TinyChat, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(spec: BoxSpec) -> Sandbox:
        raise SandboxError("the keeper is gone")

    monkeypatch.setattr(backend, "open", refuse)
    engine = Scripted(chat, lambda _: calls("return 0"))
    with roller(backend, chat, engine) as rolls:
        made = rolls.play([order(0), order(1)])
    with pytest.raises(SandboxError, match=r"none of 2 episodes could be graded; .* the keeper is gone"):
        insist_on_grades(made)


def test_law_3_waiting_for_completions_is_our_fault_and_no_time_of_the_agents(
    chat: TinyChat, backend: Backend
) -> None:
    [function] = repository(TASK).missing.values()
    engine = Scripted(chat, lambda _: calls(f"return {function.right}"), slow={"g/0": 1.5, "g/1": 60.0})
    # Three turns of 1.5 s sampling: more than the tools may take, less than an episode may wait.
    with roller(backend, chat, engine, tool_seconds=4.0, wait_seconds=8.0) as rolls:
        made = rolls.play([order(0), order(1), order(2)])
    assert [t.reward.value for t in made if t.reward] == [1.0, None, 1.0]
    assert made[0].stop is Stop.SUBMITTED
    assert made[1].stop is Stop.FAULT
    assert made[1].error == "waited 8 s for completions"
    assert engine.due == {}


def test_the_tools_time_ends_an_episode_which_is_graded(chat: TinyChat, backend: Backend) -> None:
    sleeping = ToolCall(id="1", name="bash", arguments={"command": "sleep 30"})
    engine = Scripted(chat, lambda _: [sleeping] * 6)
    with roller(backend, chat, engine, tool_seconds=1.0) as rolls:
        [made] = rolls.play([order(0)])
    assert made.stop is Stop.SECONDS
    assert made.reward is not None
    assert made.reward.value == 0.0


def test_the_turn_that_uses_up_the_tokens_is_carried_out(chat: TinyChat, backend: Backend) -> None:
    class Short(ProceduralSuite):
        def task(self, task_id: str) -> Task:
            made = super().task(task_id)
            return replace(made, limits=replace(made.limits, tokens=1))

    with roller(backend, chat, Scripted(chat, lambda _: calls("return 0"))) as rolls:
        [made] = rolls.play([replace(order(0), suite=Short())])
    assert made.stop is Stop.TOKENS
    assert [len(turn.results) for turn in made.turns] == [1]


def test_no_episode_waits_for_another(chat: TinyChat, backend: Backend) -> None:
    sleeping = ToolCall(id="1", name="bash", arguments={"command": "sleep 2"})
    done = calls("return 0")[2]
    lines = {"g/0": [sleeping, sleeping, done], "g/1": [sleeping, done], "g/2": [done]}
    engine = Scripted(chat, lambda key: lines[key])
    with roller(backend, chat, engine) as rolls:
        for number in range(3):
            rolls.start(order(number))
        came = []
        while finished := rolls.advance():
            came += [o.sample_id for o, _ in finished]
    assert came == ["g/2", "g/1", "g/0"]


def test_tools_that_wait_hold_up_nobody(chat: TinyChat, backend: Backend) -> None:
    sleeping = ToolCall(id="1", name="bash", arguments={"command": "sleep 3"})
    engine = Scripted(chat, lambda _: [sleeping, calls("return 0")[2]])
    began = time.monotonic()
    with roller(backend, chat, engine, workers=1) as rolls:
        made = rolls.play([order(n) for n in range(6)])
    assert time.monotonic() - began < 12.0, "one after the other they would take 18 s"
    assert [t.stop for t in made] == [Stop.SUBMITTED] * 6


def test_law_11_in_lockstep_the_engine_is_asked_in_order_whatever_the_boxes_do(
    chat: TinyChat, backend: Backend
) -> None:
    rng = random.Random(5)
    naps = [
        ToolCall(id="1", name="bash", arguments={"command": f"sleep {rng.random() / 4}"}) for _ in range(9)
    ]
    done = calls("return 0")[2]
    lines = {f"g/{n}": [*naps[n : n + 1 + n % 3], done] for n in range(6)}
    asked: list[str] = []

    class Noting(Scripted):
        def submit(self, request: Request, sampling: Sampling) -> None:
            asked.append(request.key)
            super().submit(request, sampling)

    with roller(backend, chat, Noting(chat, lambda key: lines[key]), lockstep=True) as rolls:
        rolls.play([order(n) for n in range(6)])
    turns = [[f"g/{n}" for n in range(6) if len(lines[f"g/{n}"]) > turn] for turn in range(4)]
    assert asked == [key for turn in turns for key in turn]


def test_a_stopped_roller_returns_at_once_and_leaves_no_box(chat: TinyChat, backend: Backend) -> None:
    sleeping = ToolCall(id="1", name="bash", arguments={"command": "sleep 30"})
    lines = {"g/0": [sleeping] * 6, "g/1": [sleeping] * 6}
    with roller(backend, chat, Scripted(chat, lambda key: lines[key], slow={"g/1": 30.0})) as rolls:
        for number in range(2):
            rolls.start(order(number))
        threading.Timer(2.0, rolls.stop).start()
        began = time.monotonic()
        assert rolls.advance() == []
    assert time.monotonic() - began < 15
