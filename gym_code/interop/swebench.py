"""SWE-bench rows and our suites, each made from the other without loss.

`import_rows` writes a suite (docs/tasks.md): a row of ours becomes the task it was exported from, byte for
byte; any other becomes a task whose start tree lies in its image. `export_rows` gives rows that SWE-bench 5
accepts.
"""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gym_code.diff import touched_paths
from gym_code.errors import InputError, PatchError
from gym_code.interop.instance import read_instances
from gym_code.interop.problems import Problems
from gym_code.interop.taskrepo import (
    DOCKERFILE,
    FILE_COLUMNS,
    HINTS_FILE,
    PATCHES,
    ROW_FILE,
    SCRIPT_FILE,
    directory_rows,
    left_out,
    plain_row,
    restored,
    same,
    shape_of,
    task_row,
)
from gym_code.patch import apply_patch, with_changes
from gym_code.suite import DirectorySuite, directory, write_tree
from gym_code.suite.fields import Fields
from gym_code.suite.task_yaml import SPLITS, task_meta
from gym_code.suite.write import TaskDraft, create_suite, task_digest, task_text, write_task
from gym_code.types import ordered_unique

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from gym_code.interop.instance import Instance
    from gym_code.task import Suite
    from gym_code.types import JSON

LIMITS = {"exec_seconds": 1800.0, "memory_bytes": 8 * 1024**3, "processes": 1024, "disk_bytes": 4 * 1024**3}
"""Of imported tasks. The time is SWE-bench's own default; memory and processes have no limit there."""
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")
"""Columns that `task.yaml` may hold; a dot would look like a field within a field."""
_LONGEST = 200
"""Longer texts are no metadata: they stay out of `task.yaml`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What was imported, and what the rows do not say."""

    tasks: int
    runners: dict[str, int]
    images: int
    """How many images hold the start trees."""
    without_script: int
    """Rows that do not say how their tests are run: SWE-bench's own harness cannot grade them."""
    missing_sources: tuple[str, ...]
    """Directories under `repos/` that rows of ours need and that a data set cannot hold."""


