"""An engine that samples on vLLM servers: token ids out, token ids and logprobs back, weights as adapters.

Every version of the policy is a LoRA adapter, served unmerged under a name and a cache salt of its own on
every replica, and proven there before a token is sampled from it (law 9, `delivery.py`). A replica that
fails is left out and its requests go to the others; a completion that cannot be trusted is dropped and
counted, never scored.
"""

from __future__ import annotations

import json
import math
import queue
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from gym_code.errors import ConfigError
from gym_code.types import Completion
from train.engine.base import (
    DeliveryError,
    Dropped,
    EngineError,
    OverdueError,
    ReplicaError,
    Request,
    Sampling,
)
from train.engine.delivery import (
    LOOSE,
    PROMPTS,
    TOLERANCE,
    Probe,
    Proof,
    judge,
    make_probe,
    perturbed,
    probe_logprobs,
    rms,
    write_adapter,
)
from train.engine.replica import REQUEST_SECONDS, Refused, Replica
from train.engine.server import SLOTS

ATTEMPTS = 3
"""How often a request is sent to servers that are healthy and yet fail at it, before it is dropped."""
LAUNCHES = 4
"""How often a run starts a server of its own, the first time included."""
IMPOSSIBLE = -9998.0
"""vLLM writes minus infinity as -9999: a token that could not have been sampled was."""


