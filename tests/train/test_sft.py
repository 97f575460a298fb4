"""Supervised steps: the loss, what is chosen to learn from, and what a warm start does to the tiny base."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from agents.chat import Chat, load_chat
from agents.loop import play
from agents.scripted import NoOp
from gym_code.episode import Episode
from gym_code.errors import ConfigError
from gym_code.records import append
from gym_code.sandbox import Backend, open_backend
from gym_code.synth.families import BY_NAME
from gym_code.synth.procedural import ProceduralSuite
from gym_code.task import load_suite
from gym_code.types import Completion, Reward, Segment, Stop, ToolCall, Trajectory, Turn
from tests.train.small_model import batch, sharp_policy
from train.config import Config, load_config
from train.curriculum import Curriculum, reference
from train.distributed import Ranks
from train.logprob import token_logprobs
from train.model import load_base, with_adapter
from train.sft import chosen, fit, rejection_step, warm_start
from train.solutions import Demonstrator, demonstrated_segments, demonstrations, segments_from

STARTER = load_suite("starter")


def ranks_of(model: Any, rate: float = 0.0) -> Ranks:
    ranks = Ranks()
    ranks.hold(model, torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=rate))
    return ranks


def weights(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize(
    "options",
    [
        {"pack_length": 0, "shared_prefix": False},
        {"pack_length": 64, "shared_prefix": False, "forward_tokens": 100},
        {"pack_length": 64, "shared_prefix": True},
    ],
)
def test_the_loss_and_its_gradient_are_those_of_cross_entropy_with_labels(options: dict[str, Any]) -> None:
    config = load_config("tiny", options | {"max_grad_norm": 1e9})
    model = sharp_policy()
    segments = batch(model, count=8)
    row = ranks_of(model).run(fit, segments, config, 0.0)
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])

    plain = sharp_policy()
    width = max(len(segment.token_ids_T) for segment in segments)
    ids, labels, attend = (torch.full((8, width), value) for value in (0, -100, 0))
    for n, segment in enumerate(segments):
        tokens, mask = torch.tensor(segment.token_ids_T), torch.tensor(segment.action_mask_T)
        ids[n, : len(tokens)], attend[n, : len(tokens)] = tokens, 1
        labels[n, : len(tokens)] = torch.where(mask == 1, tokens, -100)
    loss = plain(input_ids=ids, attention_mask=attend, labels=labels).loss
    loss.backward()
    expected = torch.cat([p.grad.flatten() for p in plain.parameters() if p.requires_grad])
    assert row["sft_loss"] == pytest.approx(float(loss.detach()), abs=1e-6)
    assert row["sft_grad_norm"] == pytest.approx(float(expected.norm()), rel=1e-5)
    assert float((gradients - expected).abs().max()) <= 1e-5 * float(expected.abs().max())


class Share(Ranks):
    """One of several ranks that never meet: what it would add to the others' gradients stays its own."""

    def add(self, tensors: Sequence[torch.Tensor]) -> None:
        pass

    def gather(self, rows: list[Any]) -> list[Any]:
        return rows


def test_the_gradients_of_the_ranks_add_up_to_those_of_one() -> None:
    config = load_config("tiny", {"forward_tokens": 40, "pack_length": 64, "max_grad_norm": 1e9})
    gradients, losses = [], []
    for ranks in (Ranks(), Share(0, 2), Share(1, 2)):
        model = sharp_policy()
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.0)
        losses.append(fit(model, optimizer, batch(model, count=5), config, 0.0, ranks=ranks)["sft_loss"])
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad]))
    alone, first, second = gradients
    assert float((first + second - alone).abs().max()) <= 1e-6 * float(alone.abs().max())
    assert losses[1] + losses[2] == pytest.approx(losses[0], abs=1e-6)
    assert losses[1] > 0
    assert losses[2] > 0


def test_a_warm_start_shows_each_segment_once_before_any_twice() -> None:
    config = load_config("tiny", {"warm_start_steps": 3, "warm_start_batch": 4, "warm_start": "oracle"})
    model = sharp_policy()
    segments = batch(model, count=6)
    seen: list[Segment] = []

    class Watching(Ranks):
        def run(self, work: Callable[..., Any], *arguments: Any) -> Any:
            seen.extend(arguments[0] if arguments else ())
            return super().run(work, *arguments)

    ranks = Watching()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad])
    ranks.hold(model, optimizer)
    rows = warm_start(ranks, segments, config)
    assert [row["sft_segments"] for row in rows] == [4, 4, 4]
    assert sorted(map(segments.index, seen[:6])) == sorted(map(segments.index, seen[6:])) == list(range(6))
    assert [group["lr"] for group in optimizer.param_groups] == [config.learning_rate]
    assert not optimizer.state  # the policy gradient begins with fresh moments
    again = sharp_policy()
    warm_start(ranks_of(again), segments, config)
    assert torch.equal(weights(again), weights(model))


