"""Write tasks: what a task maker knows goes in, everything that follows from it is worked out."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from gym_code.diff import touched_paths
from gym_code.errors import TaskError
from gym_code.files import replace_file
from gym_code.gitrepo import base_commit
from gym_code.patch import apply_patch
from gym_code.suite import directory, harness_files
from gym_code.suite.directory import start_files
from gym_code.suite.fields import read_json, read_text
from gym_code.suite.task_yaml import ID, expected_image
from gym_code.suite.tree import read_tree
from gym_code.types import JSON, Environment, Limits, canonical_digest, ordered_unique, tree_digest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gym_code.types import File


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDraft:
    """What a task maker says of a task; `repos/SOURCE` holds the source tree, with solution and tests."""

    instance_id: str
    source: str
    instruction: str
    gold_patch: bytes
    """From the start tree to the solution."""
    test_patch: bytes
    """From the solution to the source tree: the hidden tests."""
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...] = ()
    visible_tests: tuple[str, ...] | None = None
    """None: the PASS_TO_PASS tests whose file the test patch does not touch."""
    kind: Literal["fix", "build"] = "fix"
    runner: Literal["pytest", "unittest"] = "pytest"
    environment: Environment = field(default_factory=Environment)
    limits: Mapping[str, JSON] = field(default_factory=dict)
    """Fields of `Limits` that are not at their default."""
    repo: str = ""
    """`owner/name`; default `gym-code/SOURCE`."""
    version: str = "1.0"
    family: str = ""
    removed: tuple[str, ...] = ()
    level: Literal["line", "function", "class", "module", "feature", "application"] = "feature"
    difficulty: float | None = None
    licence: str = "Apache-2.0"
    grade: Literal["train", "eval"] = "train"
    seed: int | None = None
    evidence: Mapping[str, JSON] = field(default_factory=dict)
    """How it was validated: gold_runs, noop_runs, gold_seconds (how long the gold patch's tests took)."""
    trust: Literal["high", "low"] = "low"


def create_suite(
    path: str | Path,
    *,
    name: str,
    description: str = "",
    datasets: Sequence[str] = (),
    splits: Sequence[str] = ("test",),
) -> Path:
    """Make an empty suite (its directory may exist, its `sweb.yaml` is replaced); the path of the suite."""
    root = Path(path)
    (root / "tasks").mkdir(parents=True, exist_ok=True)
    (root / "repos").mkdir(exist_ok=True)
    config = {
        "name": name,
        "description": description,
        "datasets": list(datasets) or [f"gym-code/{name}"],
        "splits": list(splits),
    }
    replace_file(root / directory.SUITE_FILE, task_text(config).encode())
    return root


def write_task(suite_dir: str | Path, draft: TaskDraft) -> Path:
    """Write the task, whole or not at all, over one of the same id; its directory.

    Raises `TaskError` for a bad id or a missing source tree, `PatchError` where the patches cannot be
    taken back.
    """
    root = Path(suite_dir)
    if not ID.fullmatch(draft.instance_id):
        raise TaskError("instance_id", expected=f"text like {ID.pattern}", found=repr(draft.instance_id))
    config = directory.suite_fields(root)
    directory.raise_first(config)
    source = read_tree(root / "repos" / draft.source)
    start = start_files(source, draft.gold_patch, draft.test_patch)
    apply_patch(
        start, draft.test_patch
    )  # The grader adds the hidden tests to the start, not to the solution.
    files = _files(draft, start, list(config.strings("datasets")))
    target = root / "tasks" / draft.instance_id
    target.parent.mkdir(exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".new-{draft.instance_id}-", dir=root))
    try:
        for name, content in files.items():
            (new / name).write_bytes(content)
        (new / "eval.sh").chmod(0o755)
        new.chmod(0o755)
        if target.exists():
            old = Path(tempfile.mkdtemp(prefix=f".old-{draft.instance_id}-", dir=root))
            target.rename(old / "task")
            new.rename(target)
            shutil.rmtree(old)
        else:
            new.rename(target)
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return target


