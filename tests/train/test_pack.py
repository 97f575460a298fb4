"""How rows are laid out, with toy tokens; and that layout changes neither logprobs nor gradients."""

import random
from typing import Any

import pytest
import torch
from transformers import Qwen2ForCausalLM

from gym_code.errors import ConfigError
from gym_code.types import Segment
from tests.train.small_model import sharp_policy, small_policy
from train.attention import use_segment_attention
from train.logprob import packed_logprobs, token_logprobs
from train.model import checkpoint_activations, tiny_config
from train.pack import Packed, attends, pack, split


def segment(group: str, ids: list[int], sampled: int) -> Segment:
    """The last `sampled` tokens are the policy's."""
    mask = [0] * (len(ids) - sampled) + [1] * sampled
    return Segment(
        task_id="t",
        group_id=group,
        token_ids_T=tuple(ids),
        action_mask_T=tuple(mask),
        logprobs_T=tuple(map(float, mask)),
        advantages_T=tuple(map(float, mask)),
    )


TOY = [segment("g", [5, 6, 7], 1), segment("g", [5, 6, 8, 9], 2)]


def seen(packed: Packed) -> list[list[str]]:
    assert packed.parents_RL is not None
    mask_R1LL = attends(packed.parents_RL)
    return [["".join("x" if cell else "." for cell in line) for line in row[0]] for row in mask_R1LL]


def test_a_row_each() -> None:
    packed = pack(TOY)
    assert packed.ids_RL.tolist() == [[5, 6, 7, 0], [5, 6, 8, 9]]
    assert packed.parents_RL is None
    # 7 is predicted at place 1 of row 0; 8 and 9 at places 1 and 2 of row 1, which are 5 and 6 of all.
    assert packed.predictor_N.tolist() == [1, 5, 6]
    assert packed.target_N.tolist() == [7, 8, 9]
    assert packed.mask_BT.int().tolist() == [[0, 0, 1, 0], [0, 0, 1, 1]]
    assert (packed.place_BT * packed.mask_BT).tolist() == [[0, 0, 0, 0], [0, 0, 1, 2]]


def test_packed_segments_do_not_see_each_other() -> None:
    packed = pack(TOY, length=7)
    # The longest first.
    assert packed.ids_RL.tolist() == [[5, 6, 8, 9, 5, 6, 7]]
    assert packed.positions_RL.tolist() == [[0, 1, 2, 3, 0, 1, 2]]
    assert seen(packed) == [["x......", "xx.....", "xxx....", "xxxx...", "....x..", "....xx.", "....xxx"]]
    assert packed.lengths == [4, 3]
    assert packed.predictor_N.tolist() == [5, 1, 2]
    assert packed.target_N.tolist() == [7, 8, 9]


def test_a_shared_prefix_is_computed_once() -> None:
    packed = pack(TOY, length=7, shared=True)
    assert packed.ids_RL.tolist() == [[5, 6, 8, 9, 7]]
    assert packed.positions_RL.tolist() == [[0, 1, 2, 3, 2]]
    # 7, last, sees 5 and 6 and not 8 and 9. It is predicted where 8 is: by 6.
    assert seen(packed) == [["x....", "xx...", "xxx..", "xxxx.", "xx..x"]]
    assert packed.predictor_N.tolist() == [1, 1, 2]
    assert packed.target_N.tolist() == [7, 8, 9]


def test_a_sampled_token_that_two_share_is_predicted_once() -> None:
    packed = pack([segment("g", [5, 6, 7], 2), segment("g", [5, 6, 8], 2)], length=9, shared=True)
    # 6 in both, then 7 and 8: three predictions for four tokens.
    assert packed.target_N.tolist() == [6, 7, 8]
    assert packed.place_BT.tolist() == [[0, 0, 1], [0, 0, 2]]


def test_groups_share_nothing_with_each_other() -> None:
    packed = pack([segment("g", [5, 6], 1), segment("h", [5, 6], 1)], length=4, shared=True)
    assert packed.ids_RL.tolist() == [[5, 6, 5, 6]]


def test_rows_are_filled_and_never_overfull() -> None:
    lengths = [4, 3, 6, 2, 9, 5]
    packed = pack(
        [segment(str(n), list(range(n + 2, 2 + n + k)), 1) for n, k in enumerate(lengths)], length=8
    )
    # 9 is longer than a row may be and has one to itself; then 6 + 2, 5 + 3, 4.
    assert [sum(token > 0 for token in row) for row in packed.ids_RL.tolist()] == [9, 8, 8, 4]


def test_padding_sees_only_itself() -> None:
    packed = pack([segment("g", [5, 6, 7], 1), segment("h", [5, 6], 1)], length=3)
    assert seen(packed)[1] == ["x..", "xx.", "..x"]
    assert packed.lengths == [3, 2, 1]


