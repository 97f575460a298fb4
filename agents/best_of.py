"""Best of n: one of the patches that an agent made for a task is chosen, without a look at the answer.

| selector | chooses |
|---|---|
| visible | the patch with which most of the visible tests pass in a clean box; ties go to the majority |
| majority | the patch that most samples agree on, up to white space, blank lines and comments |
| first | the first sample that has a patch |

The last tie goes to the smallest sample. A patch that does not apply, or changes nothing that counts, is
chosen only where there is no other: the task says that something must change. Of a task only what an agent
may know is read (`suite.task`, `suite.start`). The visible tests and what starts them are put back before
they run, as when a patch is graded, so that a patch cannot vote for itself.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agents.players import Hold
from gym_code.errors import ConfigError, SandboxError, SandboxUnavailable, TaskError
from gym_code.evaluate.store import Choice
from gym_code.files import append_lines
from gym_code.grading import GRADER_VERSION, grade
from gym_code.grading.flags import ABNORMAL, RUNNER_TAMPERED
from gym_code.grading.plan import Refused, make_plan
from gym_code.types import Answer, Outcome, canonical_digest

if TYPE_CHECKING:
    from gym_code.sandbox.base import Backend
    from gym_code.task import Suite
    from gym_code.types import File, Task

SELECTORS = ("visible", "majority", "first")

Patches = Mapping[str, Sequence[bytes | None]]
"""By task the patch of each sample; None where a sample has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A patch to look at. `key` names what can be known of it."""

    instance_id: str
    patch: bytes
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What is known of a patch without its task's answer."""

    counts: bool
    """Whether it applies and changes something that counts."""
    form: str = ""
    """Digest of what it makes of the tree, up to white space and comments."""
    passed: int | None = None
    """Visible tests that pass with it; None where that cannot be known, or was not asked."""


def choose(
    suite: Suite,
    patches: Patches,
    selector: str,
    backend: Backend,
    *,
    jobs: int = 4,
    cache: Path | None = None,
    hold: Hold = nullcontext,
    arrange: Callable[[Iterable[Candidate]], list[Candidate]] = list,
    on_done: Callable[[int, int], None] = lambda done, total: None,
) -> list[Choice]:
    """The sample that the selector takes of each task, in the order of the tasks.

    jobs: boxes at a time. cache: a file that keeps what was found of a patch, so that nothing is run twice.
    hold: see `agents.players`. arrange: the order in which patches are looked at. Raises `ConfigError` for an
    unknown selector, `SandboxUnavailable` where no box can be opened here.
    """
    if selector not in SELECTORS:
        raise ConfigError("no such selector", expected=" | ".join(SELECTORS), found=selector)
    known = _Known(cache)
    wanted: dict[str, Candidate] = {}
    for task_id, samples in patches.items():
        for patch in samples:
            if patch is not None and selector != "first":
                key = _key(suite.task(task_id), patch, selector)
                wanted[key] = Candidate(instance_id=task_id, patch=patch, key=key)
    new = arrange(candidate for key, candidate in wanted.items() if key not in known.looks)
    done = len(wanted) - len(new)
    with ThreadPoolExecutor(jobs, thread_name_prefix="choose") as threads:
        looking = {threads.submit(_look, suite, one, selector, backend, hold): one.key for one in new}
        try:
            for future in as_completed(looking):
                known.add(looking[future], future.result())
                done += 1
                on_done(done, len(wanted))
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise
    return [_choice(suite.task(task_id), samples, selector, known) for task_id, samples in patches.items()]


def _choice(task: Task, samples: Sequence[bytes | None], selector: str, known: _Known) -> Choice:
    looks = [
        # Nobody looks at a patch that is taken for being the first.
        None if patch is None else known.looks.get(_key(task, patch, selector), _Look(counts=True))
        for patch in samples
    ]
    sample, why = _chosen(looks, selector, len(task.visible_tests))
    return Choice(instance_id=task.id, sample=sample, selector=selector, why=why)


