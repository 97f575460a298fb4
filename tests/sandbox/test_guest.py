"""The supervisor's own parts: frames and bounded output."""

from __future__ import annotations

import pytest

from gym_code.sandbox.guest import Output, pack, share_out, unpack


def test_frames_round_trip() -> None:
    assert pack([b"ab", b""]) == b"\0\0\0\x0a" + b"\0\0\0\2ab" + b"\0\0\0\0"
    assert unpack(pack([b"ab", b"", b"\xff\0"])[4:]) == [b"ab", b"", b"\xff\0"]


@pytest.mark.parametrize("body", [b"\0", b"\0\0\0\5abc"])
def test_torn_frames_are_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match="torn"):
        unpack(body)


def bounded(out: bytes, err: bytes, limit: int, piece: int = 7) -> tuple[bytes, bytes, int]:
    streams = Output(limit), Output(limit)
    room = limit // 2
    for stream, data in zip(streams, (out, err), strict=True):
        for at in range(0, len(data), piece):
            room -= stream.feed(data[at : at + piece], room)
    return share_out(*streams, limit)


def test_short_output_is_whole() -> None:
    assert bounded(b"out", b"err", 6) == (b"out", b"err", 0)


def test_long_output_keeps_head_and_tail_and_counts_the_middle() -> None:
    out, err, missing = bounded(b"a" * 100 + b"." * 1000 + b"z" * 100, b"", 200)
    assert out == b"a" * 100 + b"\n[1023 bytes left out]\n" + b"z" * 77
    assert (err, missing) == (b"", 1023)


def test_a_loud_stdout_leaves_room_for_stderr() -> None:
    out, err, missing = bounded(b"o" * 5000, b"e" * 300, 1000)
    assert len(out) + len(err) <= 1000
    assert out.startswith(b"o" * 500)
    assert out.endswith(b"]\n" + b"o" * 227)
    assert err == b"\n[71 bytes left out]\n" + b"e" * 229
    assert missing == 5000 - 500 - 227 + 71


def test_a_limit_of_zero_keeps_nothing() -> None:
    assert bounded(b"abc", b"de", 0) == (b"", b"", 5)
