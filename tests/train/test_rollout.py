"""Rollouts in real boxes with the real grader; only the sampling of tokens is scripted."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import pytest
from tokenizers import Tokenizer

from agents.chat import ChatFormat
from gym_code.errors import SandboxError
from gym_code.sandbox import Backend, BoxSpec, Sandbox, open_backend
from gym_code.synth.families import BY_NAME
from gym_code.synth.procedural import STUB, ProceduralSuite, repository
from gym_code.types import Completion, Stop, ToolCall
from train.config import load_config
from train.demos import demonstrate, script
from train.engine.base import Dropped, Request, Sampling
from train.grpo import learn_from, orders_for
from train.rollout import Order, Roller
from train.tokenizer import build_tokenizer

pytestmark = pytest.mark.sandbox

TASK = "procedural__at_most-l2-f1-train-5"


@pytest.fixture(scope="module")
def chat() -> ChatFormat:
    tokenizer: Tokenizer = build_tokenizer(["def f(value, stop):\n    return min(value, stop)\n"] * 20, 400)
    return ChatFormat(tokenizer)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    made = open_backend("namespace")
    yield made
    made.close()


class Scripted:
    """Says what `lines(sample_id)` lists, turn by turn."""

    def __init__(self, chat: ChatFormat, lines: Callable[[str], list[ToolCall]]) -> None:
        self.chat, self.lines = chat, lines
        self.turn: dict[str, int] = {}

    def release(self) -> None:
        self.turn.clear()

    def set_version(self, version: int) -> None:
        pass

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion]:
        made = []
        for request in requests:
            turn = self.turn.get(request.key, 0)
            self.turn[request.key] = turn + 1
            ids = self.chat.assistant([self.lines(request.key)[turn]])
            made.append(
                Completion(token_ids=tuple(ids), logprobs=(-0.5,) * len(ids), text="", finish_reason="stop")
            )
        return made


def calls(body: str) -> list[ToolCall]:
    [path] = repository(TASK).missing
    return [
        ToolCall(id="1", name="view", arguments={"path": path}),
        ToolCall(id="2", name="edit", arguments={"path": path, "old": STUB, "new": body}),
        ToolCall(id="3", name="submit", arguments={}),
    ]


def roller(backend: Backend, chat: ChatFormat, turns: int = 6) -> Roller:
    return Roller(ProceduralSuite(), backend, chat, turns=turns, max_length=900, workers=4)


def order(number: int, task_id: str = TASK) -> Order:
    return Order(task_id=task_id, group_id="g", sample_id=f"g/{number}", seed=number)


def test_a_group_is_rewarded_by_its_hidden_tests(chat: ChatFormat, backend: Backend) -> None:
    [function] = repository(TASK).missing.values()
    bodies = {"g/0": f"return {function.right}", "g/1": f"return {function.wrong}", "g/2": "return None"}
    with roller(backend, chat) as rolls:
        made = rolls.play(
            [order(n) for n in range(3)], Scripted(chat, lambda key: calls(bodies[key])), Sampling()
        )
    assert [t.reward.value for t in made if t.reward] == [1.0, 0.0, 0.0]
    assert [t.stop for t in made] == [Stop.SUBMITTED] * 3
    assert [len(t.turns) for t in made] == [3, 3, 3]
    assert function.right.encode() in made[0].patch


def test_law_2_the_trained_tokens_are_the_sampled_ones(chat: ChatFormat, backend: Backend) -> None:
    config = load_config("tiny", {"groups": 1, "group_size": 2})
    [function] = repository(TASK).missing.values()
    bodies = {"g/0": f"return {function.right}", "g/1": "return 0"}
    with roller(backend, chat) as rolls:
        made = rolls.play([order(0), order(1)], Scripted(chat, lambda key: calls(bodies[key])), Sampling())
    segments, advantages = learn_from(made, config, 0)
    assert advantages == [1.0, -1.0]
    assert len(segments) == 2
    for trajectory, segment in zip(made, segments, strict=True):
        said = [t for turn in trajectory.turns if turn.completion for t in turn.completion.token_ids]
        marked = [t for t, m in zip(segment.token_ids_T, segment.action_mask_T, strict=True) if m]
        assert marked == said


def test_what_the_demonstrator_is_shown_is_what_the_tools_say(chat: ChatFormat, backend: Backend) -> None:
    rng = random.Random(1)
    for number, family in enumerate(("with_item", "gap", "lookup", "unique")):
        task_id = f"procedural__{family}-l3-f1-train-{number}"
        made = repository(task_id)
        [(path, function)] = made.missing.items()
        steps = script(path, function, made.start[path].content.decode(), rng)
        while not any(call.name == "test" for call, _ in steps):
            steps = script(path, function, made.start[path].content.decode(), rng)
        with roller(backend, chat) as rolls:
            [played] = rolls.play(
                [order(0, task_id)], Scripted(chat, lambda _, s=steps: [c for c, _ in s]), Sampling()
            )
        seen = [result.content for turn in played.turns for result in turn.results]
        assert seen[:-1] == [observation for _, observation in steps][:-1]


def test_a_demonstration_is_tokenised_as_an_episode_is(chat: ChatFormat, backend: Backend) -> None:
    task_id = "procedural__gap-l1-f1-train-4"
    shown = demonstrate(task_id, chat, random.Random(3))
    made = repository(task_id)
    [(path, function)] = made.missing.items()
    steps = script(path, function, made.start[path].content.decode(), random.Random(3))
    with roller(backend, chat) as rolls:
        [played] = rolls.play(
            [order(0, task_id)], Scripted(chat, lambda _: [c for c, _ in steps]), Sampling()
        )
    last = played.turns[-1]
    assert last.completion is not None
    assert shown.token_ids == last.prompt_token_ids + last.completion.token_ids


def test_a_policy_that_never_submits_is_cut_off_and_graded_as_it_stands(
    chat: ChatFormat, backend: Backend
) -> None:
    [function] = repository(TASK).missing.values()
    lines = [*calls(f"return {function.right}")[:2], *calls("")[:1] * 3]
    with roller(backend, chat, turns=4) as rolls:
        [made] = rolls.play([order(0)], Scripted(chat, lambda _: lines), Sampling())
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


def test_law_3_a_box_that_does_not_open_is_no_zero(chat: ChatFormat, backend: Backend) -> None:
    [function] = repository(TASK).missing.values()
    engine = Scripted(chat, lambda _: calls(f"return {function.right}"))
    rolls = Roller(ProceduralSuite(), _Failing(backend), chat, turns=6, max_length=900, workers=1)  # type: ignore[arg-type]
    with rolls:
        made = rolls.play([order(n) for n in range(3)], engine, Sampling())
    assert [t.reward.value for t in made if t.reward] == [1.0, None, 1.0]
    assert made[1].stop is Stop.FAULT
    assert made[1].error == "SandboxError: no room"
    config = load_config("tiny", {"groups": 1, "group_size": 3})
    assert learn_from(made, config, 0)[1] == [0.0, 0.0, 0.0]


class Losing(Scripted):
    """Loses the second completion of one sample."""

    def generate(self, requests: Sequence[Request], sampling: Sampling) -> list[Completion | Dropped]:  # type: ignore[override]
        made: list[Completion | Dropped] = [*super().generate(requests, sampling)]
        for number, request in enumerate(requests):
            if request.key == "g/1" and self.turn[request.key] == 2:
                made[number] = Dropped(reason="a logprob is missing or no number")
        return made


def test_law_3_a_dropped_completion_is_no_zero(chat: ChatFormat, backend: Backend) -> None:
    [function] = repository(TASK).missing.values()
    bodies = {"g/0": f"return {function.right}", "g/1": "return 0", "g/2": "return 0"}
    with roller(backend, chat) as rolls:
        made = rolls.play(
            [order(n) for n in range(3)], Losing(chat, lambda key: calls(bodies[key])), Sampling()
        )
    assert [t.reward.value for t in made if t.reward] == [1.0, None, 0.0]
    assert made[1].stop is Stop.FAULT
    assert made[1].error == "completion dropped: a logprob is missing or no number"
    assert len(made[1].turns) == 1
    config = load_config("tiny", {"groups": 1, "group_size": 3})
    assert learn_from(made, config, 0)[1] == [1.0, 0.0, -1.0]


def test_law_3_a_batch_that_cannot_be_graded_at_all_stops_the_run(
    chat: ChatFormat, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(spec: BoxSpec) -> Sandbox:
        raise SandboxError("the keeper is gone")

    monkeypatch.setattr(backend, "open", refuse)
    engine = Scripted(chat, lambda _: calls("return 0"))
    with (
        roller(backend, chat) as rolls,
        pytest.raises(SandboxError, match=r"none of 2 episodes could be graded; .* the keeper is gone"),
    ):
        rolls.play([order(0), order(1)], engine, Sampling())


def test_orders_are_a_function_of_seed_and_step() -> None:
    config = load_config("tiny", {})
    assert orders_for(config, 3) == orders_for(config, 3)
    ids = {o.task_id for o in orders_for(config, 3)}
    assert not ids & {o.task_id for o in orders_for(config, 4)}
    assert not ids & {o.task_id for o in orders_for(replace(config, seed=1), 3)}
    assert all(
        o.task_id.split("__")[1].split("-")[0] not in config.held_out_families for o in orders_for(config, 3)
    )
    trained = [name for name in BY_NAME if name not in config.held_out_families]
    assert {i.split("__")[1].split("-")[0] for i in ids} == set(trained)