class VllmEngine:
    """Samples from the adapter of `model` on replicas, for as many conversations as `concurrency`.

    `directory` (which the servers must be able to read) holds the adapters while they are served.
    """

    concurrent = True

    def __init__(
        self,
        model: Any,
        replicas: Sequence[Replica],
        directory: Path,
        *,
        end_ids: Sequence[int],
        max_length: int,
        concurrency: int,
        dtype: str = "float32",
        sleeps: bool = False,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._model, self._directory, self._report = model, directory, report
        self._sleeps = sleeps
        self._end_ids, self._max_length = tuple(end_ids), max_length
        self._tolerance = TOLERANCE.get(dtype, LOOSE)
        self._alive, self._lost = list(replicas), list[str]()
        self._replicas = tuple(replicas)
        self._replica_of: dict[str, Replica] = {}
        self._lock, self._reviving = threading.Lock(), threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=concurrency, thread_name_prefix="vllm")
        # Apart from them: while a server is proven, all others may be waiting for it.
        self._probing = ThreadPoolExecutor(max_workers=min(PROMPTS, concurrency), thread_name_prefix="probe")
        self._asked: dict[str, Future[Completion | Dropped]] = {}
        self._completed: queue.SimpleQueue[str] = queue.SimpleQueue()
        """Keys of requests that are complete; the empty key has a waiting `collect` return."""
        self._counts: Counter[str] = Counter()
        # Another run, or this one before a crash, may have left adapters on a server that is given by URL.
        self._run = secrets.token_hex(4)
        self._serving: tuple[int, str] | None = None
        self._names: list[str] = []
        self._in_use: Counter[str] = Counter()
        """Requests on their way, by the adapter they ask for."""
        self._proof: Proof | None = None
        self._probe: Probe = make_probe(model, max_length)
        self._last_PK = self._base_PK = self._new_PK = self._base_logprobs()
        shutil.rmtree(directory, ignore_errors=True)
        report("vLLM is proven with a perturbed adapter")
        self._noise, self._closed = 0.0, threading.Event()
        self._noise = self._prove_servers()

    def submit(self, request: Request, sampling: Sampling) -> None:
        """Send a request on its way. Raises `ConfigError` for a prompt that leaves no room."""
        if len(request.prompt_ids) + sampling.max_tokens > self._max_length:
            raise ConfigError(
                "the prompt leaves no room for a completion",
                where=request.key,
                expected=f"at most {self._max_length - sampling.max_tokens} tokens",
                found=len(request.prompt_ids),
            )
        if self._serving is None:
            self.set_version(0)
        future = self._threads.submit(self._complete, request, sampling)
        self._asked[request.key] = future
        future.add_done_callback(lambda _: self._completed.put(request.key))

    def collect(self, timeout: float | None = None) -> list[tuple[str, Completion | Dropped]]:
        """What has completed, as it does. Raises `EngineError` when no replica is left."""
        if not self._asked:
            return []
        keys = []
        try:
            keys.append(self._completed.get(timeout=timeout))
            while True:
                keys.append(self._completed.get_nowait())
        except queue.Empty:
            pass
        # What was given up, and perhaps asked for anew, is not complete.
        done = [key for key in dict.fromkeys(keys) if key in self._asked and self._asked[key].done()]
        return [(key, self._asked.pop(key).result()) for key in done]

    def wake(self) -> None:
        """Have a waiting `collect` return."""
        self._completed.put("")

    def forget(self, key: str) -> None:
        """Forget which replica holds the conversation, and whatever is still asked for it."""
        if (future := self._asked.pop(key, None)) is not None:
            future.cancel()
        with self._lock:
            self._replica_of.pop(key, None)

    def set_version(self, version: int) -> None:
        """Deliver the adapter as it is now to every replica, and prove it. Raises `DeliveryError`.

        Requests that are on their way end under the version they began with.
        """
        self._revive()
        with self._reviving:  # or a server that is revived now would miss the new adapter
            new_PK = probe_logprobs(self._model, self._probe)
            name = f"policy-{self._run}-v{version}-{secrets.token_hex(2)}"
            self._load(name)
            self._new_PK = new_PK
            proofs = self._judged(name, tuple(self._alive))
            self._proof = max(proofs, key=lambda proof: proof.new)
            if self._proof.proven:
                # A version too near to its predecessor leaves the older one to compare with: what never
                # arrives shows as soon as the sum of the changes can be seen.
                self._last_PK = new_PK
            with self._lock:
                self._serving = (version, name)
                self._replica_of.clear()
            self._retire()

    @contextmanager
    def resting(self) -> Iterator[None]:
        """Servers that share a GPU with the trainer sleep meanwhile (`sleeps`); others do not mind."""
        if self._sleeps:
            self._on_all(Replica.sleep)
        yield
        if self._sleeps:
            if torch.cuda.is_available():
                torch.cuda.empty_cache()  # what the update took is the servers' again
            self._on_all(Replica.rouse)

    def take_metrics(self) -> dict[str, float]:
        """Version, distances of its proof (nats), replicas left; since the last call, dropped completions,
        requests sent again and servers started again.
        """
        made: dict[str, float] = {"replicas": len(self._alive)}
        if self._serving is not None and self._proof is not None:
            made["delivered_version"] = self._serving[0]
            made |= {"probe_new": self._proof.new, "probe_last": self._proof.last}
            made |= {"probe_base": self._proof.base, "probe_proven": float(self._proof.proven)}
        with self._lock:
            made |= {key: self._counts[key] for key in ("dropped", "retried", "revived")}
            self._counts.clear()
        return made

    def close(self) -> None:
        """End the servers that are ours, unload our adapters from the others, remove the adapter files."""
        self._closed.set()
        self._threads.shutdown(wait=False, cancel_futures=True)
        for replica in self._replicas:
            if replica.server is None and replica in self._alive:
                self._unload(replica, self._names)
            replica.close()
        self._threads.shutdown(wait=True)
        self._probing.shutdown(wait=True)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _complete(self, request: Request, sampling: Sampling) -> Completion | Dropped:
        with self._lock:
            assert self._serving is not None
            version, name = self._serving
            self._in_use[name] += 1
        try:
            return self._ask(request, sampling, version, name)
        finally:
            with self._lock:
                self._in_use[name] -= 1

    def _ask(self, request: Request, sampling: Sampling, version: int, name: str) -> Completion | Dropped:
        body = _body(name, request.prompt_ids, sampling.temperature, sampling.max_tokens) | {
            "seed": request.seed,
            "logprobs": 0,
            # Only the end mark ends a completion, as in the trainer's own engine.
            "ignore_eos": True,
            "stop_token_ids": list(self._end_ids),
        }
        fault = ""
        attempt = 0
        while attempt < ATTEMPTS:
            replica = self._choose(request.key)
            try:
                made = _read(replica.post("/v1/completions", body, REQUEST_SECONDS), version, self._end_ids)
            except (ReplicaError, Refused) as error:
                fault = str(error)
                with self._lock:
                    self._counts["retried"] += 1
                if self._closed.is_set():
                    break
                # Prompt and sampling are right: a server that refuses them has been restarted without us. One
                # that says it is healthy and lets a completion wait for so long will not do better next time.
                if not isinstance(error, Refused | OverdueError) and replica.healthy():
                    attempt += 1
                    time.sleep(0.1 * attempt)
                else:
                    self._lose(replica, fault)
                continue
            if isinstance(made, Dropped):
                with self._lock:
                    self._counts["dropped"] += 1
            return made
        with self._lock:
            self._counts["dropped"] += 1
        return Dropped(reason=f"failed {ATTEMPTS} times; the last: {fault}")

    def _choose(self, key: str) -> Replica:
        """The replica that has the conversation's cache, or the one with the fewest conversations."""
        for revived in (False, True):
            with self._lock:
                replica = self._replica_of.get(key)
                if replica is None or replica not in self._alive:
                    load = Counter(map(id, self._replica_of.values()))
                    replica = min(self._alive, key=lambda r: load[id(r)], default=None)
                if replica is not None:
                    self._replica_of[key] = replica
                    return replica
            if not revived:
                self._revive()
        raise EngineError("no vLLM server is left; " + "; ".join(self._lost))

    def _revive(self) -> None:
        """Start servers of ours that have died again, with what they served, proven anew."""
        with self._reviving:
            for replica in self._replicas:
                server = replica.server
                if (
                    replica in self._alive
                    or server is None
                    or server.launches >= LAUNCHES
                    or self._closed.is_set()
                ):
                    continue
                try:
                    server.close()
                    server.launch()
                    if self._closed.is_set():  # meanwhile, in another thread
                        server.close()
                        return
                    server.wait(replica.healthy, self._report)
                    replica.check(self._max_length)
                    for name in self._names:
                        replica.load(name, self._directory.resolve() / name)
                    if self._serving is not None:
                        self._judged(self._serving[1], (replica,))
                except ReplicaError as error:
                    self._lost.append(str(error))
                    continue
                with self._lock:
                    self._counts["revived"] += 1
                    self._alive.append(replica)

    def _lose(self, replica: Replica, reason: str) -> None:
        with self._lock:
            if replica in self._alive:
                self._alive.remove(replica)
                if replica.server is not None:
                    reason += f"; the end of {replica.server.log}:\n{replica.server.tail()}"
                self._lost.append(reason)

    def _on_all(
        self, work: Callable[[Replica], Any], replicas: Sequence[Replica] | None = None
    ) -> list[tuple[Replica, Any]]:
        """Do something on every replica; those that die of it are left out. `EngineError` at the last."""
        done = []
        for replica in tuple(self._alive) if replicas is None else replicas:
            try:
                done.append((replica, work(replica)))
            except ReplicaError as error:
                self._lose(replica, str(error))
        if not done:
            raise EngineError("no vLLM server is left; " + "; ".join(self._lost))
        return done

    def _load(self, name: str) -> None:
        path = write_adapter(self._model, self._directory, name)
        self._names.append(name)
        try:
            self._on_all(lambda replica: replica.load(name, path))
        except Refused as error:
            raise DeliveryError(f"the adapter was refused: {error}") from error

    def _retire(self) -> None:
        """Unload what the ring of slots has no room for and nobody asks for any more; remove its files."""
        with self._lock:
            old = [name for name in self._names[:-SLOTS] if not self._in_use[name]]
            self._names = [name for name in self._names if name not in old]
        self._on_all(lambda replica: self._unload(replica, old))
        for name in old:
            shutil.rmtree(self._directory / name)

    def _unload(self, replica: Replica, names: Sequence[str]) -> None:
        for name in names:
            try:
                replica.unload(name)
            except Refused:
                # It is not there: nothing to unload.
                continue

    def _base_logprobs(self) -> torch.Tensor:
        with self._model.disable_adapter():
            return probe_logprobs(self._model, self._probe)

    def _prove_servers(self) -> float:
        """Step 0: a fresh adapter is the base; a perturbed one has to prove that adapters arrive at all."""
        self._on_all(lambda replica: replica.check(self._max_length))
        with perturbed(self._model, self._probe):
            name = f"policy-{self._run}-perturbed"
            self._load(name)
            new_PK, hot_PK = (probe_logprobs(self._model, self._probe, t) for t in (1.0, 2.0))
        for where, served_PK in self._served(name, 2.0, self._alive):
            if rms(served_PK - new_PK) < rms(served_PK - hot_PK):
                raise DeliveryError(
                    f"{where}: the server returns logprobs before temperature: start it with "
                    "--logprobs-mode processed_logprobs"
                )
        self._new_PK = new_PK
        proofs = self._judged(name, tuple(self._alive))
        self._last_PK = new_PK
        return max(proof.new for proof in proofs)

    def _judged(self, name: str, replicas: Sequence[Replica]) -> list[Proof]:
        """Law 9 for an adapter of that name whose logprobs are `_new_PK`. Raises `DeliveryError`."""
        others = {"last": self._last_PK, "base": self._base_PK}
        return [
            judge(served_PK, self._new_PK, others, tolerance=self._tolerance, noise=self._noise, where=where)
            for where, served_PK in self._served(name, 1.0, replicas)
        ]

    def _served(
        self, name: str, temperature: float, replicas: Sequence[Replica]
    ) -> list[tuple[str, torch.Tensor]]:
        """The logprobs (P, K) of the probe's tokens, from each replica, the way rollouts are sampled."""

        def ask(replica: Replica) -> torch.Tensor:
            bodies = [
                _body(name, prompt, temperature, 1)
                | {"logprobs": len(tokens), "logprob_token_ids": list(tokens)}
                for prompt, tokens in zip(self._probe.prompts_PL, self._probe.tokens_PK, strict=True)
            ]
            answers = self._probing.map(lambda body: replica.post("/v1/completions", body), bodies)
            try:
                rows = [
                    _fixed(answer, tokens)
                    for answer, tokens in zip(answers, self._probe.tokens_PK, strict=True)
                ]
            except Refused as error:
                raise DeliveryError(f"the probe was refused: {error}") from error
            return torch.tensor(rows)

        return [(replica.url, rows) for replica, rows in self._on_all(ask, tuple(replicas))]