def test_a_step_is_split_into_forwards_with_groups_together() -> None:
    a, b, c = (segment(group, list(range(4)), 1) for group in "aba")
    assert split([a, b, c], 0) == [[a, b, c]]
    assert split([a, b, c], 8) == [[a, c], [b]]
    assert split([a, b, c], 1) == [[a], [c], [b]]


@pytest.fixture(scope="module")
def model() -> Any:
    return small_policy(0.2)


def conversations() -> list[Segment]:
    """Three groups of four that part ways early or late, sampled tokens among them."""
    rng = random.Random(1)
    made = []
    for group in "xyz":
        trunk = [rng.randrange(64) for _ in range(30)]
        for _ in range(4):
            shared = rng.randrange(5, 30)
            ids = trunk[:shared] + [rng.randrange(64) for _ in range(rng.randrange(3, 20))]
            made.append(segment(group, ids, len(ids) - 4))
    return made


def measured(model: Any, segments: list[Segment], **layout: Any) -> tuple[torch.Tensor, float, torch.Tensor]:
    model.zero_grad(set_to_none=True)
    packed = pack(segments, **layout)
    logprobs_BT, entropy = packed_logprobs(model, packed, 0.7, chunk=(layout and 17) or 1024)
    generator = torch.Generator().manual_seed(2)
    (logprobs_BT * torch.randn(logprobs_BT.shape, generator=generator)).sum().backward()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.requires_grad])
    return logprobs_BT.detach(), float(entropy), gradients


@pytest.mark.parametrize(
    "layout",
    [{"length": 64}, {"length": 200}, {"length": 64, "shared": True}, {"length": 512, "shared": True}],
)
def test_layout_changes_neither_logprobs_nor_gradients(model: Any, layout: dict[str, Any]) -> None:
    segments = conversations()
    logprobs_BT, entropy, gradients = measured(model, segments)
    its_logprobs_BT, its_entropy, its_gradients = measured(model, segments, **layout)
    assert logprobs_BT.abs().max() > 1
    assert float((its_logprobs_BT - logprobs_BT).abs().max()) <= 1e-5
    assert its_entropy == pytest.approx(entropy, abs=1e-5)
    assert float((its_gradients - gradients).norm() / gradients.norm()) <= 1e-5


@pytest.mark.parametrize("length", [64, 512])
def test_attention_by_segments_is_attention_with_a_mask(model: Any, length: int) -> None:
    segments = conversations()
    logprobs_BT, _, gradients = measured(model, segments)
    use_segment_attention(model)
    try:
        for layout in ({"length": length}, {"length": length, "shared": True}, {}):
            its_logprobs_BT, _, its_gradients = measured(model, segments, **layout)
            assert float((its_logprobs_BT - logprobs_BT).abs().max()) <= 1e-5
            assert float((its_gradients - gradients).norm() / gradients.norm()) <= 1e-5
    finally:
        model.set_attn_implementation("sdpa")


def test_attention_by_segments_in_bf16_with_recomputation() -> None:
    # Half precision reads key-value heads by groups; with activations recomputed it is still the same.
    policy, segments = sharp_policy(torch.bfloat16), conversations()
    logprobs_BT, _, gradients = measured(policy, segments)
    use_segment_attention(policy)
    checkpoint_activations(policy)
    its_logprobs_BT, _, its_gradients = measured(policy.train(), segments, length=512)
    assert float((its_logprobs_BT - logprobs_BT).abs().mean()) <= 0.005
    assert float(torch.nn.functional.cosine_similarity(its_gradients, gradients, dim=0)) > 0.999


def test_packed_rows_of_a_model_with_a_window_are_refused() -> None:
    config = tiny_config(64)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 48, 64, 1
    config.use_sliding_window, config.sliding_window, config.layer_types = True, 4, ["sliding_attention"]
    windowed = Qwen2ForCausalLM(config)
    use_segment_attention(windowed)
    with pytest.raises(ConfigError, match=r"packed rows need full attention .* a sliding window of 4 tokens"):
        packed_logprobs(windowed, pack(TOY, length=8), 1.0)


def test_sharing_computes_fewer_tokens() -> None:
    segments = conversations()
    alone = sum(len(s.token_ids_T) for s in segments)
    assert int((pack(segments, length=512).ids_RL >= 0).sum()) >= alone
    assert pack(segments, length=512, shared=True).ids_RL.numel() < 0.7 * alone


def test_with_a_row_each_it_is_the_models_own_answer(model: Any) -> None:
    segments = conversations()
    with torch.no_grad():
        logprobs_BT, _ = token_logprobs(model, segments, 1.0)
        for n, s in enumerate(segments):
            logits = model(input_ids=torch.tensor([s.token_ids_T])).logits[0, :-1]
            wanted = torch.log_softmax(logits, -1).gather(1, torch.tensor(s.token_ids_T[1:])[:, None])[:, 0]
            wanted = wanted * torch.tensor(s.action_mask_T[1:])
            assert float((logprobs_BT[n, 1 : len(s.token_ids_T)] - wanted).abs().max()) <= 1e-5
            assert not logprobs_BT[n, len(s.token_ids_T) :].any()
