"""The private channel: only what was signed with the key of this run counts."""

from __future__ import annotations

import pytest

from gym_code.grading.channel import new_key, read_frames, sign
from gym_code.types import Outcome

KEY, OTHER = b"k" * 32, b"o" * 32


def test_signed_frames_are_read() -> None:
    stream = (
        sign(KEY, b"T 1 0 passed -")
        + sign(KEY, b"T 1 1 failed 6869")
        + sign(KEY, b"C 1 failed")
        + sign(KEY, b"E 0")
    )
    frames = read_frames(stream, KEY, 2)
    assert frames.outcomes(1) == {0: Outcome.PASSED, 1: Outcome.FAILED}
    assert frames.messages() == {1: "hi"}
    assert (frames.canaries, frames.status, frames.noise) == (((1, Outcome.FAILED),), 0, 0)


def test_a_second_attempt_is_kept_apart_and_a_repeat_is_a_duplicate() -> None:
    again = sign(KEY, b"T 1 0 passed -")
    frames = read_frames(again + again + sign(KEY, b"T 2 1 passed -"), KEY, 2)
    assert frames.outcomes(1) == {0: Outcome.DUPLICATED}
    assert frames.outcomes(2) == {1: Outcome.PASSED}


@pytest.mark.parametrize(
    "line",
    [
        sign(OTHER, b"T 1 0 passed -"),
        b"T 1 0 passed -\n",
        sign(KEY, b"T 1 0 failed -").replace(b"failed", b"passed"),
        sign(KEY, b"T 1 9 passed -"),
        sign(KEY, b"T 1 -1 passed -"),
        sign(KEY, b"T 1 0 splendid -"),
        sign(KEY, b"T 1 0 passed zz"),
        sign(KEY, b"E x"),
        b"\x00\xff" * 50 + b"\n",
        b"x" * 40,
    ],
)
def test_law_5_anything_else_is_noise(line: bytes) -> None:
    frames = read_frames(line, KEY, 1)
    assert (frames.tests, frames.status, frames.noise) == ((), None, 1)


def test_keys_are_fresh() -> None:
    assert len({new_key() for _ in range(20)}) == 20