def _body(name: str, prompt_ids: Sequence[int], temperature: float, max_tokens: int) -> dict[str, Any]:
    """What rollouts and probes have in common: nothing that would bend the distribution."""
    return {
        "model": name,
        "prompt": list(prompt_ids),
        "cache_salt": name,
        "temperature": temperature,
        "max_tokens": max_tokens,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "repetition_penalty": 1.0,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def _read(answer: bytes, version: int, end_ids: Sequence[int]) -> Completion | Dropped:
    """A completion from an answer, or what is wrong with it."""
    choice = _choice(answer)
    tokens = choice.get("token_ids")
    logprobs = (choice.get("logprobs") or {}).get("token_logprobs")
    if not tokens or not logprobs or len(tokens) != len(logprobs):
        return Dropped(reason="tokens or logprobs are missing")
    if any(value is None or not math.isfinite(value) or value <= IMPOSSIBLE for value in logprobs):
        return Dropped(reason="a logprob is missing or no number")
    return Completion(
        token_ids=tuple(tokens),
        logprobs=tuple(logprobs),
        text="",
        finish_reason="stop" if tokens[-1] in end_ids else "length",
        policy_version=version,
    )


def _fixed(answer: bytes, tokens: Sequence[int]) -> list[float]:
    """The logprobs of fixed tokens after a prompt."""
    found = ((_choice(answer).get("logprobs") or {}).get("top_logprobs") or [{}])[0] or {}
    names = [f"token_id:{token}" for token in tokens]
    if any(found.get(name) is None for name in names):
        raise DeliveryError("the server gave no logprobs of fixed tokens (logprob_token_ids): vLLM 0.32 does")
    return [float(found[name]) for name in names]


def _choice(answer: bytes) -> dict[str, Any]:
    try:
        choice = json.loads(answer)["choices"][0]
    except (ValueError, LookupError, TypeError) as error:
        raise ReplicaError(f"not a completion: {answer[:200]!r}") from error
    if not isinstance(choice, dict):
        raise ReplicaError(f"not a completion: {answer[:200]!r}")
    return choice
