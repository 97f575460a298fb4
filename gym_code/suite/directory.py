"""A suite in a directory. The public and the secret half of a task are read by different methods."""

from __future__ import annotations

import functools
import hashlib
import importlib
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from gym_code.errors import TaskError
from gym_code.patch import apply_patch, with_changes
from gym_code.suite.fields import read_json, read_text, read_yaml
from gym_code.suite.task_yaml import ID, TaskMeta, task_meta
from gym_code.suite.tree import read_tree
from gym_code.types import Answer, StartTree, Task, canonical_digest, tree_digest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gym_code.suite.fields import Fields
    from gym_code.types import File

SUITE_FILE = "sweb.yaml"
TASK_FILE = "task.yaml"
STATEMENT_FILE = "problem_statement.md"
TESTS_FILE = "tests.json"
GOLD_FILE = "gold.patch"
TEST_FILE = "test.patch"
F2P, P2P = "FAIL_TO_PASS", "PASS_TO_PASS"
WORKDIR = "/testbed"
"""Where SWE-bench, its images and `Task` put the tree by default."""
_IMAGE_START = "gym_code.sandbox.checkout:image_start"
"""Named, not imported: only tasks whose tree lies in an image need a room above this one."""
_MAX_ID = 255
"""No directory has a longer name."""
_KEPT_TREES = 128
"""Start trees kept in memory; they share the contents of files with the source tree."""

_KEPT_IMAGE_TREES = 4
"""Start trees kept that were read from images: they share nothing, and one may have hundreds of megabytes."""