def test_a_warm_start_from_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="warm_start: oracle: nothing to learn from"):
        warm_start(ranks_of(sharp_policy()), [], load_config("tiny", {"warm_start": "oracle"}))


def episode(tokens: Sequence[int], value: float | None, *, group: str = "g", sample: str = "") -> Trajectory:
    said = Completion(token_ids=tuple(tokens), logprobs=(0.0,) * len(tokens), text="", finish_reason="stop")
    return Trajectory(
        task_id="procedural__gap-l1-f1-train-3",
        task_digest="",
        suite="procedural",
        group_id=group,
        sample_id=sample,
        turns=(Turn(prompt_token_ids=(1, 2), completion=said),),
        stop=Stop.SUBMITTED,
        reward=Reward(value=value),
    )


def test_rejection_keeps_what_was_resolved_different_and_at_most_four_of_a_group() -> None:
    config = load_config("tiny", {})
    played = [
        episode([5, 6], 1.0),
        episode([7, 8], 0.0),
        episode([9], None),
        episode([5, 6], 1.0),  # the same once more
        *(episode([10 + n], 1.0, group="h") for n in range(6)),
        dataclasses.replace(episode([30], 1.0), stop=Stop.TURNS),
    ]
    kept = chosen(played, config, step=0)
    assert [s.token_ids_T for s in kept if s.group_id == "g"] == [(1, 2, 5, 6)]
    others = [s.token_ids_T[2] for s in kept if s.group_id == "h"]
    assert len(set(others)) == 4
    assert set(others) <= set(range(10, 16))
    assert chosen(played, config, step=0) == kept
    assert chosen(played, config, step=1) != kept


def test_a_rejection_step_learns_the_resolved_and_shows_solutions_where_none_is() -> None:
    config = load_config("tiny", {"minibatches": 2, "warm_start_steps": 3, "warm_start_batch": 1})
    model = sharp_policy()
    ranks = ranks_of(model)
    right, wrong = episode([5, 6], 1.0), episode([7, 8], 0.0)
    demonstration = chosen([episode([11], 1.0)], config, 0)

    def likelihood(trajectory: Trajectory) -> float:
        with torch.no_grad():
            segments = chosen([dataclasses.replace(trajectory, reward=Reward(value=1.0))], config, 0)
            return float(token_logprobs(model, segments, 1.0)[0].sum())

    def refused() -> list[Segment]:
        raise AssertionError("nobody should ask for solutions")

    before = likelihood(right)
    row = rejection_step(ranks, [right, wrong], config, 0, refused)
    assert row["sft_steps"] == 1  # one segment makes one minibatch
    assert likelihood(right) > before
    row = rejection_step(ranks, [wrong], config, 1, lambda: demonstration)
    assert row["sft_steps"] == 3


# What is played in real boxes.


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    made = open_backend("namespace")
    yield made
    made.close()


@pytest.fixture(scope="module")
def chat() -> Chat:
    return load_chat(load_base("tiny", torch.float32)[1])


def small(**values: Any) -> Config:
    return load_config("tiny", {"warm_start": "oracle", "workers": 2, "stages": ["procedural"]} | values)


@pytest.mark.sandbox
def test_the_demonstrator_looks_edits_and_submits_one_call_a_turn(backend: Backend, chat: Chat) -> None:
    suite = ProceduralSuite()
    task_id = "procedural__gap-l1-f1-train-3"
    with Episode(suite, task_id, backend) as one:
        played = play(Demonstrator(suite=suite), one)
    assert [[call.name for call in turn.calls] for turn in played.turns] == [["view"], ["edit"], ["submit"]]
    assert played.turns[1].calls[0].arguments["old"] == "raise NotImplementedError"
    assert played.reward is not None
    assert played.reward.value == 1
    [segment] = segments_from([played], chat, small())
    text = chat.decode([t for t, m in zip(segment.token_ids_T, segment.action_mask_T, strict=True) if m])
    assert text.count("<tool_call>") == 3
    assert "def " not in text  # what the view showed is no action
    assert segments_from([played], chat, small(max_length=len(segment.token_ids_T) - 1)) == []


@pytest.mark.sandbox
def test_what_may_not_be_trained_on_is_left_out(backend: Backend, chat: Chat) -> None:
    suite = ProceduralSuite()
    played = []
    for agent, task_id in (
        (Demonstrator(suite=suite), "procedural__gap-l1-f1-eval-3"),
        (Demonstrator(suite=suite), "procedural__same_word-l1-f1-train-3"),  # a family left out of training
        (NoOp(), "procedural__gap-l1-f1-train-3"),
    ):
        with Episode(suite, task_id, backend) as one:
            played.append(play(agent, one))
    assert [t.reward.value for t in played if t.reward] == [1, 1, 0]
    assert segments_from(played, chat, small()) == []


