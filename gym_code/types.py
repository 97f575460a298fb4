"""Frozen records that cross rooms. Units stand in the names; validation happens at the doors, not here."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

JSON = Any
"""A value that `json.dumps` accepts."""


class Cause(enum.StrEnum):
    """Why a command ended."""

    EXITED = "exited"
    TIMED_OUT = "timed out"
    OUT_OF_MEMORY = "out of memory"
    OUTPUT_LIMIT = "output limit"
    KILLED = "killed"


class Outcome(enum.StrEnum):
    """What became of one test. Only PASSED counts as passed."""

    PASSED = "passed"
    FAILED = "failed"
    ERROR = "error"
    SKIPPED = "skipped"
    XFAILED = "xfailed"
    XPASSED = "xpassed"
    DUPLICATED = "duplicated"
    MISSING = "missing"


class Stop(enum.StrEnum):
    """Why an episode ended: SUBMITTED terminates; every other reason truncates (FAULT is ours)."""

    SUBMITTED = "submitted"
    TURNS = "turn limit"
    TOKENS = "token limit"
    COST = "cost limit"
    SECONDS = "episode seconds"
    GAVE_UP = "policy ended without submitting"
    FAULT = "sandbox fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one episode may use. None means unlimited; sizes in bytes, times in seconds."""

    turns: int = 50
    tokens: int | None = None
    cost: float | None = None
    exec_seconds: float = 60.0
    episode_seconds: float | None = 1800.0
    output_bytes: int = 64 * 1024
    memory_bytes: int = 2 * 1024**3
    cpu_seconds: int | None = None
    processes: int = 256
    disk_bytes: int = 1024**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What a task runs in. Its content hash names the image and the store entry."""

    python: str = "3.11"
    packages: tuple[str, ...] = ()
    """Pinned requirements, `name==version`, sorted."""
    image: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """SHA-256 (hex) over the canonical JSON of all fields."""
        return canonical_digest({**asdict(self), "env": dict(self.env)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """All that an agent may know of a task. The answer lives in `Answer` and loads apart."""

    id: str
    instruction: str
    base_commit: str
    workdir: str = "/testbed"
    environment: Environment = field(default_factory=Environment)
    runner: str = "pytest"
    """The test runner, by name: a key of `gym_code.grading.runners`."""
    ids: Literal["exact", "swebench"] = "exact"
    """Whether test ids are the runner's own, or what SWE-bench's log parsers read of them on a console."""
    visible_tests: tuple[str, ...] = ()
    kind: Literal["fix", "build"] = "fix"
    """`fix`: a feature is missing in a repository (RepoFix); `build`: from scratch (RepoBuild)."""
    repo: str = ""
    family: str = ""
    difficulty: float | None = None
    limits: Limits = field(default_factory=Limits)
    provenance: Mapping[str, JSON] = field(default_factory=dict)
    digest: str = ""
    """SHA-256 (hex) over everything public and secret of the task: one digest, one task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The secret half of a task: only the grader, the oracle and the task maker load it."""

    task_id: str
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    gold_patch: bytes
    test_patch: bytes
    trust: Literal["high", "low"] = "low"
    """`low` until the task has alterable FAIL_TO_PASS tests (law 6)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """One file of a start tree. `link` is the target of a symbolic link; then content is empty."""

    content: bytes = b""
    executable: bool = False
    link: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTree:
    """The bytes a task begins from. `files` is called only where `digest` is not in the store yet.

    `digest` is `tree_digest(files())`. The store writes the files, makes one git commit of them (fixed author
    and date, so the base commit is a function of the tree) and keeps the result as an immutable layer.
    """

    digest: str
    files: Callable[[], Mapping[str, File]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecResult:
    """How a command in a sandbox ended. Output is raw bytes: head and tail, the middle counted."""

    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""
    seconds: float = 0.0
    cause: Cause = Cause.EXITED
    truncated_bytes: int = 0
    channel: bytes = b""
    """What the command wrote to its private channel (only for `exec(..., channel=True)`)."""

    @property
    def ok(self) -> bool:
        """Whether the command exited by itself with status 0."""
        return self.cause is Cause.EXITED and self.exit_code == 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCall:
    """One call a policy asks for. `arguments` as decoded from JSON, not yet validated."""

    id: str
    name: str
    arguments: Mapping[str, JSON]


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolResult:
    """What the agent sees of a call."""

    call_id: str
    content: str
    is_error: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TestReport:
    """Outcome by test id, and how long the run took. `missing` ids were asked for and never reported."""

    __test__ = False

    outcomes: Mapping[str, Outcome]
    seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the grader found. `valid` is False only with proof of a fault of ours (law 3)."""

    resolved: bool
    report: TestReport
    flags: tuple[str, ...] = ()
    controls: Mapping[str, JSON] = field(default_factory=dict)
    valid: bool = True
    grader_version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    """A value in [0, 1], or None for ungraded: None leaves the group and never counts as 0."""

    value: float | None
    parts: Mapping[str, float] = field(default_factory=dict)
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """What an engine sampled: `logprobs[i]` belongs to `token_ids[i]`."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    text: str
    finish_reason: Literal["stop", "length"]
    policy_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """One exchange: what the policy was shown since its last turn, what it said, what came back.

    `messages` are the new chat messages before the completion; before them stand those that took the place of
    what the policy dropped from its context. Text-only policies leave `prompt_token_ids` empty and fill
    `completion.text`.
    """

    messages: tuple[Mapping[str, JSON], ...] = ()
    prompt_token_ids: tuple[int, ...] = ()
    completion: Completion | None = None
    calls: tuple[ToolCall, ...] = ()
    results: tuple[ToolResult, ...] = ()
    state_digest: str = ""
    tokens: int = 0
    """Tokens that the policy used in this turn, prompt and completion, as its endpoint counts them."""
    cost: float = 0.0
    """What they cost, in the unit of `Limits.cost`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """One episode, whole: enough to replay, to train on and to grade again. `timings` is volatile."""

    schema_version: int = 1
    task_id: str
    task_digest: str
    suite: str = ""
    agent: str = ""
    group_id: str = ""
    sample_id: str = ""
    seed: int = 0
    sampling: Mapping[str, JSON] = field(default_factory=dict)
    template_digest: str = ""
    backend: str = ""
    limits: Limits = field(default_factory=Limits)
    turns: tuple[Turn, ...] = ()
    stop: Stop | None = None
    patch: bytes = b""
    reward: Reward | None = None
    error: str | None = None
    timings: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """What the trainer eats: T tokens, the ones the policy sampled marked in the mask.

    token_ids     P  P  a  a  E  a      prompt, action, environment
    action_mask   0  0  1  1  0  1
    logprobs      0  0 -.1 -2  0 -.3    of the sampling policy; 0 where the mask is 0
    advantages    0  0  .5 .5  0 .5
    """

    task_id: str
    group_id: str
    token_ids_T: tuple[int, ...]
    action_mask_T: tuple[int, ...]
    logprobs_T: tuple[float, ...]
    advantages_T: tuple[float, ...]
    policy_version: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """A LoRA adapter on disk."""

    version: int
    path: str
    digest: str
    rank: int
    alpha: float
    base_digest: str


def canonical_digest(value: JSON) -> str:
    """SHA-256 (hex) of the canonical JSON of a value: keys sorted, no spaces, non-ASCII kept."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def tree_digest(files: Mapping[str, File]) -> str:
    """SHA-256 (hex) of a tree: path, mode and content of every file, in path order."""
    sha = hashlib.sha256()
    for path in sorted(files):
        file = files[path]
        mode = "l" if file.link is not None else "x" if file.executable else "f"
        body = file.link.encode() if file.link is not None else file.content
        sha.update(f"{mode} {len(path.encode())} {len(body)} ".encode() + path.encode() + body)
    return sha.hexdigest()


def ordered_unique(values: Sequence[str]) -> tuple[str, ...]:
    """The values without repeats, first occurrence kept."""
    return tuple(dict.fromkeys(values))
