"""Spaces hold every text, sample from all of Unicode, follow their seed, and survive copies."""

from __future__ import annotations

import copy
import json
import pickle

import numpy as np
import pytest
from gymnasium.vector.utils import batch_space, iterate
from hypothesis import given
from hypothesis import strategies as st

from gym_code.spaces import ToolCallSpace, UnicodeText
from gym_code.tools import TOOLS, check_call, choose_tools, parse_call


def test_text_samples_reach_every_plane_and_no_surrogate() -> None:
    space = UnicodeText(seed=0)
    samples = [space.sample() for _ in range(2000)]
    assert all(sample in space for sample in samples)
    assert all(sample.encode().decode() == sample for sample in samples)
    assert {ord(char) >> 16 for sample in samples for char in sample} == set(range(17))
    assert max(map(len, samples)) == 32
    assert "" in samples


@given(st.text())
def test_text_holds_every_unicode_text(text: str) -> None:
    assert text in UnicodeText()


@pytest.mark.parametrize("value", ["half \ud800", b"bytes", None, 3])
def test_text_holds_nothing_else(value: object) -> None:
    assert value not in UnicodeText()


def test_seeds_decide_samples() -> None:
    for make in (UnicodeText, ToolCallSpace):
        one, two, other = make(seed=5), make(), make(seed=6)
        two.seed(5)
        drawn = [one.sample() for _ in range(50)]
        assert drawn == [two.sample() for _ in range(50)]
        assert drawn != [other.sample() for _ in range(50)]


def test_sampled_calls_are_valid_calls_of_every_tool() -> None:
    space = ToolCallSpace(seed=1)
    samples = [space.sample() for _ in range(2000)]
    assert all(sample in space for sample in samples)
    called = [check_call(parse_call("1", s["name"], s["arguments"]), TOOLS).name for s in samples]
    assert set(called) == set(TOOLS)
    # Every optional argument is sampled too.
    used = {(s["name"], key) for s in samples for key in json.loads(s["arguments"])}
    assert used == {(tool.name, key) for tool in TOOLS.values() for key in tool.parameters["properties"]}


def test_a_call_is_two_texts_whatever_they_say() -> None:
    space = ToolCallSpace()
    assert {"name": "fly", "arguments": "{"} in space
    for wrong in (
        {"name": "view"},
        {"name": "view", "arguments": {}},
        {"name": 1, "arguments": ""},
        "view",
        None,
    ):
        assert wrong not in space


def test_spaces_copy_pickle_and_batch() -> None:
    space = ToolCallSpace(choose_tools(["view", "submit"]), seed=2)
    assert copy.deepcopy(space) == space != ToolCallSpace()
    assert pickle.loads(pickle.dumps(UnicodeText(seed=2))) == UnicodeText()
    batch = batch_space(space, 3)
    batch.seed(0)
    calls = list(iterate(batch, batch.sample()))
    assert [call["name"] in ("view", "submit") for call in calls] == [True] * 3


def test_masks_are_refused() -> None:
    with pytest.raises(ValueError, match="mask"):
        UnicodeText().sample(mask=np.ones(3))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mask"):
        ToolCallSpace().sample(probability=np.ones(3))  # type: ignore[arg-type]