def test_a_long_file_is_viewed_around_the_change(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.solutions.WHOLE_FILE_LINES", 60)
    monkeypatch.setattr("train.solutions.AROUND_LINES", 2)
    parts = 0
    for task_id in STARTER.ids():
        decisions = Demonstrator(suite=STARTER).script(STARTER.task(task_id), [], 0)
        calls = [call for decision in decisions for call in decision.calls]
        for look, change in pairwise(calls):
            if look.name == "view" and "start" in look.arguments:
                text = STARTER.start(task_id).files()[look.arguments["path"]].content.decode()
                shown = text.splitlines(keepends=True)[look.arguments["start"] - 1 : look.arguments["end"]]
                assert change.arguments["old"] in "".join(shown)
                assert len(shown) <= len(change.arguments["old"].splitlines()) + 5
                parts += 1
    assert parts > 3


def test_recorded_tokens_are_taken_where_the_template_is_the_same(chat: Chat) -> None:
    calls = (ToolCall(id="c", name="submit", arguments={}),)
    played = episode([500, 501, 1], 1.0)
    played = dataclasses.replace(
        played, turns=(dataclasses.replace(played.turns[0], calls=calls),), template_digest=chat.digest
    )
    [segment] = segments_from([played], chat, small())
    assert segment.token_ids_T == (1, 2, 500, 501, 1)
    assert segment.action_mask_T == (0, 0, 1, 1, 1)
    [written] = segments_from([dataclasses.replace(played, template_digest="another")], chat, small())
    task = ProceduralSuite().task(played.task_id)
    prompt, action = chat.start(task, []), chat.assistant(calls)
    assert written.token_ids_T == (*prompt, *action)
    assert written.action_mask_T == (*[0] * len(prompt), *[1] * len(action))


def test_an_episode_with_a_turn_that_called_nothing_is_not_written_out(chat: Chat) -> None:
    assert segments_from([episode([5], 1.0)], chat, small()) == []


def said_greedily(model: Any, segments: Sequence[Segment]) -> int:
    """How many of the segments greedy sampling would say word for word, given what they were shown."""
    count = 0
    for segment in segments:
        ids, mask = (
            torch.tensor([segment.token_ids_T]),
            torch.tensor(segment.action_mask_T[1:], dtype=torch.bool),
        )
        with torch.no_grad():
            likeliest = model(input_ids=ids).logits[0, :-1].argmax(-1)
        count += bool((likeliest == ids[0, 1:])[mask].all())
    return count


@pytest.mark.sandbox
def test_a_warm_start_from_solutions_makes_others_likelier_and_the_greedy_answer_right(
    backend: Backend, chat: Chat, tmp_path: Path
) -> None:
    left_out = [name for name in BY_NAME if name != "gap"]
    config = small(held_out_families=left_out, warm_start_tasks=12, warm_start_steps=12, warm_start_batch=8)
    base, _ = load_base("tiny", torch.float32)
    torch.manual_seed(0)
    model = with_adapter(base, 16, 32.0)
    told: list[tuple[int, int]] = []
    segments = demonstrated_segments(
        config, chat, Curriculum(config), backend, tmp_path, lambda *at: told.append(at)
    )
    assert told[-1] == (12, 12)
    assert len(segments) == 12
    other = dataclasses.replace(config, seed=1)
    unseen = segments_from(list(demonstrations(other, Curriculum(other), backend)), chat, other)
    assert not {s.task_id for s in unseen} & {s.task_id for s in segments}
    before, right = float(token_logprobs(model, unseen, 1.0)[0].detach().sum()), said_greedily(model, unseen)
    rows = warm_start(ranks_of(model), segments, config)
    assert rows[-1]["sft_loss"] < rows[0]["sft_loss"]
    assert float(token_logprobs(model, unseen, 1.0)[0].detach().sum()) > before
    assert said_greedily(model, unseen) >= right + 4
    # Played once, then read from the file.
    assert demonstrated_segments(config, chat, Curriculum(config), backend, tmp_path) == segments


def test_a_file_of_trajectories_is_learned_from(chat: Chat, tmp_path: Path, backend: Backend) -> None:
    played = dataclasses.replace(episode([500, 1], 1.0), template_digest=chat.digest)
    append(tmp_path / "mine.jsonl", played, dataclasses.replace(played, reward=Reward(value=0.0)))
    config = small(warm_start=str(tmp_path / "mine.jsonl"))
    [segment] = demonstrated_segments(config, chat, Curriculum(config), backend, tmp_path)
    assert segment.token_ids_T == (1, 2, 500, 1)
    assert not (tmp_path / "demonstrations.jsonl").exists()


def test_suites_are_found_again_by_their_reference(tmp_path: Path) -> None:
    assert reference(ProceduralSuite()) == "procedural"
    assert reference(STARTER) == "starter"
