"""The README's example prints what the README says it prints, and its commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.sandbox
def test_the_example_prints_what_it_says() -> None:
    found = re.search(r"```python\n(.*?)```\n\nprints\n\n```\n(.*?)```", README, re.DOTALL)
    assert found is not None
    ran = subprocess.run(
        [sys.executable, "-c", found[1]], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == (found[2], "", 0)


def test_the_make_targets_it_names_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = set(re.findall(r"(?<!tasks )\bmake ([a-z-]+)", README))
    assert {"train", "test", "setup"} <= named
    assert named <= targets


def test_the_files_its_tree_names_exist() -> None:
    [tree] = re.findall(r"## The tree\n\n```\n(.*?)```", README, re.DOTALL)
    assert len(tree.splitlines()) > 10
    parent = ""
    for line in tree.splitlines():
        names = re.match(r"( *)((?:[\w.]+(?:\.py|/) ?)+)", line)
        assert names is not None, line
        parent = "" if not names[1] else parent
        for name in names[2].split():
            assert (ROOT / parent / name).exists(), f"{parent}{name}"
        parent = names[2].split()[0] if not names[1] else parent
