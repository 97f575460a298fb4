"""Pin an environment: what the tests of a repository need, as `name==version`, by pip's own resolver.

`pip install --dry-run --only-binary :all:` resolves against the user's indexes and installs nothing; wheels
alone are looked at, so no code of a package runs here.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from gym_code.errors import InputError
from gym_code.synth.sources import normalise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gym_code.types import File

PIP_SECONDS = 300

KNOWN = {
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python-headless",
    "Crypto": "pycryptodome",
    "dateutil": "python-dateutil",
    "docx": "python-docx",
    "dotenv": "python-dotenv",
    "git": "gitpython",
    "google.protobuf": "protobuf",
    "jwt": "pyjwt",
    "OpenSSL": "pyopenssl",
    "PIL": "pillow",
    "pkg_resources": "setuptools",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}
"""Modules whose project has another name."""

_NAMED_IN = re.compile(
    r"(^|/)(pyproject\.toml|setup\.(py|cfg)|tox\.ini|noxfile\.py|.*requirements.*\.(txt|in))$"
)
_BY_NAME = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]*\s*(\[[\w\s,.-]*\])?\s*(\(?\s*[<>=!~][^@/\\]*)?(;.*)?", re.DOTALL
)
_MISSING = re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '([\w.]+)'")


def pin(requirements: Iterable[str], *, where: str = "") -> tuple[str, ...]:
    """All packages that satisfy the requirements, pinned and sorted. `InputError` if pip finds none."""
    wanted = sorted(set(requirements))
    if not wanted:
        return ()
    for text in wanted:
        # A direct reference (`name @ git+https:...`) or a path would make pip fetch and build a tree.
        if not _BY_NAME.fullmatch(text):
            raise InputError("requirement by address", where=where, expected="NAME and versions", found=text)
    command = [sys.executable, "-I", "-m", "pip", "install", "--dry-run", "--ignore-installed", "--quiet"]
    command += ["--only-binary", ":all:", "--report", "-", "--", *wanted]
    try:
        with tempfile.TemporaryDirectory(prefix="gym-code-pins-") as empty:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PIP_SECONDS, check=False, cwd=empty
            )
    except subprocess.TimeoutExpired:
        raise InputError(f"pip found no versions in {PIP_SECONDS} s", where=where) from None
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        raise InputError(f"cannot pin {', '.join(wanted)}: {reason}", where=where)
    report = json.loads(done.stdout)
    found = (item["metadata"] for item in report["install"])
    return tuple(sorted(f"{normalise(item['name'])}=={item['version']}" for item in found))


def missing_module(texts: Iterable[str]) -> str | None:
    """The first module that a collection error names as missing."""
    for text in texts:
        match = _MISSING.search(text)
        if match:
            return match.group(1)
    return None


def project_of(module: str, files: Mapping[str, File]) -> str | None:
    """The project to install for a missing module; None where neither the table nor the repository names it.

    A guess that the repository itself never mentions is not made: anyone may own that name on an index.
    """
    top = module.partition(".")[0]
    known = KNOWN.get(module) or KNOWN.get(top)
    if known:
        return known
    name = re.compile(rf"(?<![\w-]){re.escape(top).replace('_', '[-_.]')}(?![\w-])", re.IGNORECASE)
    for path, file in files.items():
        if _NAMED_IN.search(path) and name.search(file.content.decode("utf-8", "replace")):
            return normalise(top)
    return None
