"""A box's changes as a git patch and as a digest, made by the host from data alone.

The change set comes from the keeper as plain records. Trees and blobs are written by us into a pack of our
own; one `git diff-tree` between two trees makes the text. It has no work tree, no index and no
configuration but ours, and attributes fixed above all that a tree could bring: nothing in the tree is
executed, and nothing in it steers the patch (law 7).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from gym_code.errors import SandboxError
from gym_code.sandbox.changes import is_git, within_budget
from gym_code.sandbox.gitobjects import EXECUTABLE, LINK, REGULAR, Objects
from gym_code.sandbox.lease import SCRATCH, owner_tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from gym_code.sandbox.ignore import IgnoreRules

Record = tuple[str, int, bytes, bytes]
"""kind (f, l, d, -), mode, path, body"""
Records = list[Record]
Entries = dict[bytes, tuple[bytes, bytes]]
"""path -> (git mode, blob id)"""

GIT_SECONDS = 120.0
_ATTRIBUTES = "* !filter !diff !text !ident !eol !merge !working-tree-encoding !export-subst\n"
_CONFIG = """[core]
\trepositoryformatversion = 0
\tbare = true
\tbigFileThreshold = 8m
\tattributesFile = /dev/null
"""
_ENVIRONMENT = {
    "PATH": "/usr/bin:/bin:/usr/local/bin",
    "HOME": "/nonexistent",
    "LC_ALL": "C",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_ATTR_NOSYSTEM": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
}
_DIFF = ("--no-ext-diff", "--no-textconv", "--no-color", "--no-renames", "--full-index", "--binary")


def state_digest(records: Iterable[Record]) -> str:
    """SHA-256 (hex) of a change set (bodies hashed), without what holds times (see `is_stamped`)."""
    sha = hashlib.sha256()
    for kind, mode, path, body in records:
        if not is_stamped(path):
            sha.update(
                b"%s %o %d %d " % (kind.encode(), mode if kind in "fd" else 0, len(path), len(body))
                + path
                + body
            )
    return sha.hexdigest()


def is_stamped(path: bytes) -> bool:
    """Whether a file holds times or inode numbers: git's indexes, also those of nested repositories and
    worktrees, and compiled Python. `.git` itself is a directory of the start tree, whose mode git may
    change."""
    parts = path.split(b"/")
    if b"__pycache__" in parts or path.endswith(b".pyc") or path == b".git":
        return True
    return parts[-1] == b"index" and (parts[-2:-1] == [b".git"] or parts[-4:-2] == [b".git", b"worktrees"])


def read_manifest(path: Path) -> Entries:
    """The files of a start commit."""
    raw: Mapping[str, tuple[str, str]] = json.loads(path.read_text())
    return {os.fsencode(name): (mode.encode(), bytes.fromhex(oid)) for name, (mode, oid) in raw.items()}


def apply_records(base: Entries, records: Records, objects: Objects, ignored: IgnoreRules) -> Entries:
    """The files after the changes. New files that the base's rules ignore are out, tracked ones never are;
    and so are those that would make the patch too large."""
    entries = dict(base)
    fits = within_budget(
        (len(body), path)
        for kind, _, path, body in records
        if kind in "fl" and not is_git(path) and (path in base or not ignored.match(path))
    )
    for kind, mode, path, body in records:
        if is_git(path):
            continue
        if kind in "-d":
            entries.pop(path, None)  # a directory stands where a file stood
        elif path in fits:
            entries[path] = (
                LINK if kind == "l" else EXECUTABLE if mode & 0o100 else REGULAR,
                objects.blob(body),
            )
    return entries


def make_patch(base: Entries, after: Entries, objects: Objects, alternates: Path | None) -> bytes:
    """The patch from one set of files to another. Raises `SandboxError` when git fails."""
    if base == after:
        return b""
    old, new = objects.tree(base), objects.tree(after)
    directory = tempfile.mkdtemp(
        prefix=f"gym-code-git-{owner_tag()}-", dir=SCRATCH if SCRATCH.is_dir() else None
    )
    try:
        write_repository(Path(directory), objects, alternates)
        command = ["git", "--git-dir", directory, "diff-tree", "-r", "-p", *_DIFF, old.hex(), new.hex()]
        result = subprocess.run(
            command, capture_output=True, env=_ENVIRONMENT, cwd=directory, timeout=GIT_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(f"cannot export the patch: {error}") from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    if result.returncode != 0:
        raise SandboxError(f"git cannot export the patch: {result.stderr.decode('utf-8', 'replace').strip()}")
    return result.stdout


def write_repository(directory: Path, objects: Objects, alternates: Path | None) -> None:
    """A bare repository of ours with the new objects, reading the others from the start layer."""
    (directory / "objects" / "pack").mkdir(parents=True)
    (directory / "objects" / "info").mkdir()
    (directory / "refs").mkdir()
    (directory / "info").mkdir()
    (directory / "HEAD").write_text("ref: refs/heads/none\n")
    (directory / "config").write_text(_CONFIG)
    (directory / "info" / "attributes").write_text(_ATTRIBUTES)
    if alternates is not None:
        (directory / "objects" / "info" / "alternates").write_text(f"{alternates}\n")
    pack, index = objects.pack()
    name = pack[-20:].hex()
    (directory / "objects" / "pack" / f"pack-{name}.pack").write_bytes(pack)
    (directory / "objects" / "pack" / f"pack-{name}.idx").write_bytes(index)
