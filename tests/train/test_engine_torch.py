"""The engine against the plain forward of the same model."""

import math
from typing import Any

import pytest
import torch

from gym_code.errors import ConfigError
from gym_code.types import Completion, Segment
from train.engine.base import Request, Sampling, generate
from train.engine.torch import TorchEngine
from train.logprob import token_logprobs
from train.model import tiny_config, with_adapter

END = 1
HOT = Sampling(temperature=1.0, max_tokens=12)


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import Qwen2ForCausalLM

    torch.manual_seed(0)
    config = tiny_config(64)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 48, 64, 2
    made = with_adapter(Qwen2ForCausalLM(config), rank=4, alpha=8.0)
    for name, parameter in made.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return made


def engine_of(model: Any, slots: int = 8) -> TorchEngine:
    return TorchEngine(model, end_ids=(END,), slots=slots, max_length=64)


def ask(key: str, prompt: list[int], seed: int = 0) -> Request:
    return Request(key=key, prompt_ids=tuple(prompt), seed=seed)


def recomputed(model: Any, prompt: list[int], completion: Completion) -> list[float]:
    ids = torch.tensor([[*prompt, *completion.token_ids]])
    with torch.no_grad():
        logprobs = torch.log_softmax(model(input_ids=ids).logits[0].float(), dim=-1)
    return [float(logprobs[len(prompt) + i - 1, t]) for i, t in enumerate(completion.token_ids)]


def test_logprobs_are_the_models_over_turns_of_different_lengths(model: Any) -> None:
    engine = engine_of(model)
    prompts = {"a": [5, 6, 7], "b": [9] * 11, "c": [5, 6, 7]}
    for turn in range(3):
        made = generate(engine, [ask(k, p, seed=turn) for k, p in prompts.items()], HOT)
        for (key, prompt), completion in zip(prompts.items(), made, strict=True):
            assert completion.logprobs == pytest.approx(recomputed(model, prompt, completion), abs=1e-5)
            prompts[key] = [*prompt, *completion.token_ids, *range(20, 20 + turn + len(key))]


def test_a_sample_depends_on_its_seed_and_not_on_its_batch(model: Any) -> None:
    alone = generate(engine_of(model), [ask("a", [5, 6, 7], seed=4)], HOT)[0]
    crowd = generate(
        engine_of(model),
        [ask("x", [30, 31], seed=1), ask("a", [5, 6, 7], seed=4), ask("y", [5, 6, 7], seed=9)],
        HOT,
    )
    assert crowd[1].token_ids == alone.token_ids
    assert crowd[2].token_ids != alone.token_ids


def test_greedy_takes_the_likeliest_token(model: Any) -> None:
    made = generate(engine_of(model), [ask("a", [5, 6, 7])], Sampling(temperature=0.0, max_tokens=3))[0]
    with torch.no_grad():
        first = int(model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1].argmax())
    assert made.token_ids[0] == first


def test_samples_follow_the_distribution(model: Any) -> None:
    engine = engine_of(model, slots=2000)
    made = generate(engine, [ask(str(n), [5, 6, 7], seed=n) for n in range(2000)], Sampling(max_tokens=1))
    with torch.no_grad():
        chances = torch.softmax(model(input_ids=torch.tensor([[5, 6, 7]])).logits[0, -1].float(), -1)
    for token in range(10):
        expected = float(chances[token])
        seen = sum(c.token_ids == (token,) for c in made) / 2000
        assert abs(seen - expected) < 5 * math.sqrt(expected / 2000)


def test_trained_logprobs_equal_sampled_ones(model: Any) -> None:
    prompt = [5, 6, 7, 8]
    made = generate(engine_of(model), [ask("a", prompt, seed=2), ask("b", [9, 9], seed=3)], HOT)
    segments = [
        Segment(
            task_id="",
            group_id="",
            token_ids_T=(*p, *c.token_ids),
            action_mask_T=(*[0] * len(p), *[1] * len(c.token_ids)),
            logprobs_T=(*[0.0] * len(p), *c.logprobs),
            advantages_T=(0.0,) * (len(p) + len(c.token_ids)),
        )
        for p, c in zip(([*prompt], [9, 9]), made, strict=True)
    ]
    logprobs_BT, entropy = token_logprobs(model, segments, 1.0)
    for row, segment in enumerate(segments):
        assert logprobs_BT[row, : len(segment.token_ids_T)].tolist() == pytest.approx(
            list(segment.logprobs_T), abs=1e-5
        )
    assert 0.0 < float(entropy) < math.log(64)


