"""What the program in the box wrote to its private channel; `box/main.py` describes the frames."""

from __future__ import annotations

import binascii
import hmac
import secrets
from dataclasses import dataclass, field
from hashlib import blake2b

from gym_code.types import Outcome

KEY_BYTES = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """The messages whose MAC is right, in the order they came."""

    tests: tuple[tuple[int, int, Outcome, str], ...] = ()
    """(attempt, index, outcome, message)."""
    canaries: tuple[tuple[int, Outcome], ...] = ()
    """(attempt, outcome) of each test that must fail."""
    failures: tuple[str, ...] = ()
    """Why the program could not run the tests."""
    status: int | None = None
    """Wait status of the process that ran the tests; None where the program did not end itself."""
    noise: int = 0
    """Lines that are not ours."""

    def outcomes(self, attempt: int) -> dict[int, Outcome]:
        """Outcome by index of one attempt; an index that came twice is DUPLICATED."""
        found: dict[int, Outcome] = {}
        for of, index, outcome, _ in self.tests:
            if of == attempt:
                found[index] = Outcome.DUPLICATED if index in found else outcome
        return found

    def messages(self) -> dict[int, str]:
        """The last message by index, where there is one."""
        return {index: message for _, index, _, message in self.tests if message}


@dataclass(slots=True)
class _Gathered:
    tests: list[tuple[int, int, Outcome, str]] = field(default_factory=list)
    canaries: list[tuple[int, Outcome]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    status: int | None = None
    noise: int = 0


def new_key() -> bytes:
    """A key for one run."""
    return secrets.token_bytes(KEY_BYTES)


def sign(key: bytes, payload: bytes) -> bytes:
    """The frame of a payload, as the program in the box writes it."""
    return blake2b(payload, key=key, digest_size=16).hexdigest().encode() + b" " + payload + b"\n"


def read_frames(channel: bytes, key: bytes, count: int) -> Frames:
    """The frames in what was written to the channel, for `count` test ids; the rest is noise."""
    gathered = _Gathered()
    for line in channel.split(b"\n"):
        if not line:
            continue
        payload = line[33:]
        good = hmac.compare_digest(sign(key, payload), line + b"\n")
        if not good or not _take(gathered, payload.split(b" "), count):
            gathered.noise += 1
    return Frames(
        tests=tuple(gathered.tests),
        canaries=tuple(gathered.canaries),
        failures=tuple(gathered.failures),
        status=gathered.status,
        noise=gathered.noise,
    )


def _take(gathered: _Gathered, words: list[bytes], count: int) -> bool:
    """Whether the words are a message; a process that learnt the key could still send nonsense."""
    try:
        match words:
            case [b"T", attempt, index, outcome, message] if 0 <= int(index) < count:
                entry = int(attempt), int(index), Outcome(outcome.decode()), _text(message)
                gathered.tests.append(entry)
            case [b"C", attempt, outcome]:
                gathered.canaries.append((int(attempt), Outcome(outcome.decode())))
            case [b"F", message]:
                gathered.failures.append(_text(message))
            case [b"E", status]:
                gathered.status = int(status)
            case _:
                return False
    except (ValueError, binascii.Error):
        return False
    return True


def _text(message: bytes) -> str:
    return "" if message == b"-" else binascii.unhexlify(message).decode("utf-8", "replace")
