"""A small instance as a row of version 5, and its image: `add` subtracts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from gym_code.gitrepo import base_commit
from gym_code.interop import import_rows
from gym_code.sandbox.build import build
from gym_code.sandbox.dockerd import connect
from gym_code.sandbox.images import environment_image
from gym_code.suite import DirectorySuite
from gym_code.suite.harness_files import eval_script
from gym_code.types import Environment, File

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IMAGE = "gym-code-test/harness:toy"
ENVIRONMENT = Environment(packages=("pytest==9.2.0",))
FILES = {
    "calc.py": File(content=b"def add(a, b):\n    return a - b\n# one\n# two\n# three\n"),
    "crlf.txt": File(content=b"one\r\ntwo\r\n"),
    "tests/test_visible.py": File(
        content=b"from calc import add\n\n\ndef test_zero():\n    assert add(4, 0) == 4\n"
    ),
}
HIDDEN = "from calc import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n"
TEST_PATCH = (
    "diff --git a/tests/test_hidden.py b/tests/test_hidden.py\nnew file mode 100644\n--- /dev/null\n"
    "+++ b/tests/test_hidden.py\n@@ -0,0 +1,5 @@\n" + "".join(f"+{line}\n" for line in HIDDEN.splitlines())
)
GOLD = """\
diff --git a/calc.py b/calc.py
--- a/calc.py
+++ b/calc.py
@@ -1,4 +1,4 @@
 def add(a, b):
-    return a - b
+    return a + b
 # one
 # two
"""
ADD, ZERO = "tests/test_hidden.py::test_add", "tests/test_visible.py::test_zero"


def row(**other: Any) -> dict[str, Any]:
    """The instance, with some columns otherwise."""
    commit = base_commit(FILES)
    script = eval_script(
        workdir="/testbed",
        base_commit=commit,
        test_patch=TEST_PATCH.encode(),
        existing=(),
        runner="pytest",
        ids=(ADD, ZERO),
    )
    return {
        "instance_id": "toy__calc-1",
        "repo": "toy/calc",
        "version": "1.0",
        "base_commit": commit,
        "image": IMAGE,
        "log_parser": "parse_log_pytest",
        "eval_type": "pass_and_fail",
        "patch": GOLD,
        "test_patch": TEST_PATCH,
        "eval_script": script,
        "problem_statement": "`add` must add.",
        "hints_text": "",
        "FAIL_TO_PASS": [ADD],
        "PASS_TO_PASS": [ZERO],
        **other,
    }


def suite(path: Path, *rows: dict[str, Any]) -> DirectorySuite:
    """The rows, imported."""
    (path / "rows.jsonl").write_text("".join(json.dumps(each) + "\n" for each in rows))
    import_rows(str(path / "rows.jsonl"), path / "suite")
    return DirectorySuite(path / "suite")


def made_image() -> Iterator[str]:
    """The image of the instance, as SWE-bench's are: root's, with a repository of one commit at /testbed."""
    client = connect()
    dates = "ENV GIT_AUTHOR_DATE='946684800 +0000' GIT_COMMITTER_DATE='946684800 +0000'\n"
    identity = "-c user.name=gym-code -c user.email=gym-code@localhost"
    build(
        client,
        tag=IMAGE,
        dockerfile=f"FROM {environment_image(client, ENVIRONMENT).name}\nUSER root\nRUN rm -rf /testbed\n"
        f"COPY testbed /testbed\n{dates}"
        "RUN cd /testbed && git init -q -b main . && git -c core.autocrlf=false add -A"
        f" && git {identity} commit -q -m Start\n",
        files={f"testbed/{path}": file.content for path, file in FILES.items()},
        arguments={},
        labels={},
    )
    yield IMAGE
    client.remove_image(IMAGE, force=True)
    client.close()
