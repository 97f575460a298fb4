"""Suites of tasks on disk: the format of docs/tasks.md read, written and checked."""

from __future__ import annotations

from gym_code.suite.check import check_suite
from gym_code.suite.directory import DirectorySuite, start_files
from gym_code.suite.fields import Problem
from gym_code.suite.tree import read_tree, write_tree
from gym_code.suite.write import TaskDraft, create_suite, write_task

__all__ = [
    "DirectorySuite",
    "Problem",
    "TaskDraft",
    "check_suite",
    "create_suite",
    "read_tree",
    "start_files",
    "write_task",
    "write_tree",
]
