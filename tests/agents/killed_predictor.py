"""Predictions of the random agent, each decision so many seconds slow: `killed_predictor.py OUT SECONDS`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[2]))

from agents.players import AgentPlayer
from agents.predict import predict
from agents.scripted import Random
from gym_code.sandbox.memory import MemoryBackend
from tests.toys import ToySuite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agents.policy import Decision, Message

SUITE, SECONDS = ToySuite(), float(sys.argv[2])


class Slow(Random):
    """Takes its time."""

    def decide(self, messages: Sequence[Message]) -> Decision:
        """The next decision, late."""
        time.sleep(SECONDS)
        return super().decide(messages)


with AgentPlayer(lambda: Slow(turns=2), SUITE, MemoryBackend(), jobs=2, identity={}) as player:
    predict(player, SUITE, SUITE.ids(), samples=8, out=Path(sys.argv[1]))