def _files(draft: TaskDraft, start: Mapping[str, File], datasets: list[str]) -> dict[str, bytes]:
    commit = base_commit(start)
    hidden = touched_paths(draft.test_patch)
    tests = {"FAIL_TO_PASS": list(draft.fail_to_pass), "PASS_TO_PASS": list(draft.pass_to_pass)}
    meta = _meta(draft, commit, tree_digest(start), datasets)
    meta["gym"]["digest"] = task_digest(
        meta, draft.instruction, tests, gold_patch=draft.gold_patch, test_patch=draft.test_patch
    )
    script = harness_files.eval_script(
        workdir=directory.WORKDIR,
        base_commit=commit,
        test_patch=draft.test_patch,
        existing=[path for path in hidden if path in start],
        runner=draft.runner,
        ids=ordered_unique((*draft.fail_to_pass, *draft.pass_to_pass)),
    )
    image = harness_files.dockerfile(
        instance_id=draft.instance_id,
        source=draft.source,
        workdir=directory.WORKDIR,
        environment=draft.environment,
    )
    return {
        directory.TASK_FILE: task_text(meta).encode(),
        directory.STATEMENT_FILE: draft.instruction.encode(),
        directory.TESTS_FILE: (json.dumps(tests, indent=2, ensure_ascii=False) + "\n").encode(),
        directory.GOLD_FILE: draft.gold_patch,
        directory.TEST_FILE: draft.test_patch,
        "eval.sh": script.encode(),
        "Dockerfile": image.encode(),
    }


def _meta(draft: TaskDraft, commit: str, start_digest: str, datasets: list[str]) -> dict[str, Any]:
    visible = draft.visible_tests
    if visible is None:
        hidden = touched_paths(draft.test_patch)
        visible = tuple(t for t in draft.pass_to_pass if not _in_files(t, hidden, draft.runner))
    environment = dataclasses.asdict(draft.environment)
    gym: dict[str, Any] = {
        "kind": draft.kind,
        "source": draft.source,
        "start_digest": start_digest,
        "runner": draft.runner,
        "environment": {
            "python": environment["python"],
            "packages": list(environment["packages"]),
            **({"image": environment["image"]} if environment["image"] else {}),
            "env": dict(environment["env"]),
        },
        "visible_tests": list(visible),
        "limits": {name: value for name, value in draft.limits.items() if value != _default_limit(name)},
        "removed": list(draft.removed),
        "level": draft.level,
        "difficulty": draft.difficulty,
        "licence": draft.licence,
        "grade": draft.grade,
        "seed": draft.seed,
        "evidence": dict(draft.evidence),
        "trust": draft.trust,
    }
    if draft.family:
        gym["family"] = draft.family
    return {
        "instance_id": draft.instance_id,
        "repo": draft.repo or f"gym-code/{draft.source}",
        "version": draft.version,
        "base_commit": commit,
        "split": "test",
        "datasets": datasets,
        "image": expected_image(draft.instance_id),
        "log_parser": harness_files.LOG_PARSER,
        "eval_type": "pass_and_fail",
        "gym": gym,
    }


def _default_limit(name: str) -> object:
    return getattr(Limits(), name, None)


def _in_files(test_id: str, paths: frozenset[str], runner: str) -> bool:
    if runner == "unittest":
        parts = test_id.split(".")
        return any("/".join(parts[:end]) + ".py" in paths for end in range(1, len(parts)))
    return test_id.split("::")[0] in paths


def task_digest(
    meta: Mapping[str, Any],
    instruction: str,
    tests: Mapping[str, Any],
    *,
    gold_patch: bytes,
    test_patch: bytes,
) -> str:
    """SHA-256 (hex) over everything public and secret of a task but the digest itself."""
    gym = {key: value for key, value in meta["gym"].items() if key != "digest"}
    return canonical_digest(
        {
            "task": {**meta, "gym": gym},
            "instruction": instruction,
            "tests": dict(tests),
            "gold_patch": hashlib.sha256(gold_patch).hexdigest(),
            "test_patch": hashlib.sha256(test_patch).hexdigest(),
        }
    )


def digest_on_disk(path: Path, meta: Mapping[str, Any]) -> str:
    """`task_digest` of the task in this directory, given what its `task.yaml` holds. Raises `TaskError`."""
    return task_digest(
        meta,
        read_text(path / directory.STATEMENT_FILE, directory.STATEMENT_FILE),
        read_json(path / directory.TESTS_FILE, directory.TESTS_FILE).data,
        gold_patch=(path / directory.GOLD_FILE).read_bytes(),
        test_patch=(path / directory.TEST_FILE).read_bytes(),
    )


def task_text(value: Mapping[str, Any]) -> str:
    """A mapping as `task.yaml` and `sweb.yaml` are written: keys in order, Unicode as it is."""
    return yaml.safe_dump(dict(value), sort_keys=False, allow_unicode=True, width=100)