def test_new_weights_are_not_answered_from_the_old_cache(model: Any) -> None:
    engine = engine_of(model)
    generate(engine, [ask("a", [5, 6, 7])], HOT)
    weight = next(p for n, p in model.named_parameters() if "lora_B" in n)
    with torch.no_grad():
        weight.add_(0.5)
    try:
        engine.set_version(7)
        made = generate(engine, [ask("a", [5, 6, 7, 8])], HOT)[0]
        assert made.policy_version == 7
        assert made.logprobs == pytest.approx(recomputed(model, [5, 6, 7, 8], made), abs=1e-5)
    finally:
        with torch.no_grad():
            weight.sub_(0.5)


def test_a_prompt_without_room_is_refused(model: Any) -> None:
    with pytest.raises(ConfigError, match="at most 52 tokens, found 60"):
        generate(engine_of(model), [ask("a", [5] * 60)], HOT)


def test_more_conversations_than_slots_are_refused(model: Any) -> None:
    with pytest.raises(ConfigError, match="too many conversations"):
        generate(engine_of(model, slots=1), [ask("a", [5]), ask("b", [6])], HOT)


def test_requests_join_and_leave_between_two_tokens(model: Any) -> None:
    engine = engine_of(model)
    long, short = Sampling(max_tokens=12), Sampling(max_tokens=2)
    engine.submit(ask("long", [5, 6, 7], seed=8), long)
    engine.submit(ask("short", [9, 9, 9], seed=1), short)
    came: list[str] = []
    made: dict[str, Completion] = {}
    late = {"short": "late", "late": "later"}
    while completed := engine.collect():
        for key, completion in completed:
            assert isinstance(completion, Completion)
            came.append(key)
            made[key] = completion
            engine.forget(key)
            if key in late:
                engine.submit(ask(late[key], [30, 31], seed=2), short)
    assert came == ["short", "late", "later", "long"]
    assert made["late"].token_ids == made["later"].token_ids
    alone = generate(engine_of(model), [ask("long", [5, 6, 7], seed=8)], long)[0]
    assert isinstance(alone, Completion)
    assert made["long"].token_ids == alone.token_ids
    for key, prompt in (("long", [5, 6, 7]), ("later", [30, 31])):
        assert made[key].logprobs == pytest.approx(recomputed(model, prompt, made[key]), abs=1e-5)


def test_half_a_completion_goes_on_under_new_weights(model: Any) -> None:
    engine = engine_of(model)
    engine.submit(ask("a", [5, 6, 7], seed=8), Sampling(max_tokens=12))
    engine.submit(ask("b", [9, 9, 9], seed=1), Sampling(max_tokens=2))
    assert [key for key, _ in engine.collect()] == ["b"]
    before = generate(engine_of(model), [ask("a", [5, 6, 7], seed=8)], Sampling(max_tokens=12))[0]
    weight = next(p for n, p in model.named_parameters() if "lora_B" in n)
    with torch.no_grad():
        weight.add_(0.5)
    try:
        engine.set_version(7)
        [(_, made)] = engine.collect()
        assert isinstance(made, Completion)
        after = recomputed(model, [5, 6, 7], made)
    finally:
        with torch.no_grad():
            weight.sub_(0.5)
    assert isinstance(before, Completion)
    assert made.policy_version == 0, "the oldest of its tokens"
    assert made.logprobs[:2] == pytest.approx(before.logprobs[:2], abs=1e-5)
    assert made.logprobs[3:] == pytest.approx(after[3:], abs=1e-5)


def test_a_call_from_another_thread_has_collect_return(model: Any) -> None:
    engine = engine_of(model)
    engine.submit(ask("a", [5, 6, 7]), HOT)
    engine.wake()
    assert engine.collect() == []
    assert [key for key, _ in engine.collect()] == ["a"]


def test_what_is_forgotten_gives_its_slot_back(model: Any) -> None:
    engine = engine_of(model, slots=1)
    engine.submit(ask("a", [5, 6, 7]), HOT)
    engine.forget("a")
    made = generate(engine, [ask("b", [9, 9], seed=3)], HOT)[0]
    assert isinstance(made, Completion)
    assert made.logprobs == pytest.approx(recomputed(model, [9, 9], made), abs=1e-5)