def import_rows(source: str, out: Path, *, limit: int | None = None) -> ImportReport:
    """Write the rows of a data set as a suite into a new or empty directory, whole or not at all.

    Raises `DataError` with what is wrong with the rows, `InputError` where `out` is taken.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            "is taken", where=str(out), expected="a new or empty directory", found="something in it"
        )
    instances = read_instances(source, limit)
    if not instances:
        raise InputError("no rows", where=source, expected="at least one", found="none")
    name = out.resolve().name
    out.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".new-{name}-", dir=out.resolve().parent))
    try:
        metas = _write_suite(instances, new, source, name)
        new.chmod(0o755)
        if out.is_dir():
            out.rmdir()
        new.rename(out.resolve())
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return ImportReport(
        tasks=len(instances),
        runners=dict(sorted(Counter(str(meta["gym"].get("runner", "pytest")) for meta in metas).items())),
        images=len({meta["gym"]["environment"]["image"] for meta in metas if "checkout" in meta["gym"]}),
        without_script=sum(instance.eval_script is None for instance in instances),
        missing_sources=tuple(sorted({meta["gym"]["source"] for meta in metas if "source" in meta["gym"]})),
    )


def _write_suite(instances: Sequence[Instance], root: Path, source: str, name: str) -> list[dict[str, Any]]:
    problems, dataset = Problems(), f"imported/{name}"
    metas = []
    for instance in instances:
        meta = _meta(instance, dataset)
        path = root / "tasks" / instance.instance_id
        path.mkdir(parents=True)
        try:
            _write_task(instance, meta, path)
        except PatchError as error:
            problems.add(instance.where, f"{instance.instance_id}: patch", error.expected or "a diff", error)
            continue
        for problem in _wrong(meta, path):
            problems.add(instance.where, f"{instance.instance_id}: {problem[0]}", problem[1], problem[2])
        metas.append(meta)
    problems.raise_any()
    datasets = dict.fromkeys(item for meta in metas for item in meta.get("datasets") or ())
    splits = dict.fromkeys(meta["split"] for meta in metas if meta["split"] != "deprecated")
    create_suite(
        root,
        name=name,
        description=f"{len(metas)} instances of {Path(source).name}",
        datasets=list(datasets) or [dataset],
        splits=list(splits) or ["test"],
    )
    return metas


def _wrong(meta: dict[str, Any], path: Path) -> Iterator[tuple[str, str, str]]:
    """(field, expected, found) of what our loader would refuse: a `gym` block that was altered."""
    fields = Fields("", meta, {})
    task_meta(fields, path.name)
    yield from ((problem.field, problem.expected, problem.found) for problem in fields.problems)
    if not fields.problems and (digest := _digest(meta, path)) != meta["gym"]["digest"]:
        yield "gym.digest", f"{digest}, of what the row says", meta["gym"]["digest"]


def _write_task(instance: Instance, meta: dict[str, Any], path: Path) -> None:
    """The files of a task; proves that the row can be read back from them."""
    row = instance.row
    gold = row["patch"] if _is_ours(row) else instance.gold_patch
    texts = {PATCHES["patch"]: gold, PATCHES["test_patch"]: instance.test_patch or ""}
    for name, text in texts.items():
        (path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    tests = {
        directory.F2P: ordered_unique(instance.fail_to_pass),
        directory.P2P: ordered_unique(instance.pass_to_pass),
    }
    others = {
        directory.STATEMENT_FILE: instance.problem_statement,
        directory.TESTS_FILE: json.dumps(tests, indent=2, ensure_ascii=False) + "\n",
        SCRIPT_FILE: instance.eval_script,
        HINTS_FILE: instance.hints or None,
        DOCKERFILE: instance.dockerfile or f"FROM {instance.image}\n",
    }
    for name, content in others.items():
        if content is not None:
            (path / name).write_bytes(content.encode())
    if instance.eval_script is not None:
        (path / SCRIPT_FILE).chmod(0o755)
    if "digest" not in meta["gym"]:
        meta["gym"]["digest"] = _digest(meta, path)
    (path / directory.TASK_FILE).write_bytes(task_text(meta).encode())
    back = plain_row(path)
    if (shape := shape_of(row, back)) is not None:
        text = json.dumps(shape, indent=1) + "\n"
        (path / ROW_FILE).write_text(text, encoding="ascii")
        back = restored(back, json.loads(text))
    if not same(back, row):
        raise InputError("cannot be kept without loss", where=instance.instance_id, expected="the same row")


def _digest(meta: dict[str, Any], path: Path) -> str:
    return task_digest(
        meta,
        (path / directory.STATEMENT_FILE).read_bytes().decode(),
        json.loads((path / directory.TESTS_FILE).read_bytes()),
        gold_patch=(path / directory.GOLD_FILE).read_bytes(),
        test_patch=(path / directory.TEST_FILE).read_bytes(),
    )


def _is_ours(row: Any) -> bool:
    """Whether a row was exported from one of our suites: its `gym` block says what no data set else does."""
    return isinstance(row.get("gym"), dict) and "digest" in row["gym"]


def _meta(instance: Instance, dataset: str) -> dict[str, Any]:
    """`task.yaml`: of a row of ours as it was; of another one its metadata, and what our loader needs."""
    if _is_ours(instance.row):
        return {key: value for key, value in instance.row.items() if key not in FILE_COLUMNS}
    meta: dict[str, Any] = {
        key: value
        for key, value in instance.row.items()
        if key not in FILE_COLUMNS and _NAME.fullmatch(key) and _is_metadata(value)
    }
    if instance.log_parser is not None:
        meta["log_parser"] = instance.log_parser
    meta |= {
        "repo": instance.repo,
        "split": instance.split if instance.split in SPLITS else "test",
        "datasets": list(instance.datasets) or [dataset],
        "image": instance.image,
    }
    meta["gym"] = {
        "kind": "fix",
        "checkout": instance.image_holds,
        "runner": instance.runner,
        "ids": "swebench",
        "environment": {"image": instance.image},
        "visible_tests": _visible(instance),
        "limits": dict(LIMITS),
        "grade": "eval",
    }
    return meta


def _is_metadata(value: JSON) -> bool:
    """Whether a value is short and plain enough for `task.yaml`."""
    if isinstance(value, str):
        return len(value) <= _LONGEST and value.isprintable()
    return isinstance(value, bool | int | float)


def _visible(instance: Instance) -> list[str]:
    """The PASS_TO_PASS tests in files that the test patch leaves alone, where ids name their files."""
    if instance.runner != "pytest":
        return []
    hidden = touched_paths((instance.test_patch or "").encode("utf-8", "surrogateescape"))
    named = [test.partition("::") for test in dict.fromkeys(instance.pass_to_pass)]
    return [path + mark + name for path, mark, name in named if mark and path not in hidden]


def export_rows(suite: Suite) -> Iterator[dict[str, JSON]]:
    """The tasks of a suite as rows, in the order of their ids. Raises `TaskError`.

    Raises `InputError` where a task directory holds more than a row can (`test_assets`).
    """
    if isinstance(suite, DirectorySuite):
        yield from _directory_rows(suite.path)
        return
    with tempfile.TemporaryDirectory(prefix="gym-code-export-") as folder:
        root = create_suite(Path(folder) / "suite", name=suite.name)
        for task_id in suite.ids():
            _write_down(suite, task_id, root)
            path = root / "tasks" / task_id
            yield task_row(path)
            shutil.rmtree(path)
            shutil.rmtree(root / "repos" / task_id)


def _directory_rows(root: Path) -> Iterator[dict[str, JSON]]:
    for file, row in directory_rows(root):
        if more := left_out(Path(file).parent):
            raise InputError(
                "more than a row can hold",
                where=str(Path(file).parent),
                expected="the files of docs/tasks.md",
                found=", ".join(more),
            )
        yield row


def _write_down(suite: Suite, task_id: str, root: Path) -> None:
    """A task made by code, written as a directory; its source tree is the start, solved and with tests."""
    task, answer = suite.task(task_id), suite.answer(task_id)
    solved = with_changes(
        suite.start(task_id).files(), apply_patch(suite.start(task_id).files(), answer.gold_patch)
    )
    write_tree(root / "repos" / task_id, with_changes(solved, apply_patch(solved, answer.test_patch)))
    about = task.provenance
    write_task(
        root,
        TaskDraft(
            instance_id=task_id,
            source=task_id,
            instruction=task.instruction,
            gold_patch=answer.gold_patch,
            test_patch=answer.test_patch,
            fail_to_pass=answer.fail_to_pass,
            pass_to_pass=answer.pass_to_pass,
            visible_tests=task.visible_tests,
            kind=task.kind,
            runner="unittest" if task.runner == "unittest" else "pytest",
            environment=task.environment,
            limits=dataclasses.asdict(task.limits),
            repo=task.repo,
            family=task.family,
            difficulty=task.difficulty,
            licence=str(about.get("licence", "Apache-2.0")),
            seed=about.get("seed"),
            grade="eval" if about.get("grade") == "eval" else "train",
            trust=answer.trust,
        ),
    )
