"""Who is timed on one vLLM server: our rollouts with instant tools, and a client that only posts.

The rollouts are whole: engine, scheduler, chat format and tools. What makes the tools instant is where they
act: boxes in memory, in which files are read and edited in microseconds and no program runs. So nothing can
be graded either: the suite withholds the answers, and an episode ends as it submits. The client has one
thread and one connection a conversation, knows every prompt beforehand, and throws its answers away but for
their number of tokens.
"""

from __future__ import annotations

import http.client
import json
import queue
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from gym_code.errors import GymCodeError, SandboxError
from gym_code.task import Suite
from gym_code.types import Answer, StartTree, Task, Trajectory
from train.engine.replica import QUICK_SECONDS, Replica
from train.engine.server import Server
from train.rollout import Order, Roller, turn_seed

Script = Sequence[tuple[tuple[int, ...], int]]
"""The requests of one conversation, one after the other: prompt and seed."""


class Ungraded:
    """A suite that withholds the answers."""

    def __init__(self, suite: Suite) -> None:
        self._suite, self.name = suite, suite.name

    def ids(self) -> Sequence[str]:
        """The ids of all tasks."""
        return self._suite.ids()

    def task(self, task_id: str) -> Task:
        """The public half."""
        return self._suite.task(task_id)

    def start(self, task_id: str) -> StartTree:
        """The tree the task begins from."""
        return self._suite.start(task_id)

    def answer(self, task_id: str) -> Answer:
        """None is given: the episode stays ungraded, as where a box failed."""
        raise SandboxError("nothing is graded here")


@dataclass(frozen=True, slots=True, kw_only=True)
class Lap:
    """What one contestant did in one round."""

    tokens: int
    """Sampled."""
    requests: int
    seconds: float
    between: float = 0.0
    """The share of the conversations' time that passed between an answer and the next request."""

    @property
    def rate(self) -> float:
        """Tokens sampled a second."""
        return self.tokens / self.seconds


Span = tuple[float, float]
"""When a request was sent and when its answer was there, in seconds of one clock."""


class Timed(Replica):
    """A server that notes when completions were asked for and came, by the seed of the request."""

    def __init__(self, at: str | Server, *, key: str = "", connections: int) -> None:
        super().__init__(at, key=key, connections=connections)
        self.spans: dict[int, Span] = {}

    def post(self, path: str, body: Mapping[str, Any], seconds: float = QUICK_SECONDS) -> bytes:
        """See `Replica`."""
        began = time.perf_counter()
        answer = super().post(path, body, seconds)
        if "seed" in body:  # probes have none
            self.spans[body["seed"]] = (began, time.perf_counter())
        return answer


def share_between(conversations: Iterable[Sequence[Span]]) -> float:
    """Of the time from first request to last answer, the share without a request; over all conversations."""
    within = whole = 0.0
    for spans in conversations:
        within += sum(end - begin for begin, end in spans)
        whole += spans[-1][1] - spans[0][0]
    return 1.0 - within / whole


def play(roller: Roller, orders: Sequence[Order]) -> tuple[Lap, list[Trajectory]]:
    """Our rollouts: the episodes of the orders, from opening to the last completion and its tools.

    Raises `GymCodeError` where a completion was lost.
    """
    began = time.perf_counter()
    for order in orders:
        roller.start(replace(order, suite=Ungraded(order.suite)))
    played: list[Trajectory] = []
    while finished := roller.advance():
        played += [trajectory for _, trajectory in finished]
    seconds = time.perf_counter() - began
    if lost := [t.error for t in played if t.error and t.error.startswith("completion dropped")]:
        raise GymCodeError(f"{len(lost)} completions were lost; the first: {lost[0]}")
    said = [turn.completion for t in played for turn in t.turns if turn.completion]
    lap = Lap(tokens=sum(len(c.token_ids) for c in said), requests=len(said), seconds=seconds)
    return lap, played


def scripts_of(played: Sequence[Trajectory]) -> list[Script]:
    """The requests that episodes made, for a client that makes them again."""
    return [
        [(turn.prompt_token_ids, turn_seed(t.seed, number)) for number, turn in enumerate(t.turns)]
        for t in played
    ]


class RawClient:
    """Posts the scripts' requests, so many conversations at a time, and counts the tokens that come back."""

    def __init__(self, url: str, key: str, sampling: dict[str, Any], conversations: int) -> None:
        self._at = urlsplit(url).netloc
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._sampling, self._conversations = sampling, conversations

    def play(self, scripts: Sequence[Script], salt: str) -> Lap:
        """All scripts, once, from the adapter that was loaded last; `salt` names a prefix cache.

        Raises `GymCodeError` for an answer that is no completion.
        """
        todo: queue.SimpleQueue[Script] = queue.SimpleQueue()
        for script in scripts:
            todo.put(script)
        counts: list[int] = []
        conversations: list[list[Span]] = []
        faults: list[str] = []
        common = {"model": self._newest(), "cache_salt": salt, **self._sampling}
        threads = [
            threading.Thread(target=self._converse, args=(todo, common, counts, conversations, faults))
            for _ in range(self._conversations)
        ]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        seconds = time.perf_counter() - began
        if faults or len(counts) != sum(map(len, scripts)):
            raise GymCodeError(f"the raw client failed: {(faults or ['requests were lost'])[0]}")
        between = share_between(conversations)
        return Lap(tokens=sum(counts), requests=len(counts), seconds=seconds, between=between)

    def _newest(self) -> str:
        connection = http.client.HTTPConnection(self._at)
        with closing(connection):
            connection.request("GET", "/v1/models", headers=self._headers)
            return str(json.loads(connection.getresponse().read())["data"][-1]["id"])

    def _converse(
        self,
        todo: queue.SimpleQueue[Script],
        common: dict[str, Any],
        counts: list[int],
        conversations: list[list[Span]],
        faults: list[str],
    ) -> None:
        connection = http.client.HTTPConnection(self._at)
        try:
            while True:
                script, spans = todo.get_nowait(), list[Span]()
                for prompt, seed in script:
                    body = json.dumps({**common, "prompt": prompt, "seed": seed})
                    began = time.perf_counter()
                    connection.request("POST", "/v1/completions", body, self._headers)
                    answer = connection.getresponse().read()
                    spans.append((began, time.perf_counter()))
                    counts.append(len(json.loads(answer)["choices"][0]["token_ids"]))
                conversations.append(spans)
        except queue.Empty:
            return
        except (OSError, http.client.HTTPException, ValueError, LookupError) as error:
            faults.append(f"{type(error).__name__}: {error}")
        finally:
            connection.close()
