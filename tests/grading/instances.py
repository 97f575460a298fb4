"""Instances as SWE-bench has them, made from real source distributions."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

import pytest
from graded_toys import Toy, one_file

from gym_code.errors import InputError
from gym_code.gitrepo import base_commit
from gym_code.synth.sources import open_source
from gym_code.types import Answer, Environment, File, Limits, Task

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMITS = Limits(exec_seconds=120.0, memory_bytes=1024**3, processes=128, disk_bytes=1024**3)


@functools.cache
def sdist(requirement: str) -> Mapping[str, File]:
    """The files of a source distribution; skips where no index answers, and fails there in CI."""
    try:
        return open_source(f"pypi:{requirement}").files
    except InputError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(f"no package index answers: {error}")


def instance(
    *,
    runner: str,
    files: Mapping[str, File],
    bug: tuple[str, ...],
    hidden: str,
    fail: tuple[str, ...],
    keep: tuple[str, ...],
    packages: tuple[str, ...],
) -> Toy:
    """A task whose start has a bug (path, right text, wrong text) and lacks one of the test files."""
    path, right, wrong = bug
    text = files[path].content.decode()
    assert text.count(right) == 1
    base = {**files, path: File(content=text.replace(right, wrong).encode())}
    del base[hidden]
    task = Task(
        id=f"toy__{runner}-1",
        instruction="Find the bug.",
        base_commit=base_commit(base),
        environment=Environment(packages=packages),
        runner=runner,
        ids="swebench",
        limits=LIMITS,
    )
    answer = Answer(
        task_id=task.id,
        fail_to_pass=fail,
        pass_to_pass=keep,
        gold_patch=one_file(path, base[path], text),
        test_patch=one_file(hidden, None, files[hidden].content.decode()),
    )
    return Toy(task=task, answer=answer, base=base)
