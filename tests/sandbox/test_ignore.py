"""The ignore rules agree with git's own `check-ignore`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gym_code.sandbox.ignore import LITTER, IgnoreRules

PATHS = [
    "a", "b", "a.log", "keep.log", "sub/a", "sub/a.log", "sub/keep.log", "sub/deep/a", "sub/deep/a.txt",
    "build/x", "sub/build/x", "doc/a.txt", "doc/b/a.txt", "#hash", "!bang", "with space", "trail ", "x[1]",
    "x1", ".hidden/a", "é/ü",
]  # fmt: skip
FILES = [
    {"": "*.log\n!keep.log\n"},
    {"": "/a\nbuild/\n"},
    {"": "doc/*.txt\n"},
    {"": "doc/**/a.txt\n"},
    {"": "**/deep\n"},
    {"": "sub/**\n!sub/a\n"},
    {"": "*\n!*/\n!*.txt\n"},
    {"": "\\#hash\n\\!bang\nwith\\ space\ntrail\\ \n"},
    {"": "x[0-9]\n"},
    {"": "x\\[1\\]\n"},
    {"": "[!a]\n"},
    {"": "# comment\n\n   \na   \n"},
    {"": "*.log\n", "sub": "!a.log\n/deep\n"},
    {"": "sub\n", "sub": "!a\n"},
    {"": "é/\n.*\n!.gitignore\n"},
    {"": "a\r\n"},
    {"": "[\nb\n"},
    {"": "?\n"},
    {"": "sub/\n!sub/\n"},
]


def git_says(tree: Path, rules: dict[str, str]) -> set[str]:
    for folder, text in rules.items():
        (tree / folder).mkdir(parents=True, exist_ok=True)
        (tree / folder / ".gitignore").write_bytes(text.encode())
    litter = tree.parent / "litter"
    litter.write_bytes(LITTER)
    command = ["git", "-c", f"core.excludesFile={litter}", "check-ignore", "--no-index", "--stdin", "-z"]
    data = b"".join(path.encode() + b"\0" for path in PATHS)
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", "init", "-q", str(tree)], check=True, env=environment)
    result = subprocess.run(command, cwd=tree, input=data, capture_output=True, env=environment, check=False)
    assert result.returncode in (0, 1), result.stderr
    return {path.decode() for path in result.stdout.split(b"\0") if path}


def we_say(rules: dict[str, str]) -> set[str]:
    files = [(os.path.join(folder, ".gitignore").encode(), text.encode()) for folder, text in rules.items()]
    ours = IgnoreRules.from_files(files)
    return {path for path in PATHS if ours.match(path.encode())}


@pytest.mark.parametrize("rules", FILES)
def test_we_agree_with_git(tmp_path: Path, rules: dict[str, str]) -> None:
    assert we_say(rules) == git_says(tmp_path / "tree", rules)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text("ab*?/!.[]\\ log", min_size=1, max_size=8), max_size=4))
def test_we_agree_with_git_on_anything(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    rules = {"": "\n".join(lines) + "\n"}
    assert we_say(rules) == git_says(tmp_path_factory.mktemp("any") / "tree", rules)