def _chosen(looks: Sequence[_Look | None], selector: str, tests: int) -> tuple[int, str]:
    """The sample that is chosen, and why. `tests`: how many visible tests there are."""
    if all(look is None for look in looks):
        return 0, "no sample has a patch"
    if selector == "first":
        return next(n for n, look in enumerate(looks) if look is not None), "the first sample with a patch"
    votes = Counter(look.form for look in looks if look is not None and look.counts)
    # Where one run is missing, no patch can be compared with it by its tests.
    tested = selector == "visible" and tests > 0
    tested = tested and all(look.passed is not None for look in looks if look is not None and look.counts)

    def merit(sample: int) -> tuple[bool, bool, int, int, int]:
        look = looks[sample]
        if look is None or not look.counts:
            return (False, look is not None, 0, 0, -sample)
        return (True, True, (look.passed or 0) if tested else 0, votes[look.form], -sample)

    best = max(range(len(looks)), key=merit)
    look = looks[best]
    if look is None or not look.counts:
        return best, "no sample has a patch that applies and changes something"
    reasons = [f"{votes[look.form]} of {len(looks)} samples agree on it"]
    if tested:
        reasons.insert(0, f"{look.passed} of {tests} visible tests pass with it")
    elif selector == "visible":
        reasons.append("there are no visible tests" if not tests else "the visible tests could not be run")
    return best, "; ".join(reasons)


def _look(suite: Suite, candidate: Candidate, selector: str, backend: Backend, hold: Hold) -> _Look:
    """Apply a patch on the host, and where it is asked for run the visible tests with it in a clean box."""
    task_id, patch = candidate.instance_id, candidate.patch
    task = suite.task(task_id)
    visible = Answer(
        task_id=task_id, fail_to_pass=(), pass_to_pass=task.visible_tests, gold_patch=b"", test_patch=b""
    )
    try:
        with hold(task_id):
            start = suite.start(task_id)
            plan = make_plan(task, visible, start.files(), patch)
            if isinstance(plan, Refused) or not plan.changes:
                return _Look(counts=False)
            form = _form(plan.changes)
            if selector != "visible" or not task.visible_tests:
                return _Look(counts=True, form=form)
            verdict = grade(task, visible, patch, backend, start).verdict
    except SandboxUnavailable:
        raise
    except (SandboxError, TaskError):
        # No box for this task, or no runner of ours: nothing is known of this patch but what it says.
        return _Look(counts=True, form=hashlib.sha256(patch).hexdigest())
    assert verdict is not None
    if not verdict.valid:
        return _Look(counts=True, form=form)
    believed = ABNORMAL.isdisjoint(verdict.flags) and RUNNER_TAMPERED not in verdict.flags
    passed = sum(outcome is Outcome.PASSED for outcome in verdict.report.outcomes.values())
    return _Look(counts=True, form=form, passed=passed if believed else 0)


def _form(changes: Mapping[str, File | None]) -> str:
    """Digest of the files that a patch leaves, up to white space at line ends, blank lines and comments."""
    return canonical_digest([[path, _normal(path, changes[path])] for path in sorted(changes)])


def _normal(path: str, file: File | None) -> str:
    if file is None or file.link is not None:
        return "removed" if file is None else f"link {file.link}"
    lines = [line.rstrip() for line in file.content.splitlines()]
    comment = b"#" if path.endswith(".py") else b"\0"
    kept = [line for line in lines if line and not line.lstrip().startswith(comment)]
    return hashlib.sha256(b"\n".join(kept)).hexdigest()


def _key(task: Task, patch: bytes, selector: str) -> str:
    digest = hashlib.sha256(patch).hexdigest()
    return canonical_digest([task.digest, task.id, digest, selector == "visible", GRADER_VERSION])


class _Known:
    """What was found of patches, kept in a file; what could not be run is tried again by the next call."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.looks: dict[str, _Look] = {}
        if path is not None and path.is_file():
            for line in path.read_bytes().splitlines():
                if _is_whole(line):
                    row = json.loads(line)
                    key = row.pop("key")
                    self.looks[key] = _Look(**row)

    def add(self, key: str, look: _Look) -> None:
        self.looks[key] = look
        if self._path is not None and (look.passed is not None or not look.counts):
            row = {"key": key, "counts": look.counts, "form": look.form, "passed": look.passed}
            append_lines(self._path, [json.dumps(row).encode() + b"\n"], _is_whole)


def _is_whole(line: bytes) -> bool:
    try:
        return "key" in json.loads(line)
    except ValueError:
        return False
