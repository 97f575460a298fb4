"""`eval.sh` and `Dockerfile` of a task, for SWE-bench's own harness (our grader uses neither)."""

from __future__ import annotations

import base64
import shlex
from typing import TYPE_CHECKING

from gym_code.gitrepo import IDENTITY, MESSAGE, SECONDS

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from gym_code.types import Environment

START_MARKER = ">>>>> Start Test Output"
END_MARKER = ">>>>> End Test Output"
LOG_PARSER = "parse_log_pytest"
"""Reads lines `PASSED id`, which pytest prints with -rA and our unittest command prints too."""

_UNITTEST = """\
python - {ids} <<'GYM_CODE_TESTS'
import sys, unittest
sys.path.insert(0, "")
for name in sys.argv[1:]:
    suite = unittest.defaultTestLoader.loadTestsFromName(name)
    good = unittest.TextTestRunner(verbosity=0).run(suite).wasSuccessful()
    print("PASSED" if good else "FAILED", name, flush=True)
GYM_CODE_TESTS
"""


def eval_script(
    *,
    workdir: str,
    base_commit: str,
    test_patch: bytes,
    existing: Collection[str],
    runner: str,
    ids: Sequence[str],
) -> str:
    """The script that puts the hidden tests in place, runs them and marks their output.

    existing: the paths that the test patch touches and the start tree holds; they are reset first.
    """
    lines = ["#!/bin/bash", "set -uxo pipefail", f"cd {shlex.quote(workdir)}"]
    if existing:
        lines.append(f"git checkout {base_commit} -- {_words(sorted(existing))}")
    packed = base64.encodebytes(test_patch).decode()
    lines += [f"base64 -d <<'GYM_CODE_PATCH' | git apply -v -\n{packed}GYM_CODE_PATCH"]
    lines.append(f": '{START_MARKER}'")
    lines.append(_UNITTEST.format(ids=_words(ids)).rstrip() if runner == "unittest" else _pytest(ids))
    lines.append(f": '{END_MARKER}'")
    return "\n".join(lines) + "\n"


def _pytest(ids: Sequence[str]) -> str:
    files = dict.fromkeys(test_id.split("::")[0] for test_id in ids)
    return f"python -m pytest -rA --color=no -p no:cacheprovider {_words(list(files))}"


def dockerfile(*, instance_id: str, source: str, workdir: str, environment: Environment) -> str:
    """The image: the start tree as the commit named in `task.yaml`. Build context: the suite."""
    user, email = IDENTITY.rstrip(">").split(" <")
    git = f"git -c user.name={shlex.quote(user)} -c user.email={shlex.quote(email)}"
    commit = f"commit -q --allow-empty -m {shlex.quote(MESSAGE.strip())}"
    install = (
        f"RUN pip install --no-cache-dir {_words(environment.packages)}\n" if environment.packages else ""
    )
    env = "".join(f"ENV {key}={shlex.quote(value)}\n" for key, value in environment.env.items())
    return f"""\
# docker build -f tasks/{instance_id}/Dockerfile SUITE
FROM python:{environment.python}-slim AS start
RUN apt-get update && apt-get install -y --no-install-recommends git
COPY repos/{source} /start
COPY tasks/{instance_id}/test.patch tasks/{instance_id}/gold.patch /patches/
WORKDIR /start
RUN (test ! -s /patches/test.patch || git apply -R /patches/test.patch) \\
 && (test ! -s /patches/gold.patch || git apply -R /patches/gold.patch)
ENV GIT_AUTHOR_DATE="{SECONDS} +0000" GIT_COMMITTER_DATE="{SECONDS} +0000"
RUN git init -q -b main . && git -c core.autocrlf=false add -Af \\
 && {git} {commit}

# The patches stay behind in the first stage: no layer of the image holds the solution.
FROM python:{environment.python}-slim
RUN apt-get update && apt-get install -y --no-install-recommends git && rm -rf /var/lib/apt/lists/*
{install}{env}COPY --from=start /start {workdir}
WORKDIR {workdir}
"""


def _words(values: Sequence[str]) -> str:
    return " ".join(shlex.quote(value) for value in values)