class DirectorySuite:
    """The tasks under `path/tasks`, sorted by id. Raises `TaskError` unless `sweb.yaml` is valid."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._config = suite_fields(self.path)
        raise_first(self._config)
        self.name = str(self._config.get("name") or self.path.resolve().name)
        self.description = str(self._config.get("description") or "")
        self._source = functools.lru_cache(maxsize=None)(self._read_source)
        self._start_files = functools.lru_cache(maxsize=_KEPT_TREES)(self._make_start_files)
        self._image_start = functools.lru_cache(maxsize=_KEPT_IMAGE_TREES)(self._read_image)
        self._reading: dict[str, threading.Lock] = {}
        """By task: many may ask for a tree at once, and reading it from an image is long."""
        self._meta = functools.cache(self._read_meta)

    def ids(self) -> tuple[str, ...]:
        """The ids of all tasks, sorted."""
        return task_ids(self.path)

    def task(self, task_id: str) -> Task:
        """The public half. Opens `task.yaml` and `problem_statement.md`; a secret file only as said below.

        Where `gym.visible_tests` is absent, PASS_TO_PASS is read from `tests.json`; `write_task` always
        writes it.
        """
        meta = self._meta(task_id)
        visible = meta.visible_tests
        if visible is None:
            fields = read_json(self._file(task_id, TESTS_FILE), self._shown(task_id, TESTS_FILE))
            visible = fields.strings(P2P)
            raise_first(fields)
        return Task(
            id=task_id,
            instruction=read_text(self._file(task_id, STATEMENT_FILE), self._shown(task_id, STATEMENT_FILE)),
            base_commit=meta.base_commit,
            environment=meta.environment,
            runner=meta.runner,
            ids=meta.ids,
            visible_tests=visible,
            kind=meta.kind,
            repo=meta.repo,
            family=meta.family,
            difficulty=meta.difficulty,
            limits=meta.limits,
            provenance=meta.provenance,
            digest=meta.digest,
        )

    def answer(self, task_id: str) -> Answer:
        """The secret half."""
        meta = self._meta(task_id)
        fields = read_json(self._file(task_id, TESTS_FILE), self._shown(task_id, TESTS_FILE))
        fail_to_pass, pass_to_pass = fields.strings(F2P), fields.strings(P2P)
        raise_first(fields)
        return Answer(
            task_id=task_id,
            fail_to_pass=fail_to_pass,
            pass_to_pass=pass_to_pass,
            gold_patch=self._bytes(task_id, GOLD_FILE),
            test_patch=self._bytes(task_id, TEST_FILE),
            trust=meta.trust,
        )

    def start(self, task_id: str) -> StartTree:
        """The tree the task begins from; making its files raises `TaskError` where the digest differs.

        Where the tree lies in the task's image, the image is fetched and read the first time.
        """
        meta = self._meta(task_id)
        if meta.checkout is not None:
            with self._reading.setdefault(task_id, threading.Lock()):
                return self._image_start(task_id)
        return StartTree(digest=meta.start_digest, files=lambda: self._start_files(task_id))

    def _read_image(self, task_id: str) -> StartTree:
        meta = self._meta(task_id)
        module, _, name = _IMAGE_START.partition(":")
        image_start = getattr(importlib.import_module(module), name)
        gold, tests = self._bytes(task_id, GOLD_FILE), self._bytes(task_id, TEST_FILE)
        started: StartTree
        if meta.checkout == "start":
            started = image_start(meta.environment, WORKDIR, dict, meta.checkout)
        else:
            key = canonical_digest(
                [meta.checkout, *(hashlib.sha256(each).hexdigest() for each in (gold, tests))]
            )
            started = image_start(
                meta.environment, WORKDIR, lambda files: start_files(files, gold, tests), key
            )
        return started

    def _make_start_files(self, task_id: str) -> Mapping[str, File]:
        meta = self._meta(task_id)
        gold, tests = self._bytes(task_id, GOLD_FILE), self._bytes(task_id, TEST_FILE)
        files = start_files(self._source(meta.source), gold, tests)
        digest = tree_digest(files)
        if digest != meta.start_digest:
            raise TaskError(
                "gym.start_digest",
                where=self._shown(task_id, TASK_FILE),
                expected=f"{meta.start_digest} (of repos/{meta.source} without the two patches)",
                found=digest,
            )
        return files

    def _read_source(self, name: str) -> Mapping[str, File]:
        return read_tree(self.path / "repos" / name)

    def _read_meta(self, task_id: str) -> TaskMeta:
        known = len(task_id) <= _MAX_ID and ID.fullmatch(task_id)
        if not known or not self._file(task_id, TASK_FILE).is_file():
            ids = self.ids()
            raise TaskError(
                "no such task",
                where=str(self.path),
                expected=f"one of {len(ids)} ids",
                found=repr(task_id[:_MAX_ID]),
            )
        fields = read_yaml(self._file(task_id, TASK_FILE), self._shown(task_id, TASK_FILE))
        meta = task_meta(fields, task_id)
        raise_first(fields)
        return meta

    def _file(self, task_id: str, name: str) -> Path:
        return self.path / "tasks" / task_id / name

    def _shown(self, task_id: str, name: str) -> str:
        return f"tasks/{task_id}/{name}"

    def _bytes(self, task_id: str, name: str) -> bytes:
        path = self._file(task_id, name)
        if not path.is_file():
            raise TaskError(
                "file is missing", where=self._shown(task_id, name), expected="a file", found="none"
            )
        return path.read_bytes()


def start_files(source: Mapping[str, File], gold_patch: bytes, test_patch: bytes) -> dict[str, File]:
    """The start tree: the finished source tree without the hidden tests and without the solution.

    Raises `PatchError` where a patch cannot be taken back.
    """
    without_tests = with_changes(source, apply_patch(source, test_patch, reverse=True))
    return with_changes(without_tests, apply_patch(without_tests, gold_patch, reverse=True))


def suite_fields(path: Path) -> Fields:
    """The fields of `sweb.yaml`, problems gathered. Raises `TaskError` where it cannot be read."""
    fields = read_yaml(path / SUITE_FILE, SUITE_FILE)
    fields.text("name", "")
    fields.text("description", "")
    if not fields.strings("datasets"):
        fields.problem("datasets", "at least one data set", fields.get("datasets"))
    fields.strings("splits", ["test"])
    return fields


def task_ids(path: Path) -> tuple[str, ...]:
    """The names of the directories under `tasks/` that hold a `task.yaml`, sorted."""
    root = path / "tasks"
    if not root.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in root.iterdir() if (entry / TASK_FILE).is_file()))


def raise_first(fields: Fields) -> None:
    """Raise the first problem, if there is one."""
    if fields.problems:
        raise fields.problems[0].error()
