"""Where a repository comes from: `pypi:NAME==VERSION`, `path:DIRECTORY` or `git:URL-or-path[@REVISION]`.

`pypi:NAME==VERSION#sha256=HEX` also says which archive it must be.

Nothing of the source is executed on the host: archives are read member by member into memory, git trees blob
by blob without a checkout (no hook, filter or attribute can act). Leftovers from which an agent could read a
removed body back (caches, builds, installed metadata, history) are scrubbed here, once.
"""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from configparser import ConfigParser
from configparser import Error as ConfigParserError
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from gym_code.errors import InputError
from gym_code.types import File

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAX_TREE_BYTES = 128 * 1024**2
MAX_FILES = 20_000
FETCH_SECONDS = 300

_CACHE_DIRS = frozenset(
    {"__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".cache", ".tox", ".nox"}
    | {".git", ".hg", ".svn", ".eggs", "htmlcov", ".venv", "venv", "node_modules", ".idea", ".vscode"}
)
_BUILD_DIRS = frozenset({"build", "dist", "_build"})
_METADATA_SUFFIXES = (".egg-info", ".dist-info")
_LEFTOVER = re.compile(r"(\.py[cod]|\.so|\.orig|\.rej|\.bak|\.swp|~)$|^(\.coverage.*|PKG-INFO|\.DS_Store)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A repository, scrubbed: what tasks are cut from."""

    origin: str
    """The reference it came from."""
    name: str
    """Normalised project name (PEP 503)."""
    version: str
    files: Mapping[str, File]
    """Path relative to the root, with forward slashes."""
    licence: str = "unknown"
    requires: tuple[str, ...] = ()
    """Runtime requirements (PEP 508), extras left out."""
    scrubbed: tuple[str, ...] = ()
    """Paths of the leftovers taken out."""


def open_source(reference: str) -> Source:
    """Load the repository a reference names.

    Raises `InputError` when the reference is malformed, nothing is there, or it is not safe to unpack.
    """
    scheme, _, rest = reference.partition(":")
    readers = {"pypi": _from_pypi, "path": _from_path, "git": _from_git}
    if scheme not in readers or not rest:
        raise InputError(
            "no such kind of source",
            where=reference,
            expected="pypi:NAME==VERSION, path:DIRECTORY or git:URL-or-path[@REVISION]",
            found=reference,
        )
    return _source(reference.partition("#sha256=")[0], readers[scheme](rest))


def scrub(files: Mapping[str, File]) -> tuple[dict[str, File], tuple[str, ...]]:
    """The files without leftovers, and the sorted paths of what was taken out."""
    packages = {str(PurePosixPath(p).parent) for p in files if p.endswith("/__init__.py")}
    out = sorted(p for p in files if _is_leftover(p, packages))
    gone = set(out)
    return {p: files[p] for p in sorted(files) if p not in gone}, tuple(out)


def normalise(name: str) -> str:
    """A project name as PEP 503 compares them."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _is_leftover(path: str, packages: set[str]) -> bool:
    parts = PurePosixPath(path).parts
    for depth, part in enumerate(parts[:-1], 1):
        if part in _CACHE_DIRS or part.endswith(_METADATA_SUFFIXES):
            return True
        # `build` may be a real package (pypa/build is one); a directory with __init__.py is source.
        if part in _BUILD_DIRS and "/".join(parts[:depth]) not in packages:
            return True
    return bool(_LEFTOVER.search(parts[-1]))


def _from_pypi(pinned: str) -> dict[str, File]:
    requirement, hashed, digest = pinned.partition("#sha256=")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9][A-Za-z0-9.!+_-]*", requirement):
        raise InputError(
            "malformed reference", where=f"pypi:{requirement}", expected="NAME==VERSION", found=requirement
        )
    script = Path(__file__).with_name("fetch_sdist.py")
    with tempfile.TemporaryDirectory(prefix="gym-code-sdist-") as folder:
        command = [sys.executable, "-I", str(script), requirement, folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise InputError(
                f"no answer from the package index in {FETCH_SECONDS} s", where=f"pypi:{requirement}"
            ) from None
        if done.returncode != 0:
            reason = (done.stderr.strip().splitlines() or ["pip found nothing"])[-1]
            raise InputError(f"cannot fetch the sdist: {reason}", where=f"pypi:{requirement}")
        archive = Path(done.stdout.strip().splitlines()[-1])
        content = archive.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if hashed and found != digest:
        raise InputError(
            "the sdist is not the one that is pinned",
            where=f"pypi:{requirement}",
            expected=f"sha256 {digest}",
            found=f"sha256 {found}",
        )
    return read_archive(archive.name, content)


def read_archive(name: str, content: bytes) -> dict[str, File]:
    """The files of an sdist (`.tar.gz`, `.tar.bz2`, `.tar.xz`, `.zip`), its one top directory taken off.

    Raises `InputError` for a member that leaves the tree, a special file, or more than `MAX_TREE_BYTES`.
    """
    try:
        members = list(_zip_members(content) if name.endswith(".zip") else _tar_members(name, content))
    except (tarfile.TarError, zipfile.BadZipFile, EOFError, OSError) as error:
        raise InputError(f"not a readable archive: {error}", where=name) from error
    tops = {path.split("/", 1)[0] for path, _ in members}
    if len(tops) != 1:
        raise InputError(
            "unexpected archive", where=name, expected="one top directory", found=sorted(tops)[:5]
        )
    return dict(_bounded(name, ((p.split("/", 1)[1], f) for p, f in members if "/" in p)))


def _tar_members(name: str, content: bytes) -> Iterator[tuple[str, File]]:
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:*") as tar:
        total = 0
        for member in tar:
            path = _safe(member.name, name)
            total += member.size
            if total > MAX_TREE_BYTES:
                raise InputError(
                    "archive too large", where=name, expected=f"<= {MAX_TREE_BYTES} bytes", found=total
                )
            if member.issym():
                yield path, File(link=_safe_link(path, member.linkname, name))
            elif member.isreg() or member.islnk():
                handle = tar.extractfile(member)
                body = handle.read() if handle else b""
                yield path, File(content=body, executable=bool(member.mode & 0o100))
            elif not member.isdir():
                raise InputError(
                    "special file in the archive",
                    where=f"{name}: {path}",
                    expected="a file",
                    found="a device",
                )


def _zip_members(content: bytes) -> Iterator[tuple[str, File]]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(info.file_size for info in archive.infolist()) > MAX_TREE_BYTES:
            raise InputError("archive too large", expected=f"<= {MAX_TREE_BYTES} bytes", found="more")
        for info in archive.infolist():
            if not info.is_dir():
                executable = bool((info.external_attr >> 16) & 0o100)
                yield _safe(info.filename, "zip"), File(content=archive.read(info), executable=executable)


def _safe(path: str, where: str) -> str:
    pure = PurePosixPath(path)
    if pure.is_absolute() or ".." in pure.parts or "\\" in path or "\0" in path or not pure.parts:
        raise InputError("unsafe path", where=where, expected="a path inside the archive", found=repr(path))
    return str(pure)


def _safe_link(path: str, target: str, where: str) -> str:
    depth = len(PurePosixPath(path).parts) - 1
    for part in PurePosixPath(target).parts:
        depth += -1 if part == ".." else 1
        if depth < 1 or part == "/":
            raise InputError(
                "link leaves the tree", where=f"{where}: {path}", expected="a link inside", found=target
            )
    return target


def _bounded(where: str, items: Iterable[tuple[str, File]]) -> Iterator[tuple[str, File]]:
    total = 0
    for count, (path, file) in enumerate(items, 1):
        total += len(file.content)
        if count > MAX_FILES or total > MAX_TREE_BYTES:
            raise InputError(
                "source too large",
                where=where,
                expected=f"<= {MAX_FILES} files and {MAX_TREE_BYTES} bytes",
                found=f"{count} files, {total} bytes",
            )
        yield path, file


def _from_path(directory: str) -> dict[str, File]:
    root = Path(directory).expanduser()
    if not root.is_dir():
        raise InputError("no such directory", where=f"path:{directory}")
    return dict(_bounded(f"path:{directory}", _walk(root, root)))


def _walk(root: Path, folder: Path) -> Iterator[tuple[str, File]]:
    for entry in sorted(folder.iterdir()):
        relative = entry.relative_to(root).as_posix()
        if entry.is_symlink():
            target = str(entry.readlink())
            yield relative, File(link=_safe_link(f"x/{relative}", target, str(root)))
        elif entry.is_dir():
            if entry.name not in _CACHE_DIRS:
                yield from _walk(root, entry)
        elif entry.is_file():
            yield relative, File(content=entry.read_bytes(), executable=bool(entry.stat().st_mode & 0o100))


def _from_git(reference: str) -> dict[str, File]:
    import git

    url, at, revision = reference.rpartition("@")
    if not at or "/" in revision or ":" in revision:
        url, revision = reference, "HEAD"
    with tempfile.TemporaryDirectory(prefix="gym-code-clone-") as folder:
        try:
            with git.Repo.clone_from(url, folder, bare=True) as repo:
                tree = repo.commit(revision).tree
                return dict(_bounded(f"git:{reference}", _blobs(tree, reference)))
        except (git.GitError, ValueError, OSError) as error:
            reason = str(getattr(error, "stderr", "") or error).strip().splitlines()
            raise InputError(
                f"cannot read the repository: {reason[-1] if reason else error}", where=f"git:{reference}"
            ) from error


def _blobs(tree: object, where: str) -> Iterator[tuple[str, File]]:
    from git import Blob, Tree

    if not isinstance(tree, Tree):
        raise InputError("not a tree", where=f"git:{where}")
    for item in tree.traverse():
        if isinstance(item, Blob):
            content: bytes = item.data_stream.read()
            path = str(item.path)
            if item.mode == Blob.link_mode:
                yield path, File(link=_safe_link(f"x/{path}", content.decode(), where))
            else:
                yield path, File(content=content, executable=item.mode == Blob.executable_mode)


def _source(reference: str, raw: Mapping[str, File]) -> Source:
    meta = _metadata(raw)
    files, scrubbed = scrub(raw)
    if not any(p.endswith(".py") for p in files):
        raise InputError("no Python file in it", where=reference)
    fallback = PurePosixPath(urlsplit(reference.partition(":")[2]).path).name.removesuffix(".git")
    name = meta.get("name") or reference.partition(":")[2].partition("==")[0]
    if "/" in name or not name:
        name = fallback
    return Source(
        origin=reference,
        name=normalise(name) or "source",
        version=meta.get("version") or reference.partition("==")[2] or "0",
        files=files,
        licence=meta.get("licence") or "unknown",
        requires=tuple(line for line in meta.get("requires", "").splitlines() if line),
        scrubbed=scrubbed,
    )


def _metadata(files: Mapping[str, File]) -> dict[str, str]:
    """name, version, licence and requirements (one a line), from the best file that says so."""
    readers = (("PKG-INFO", _pkg_info), ("pyproject.toml", _pyproject), ("setup.cfg", _setup_cfg))
    merged: dict[str, str] = {}
    for path, reader in readers:
        if path in files:
            for key, value in reader(files[path].content.decode("utf-8", "replace")).items():
                if value and not merged.get(key):
                    merged[key] = value
    return merged


def _pkg_info(text: str) -> dict[str, str]:
    message = HeaderParser().parsestr(text)
    classifiers = [c for c in message.get_all("Classifier", []) if c.startswith("License ::")]
    named = (message.get("License-Expression") or message.get("License") or "").strip().splitlines()
    requires = [r for r in message.get_all("Requires-Dist", []) if "extra ==" not in r.replace("'", '"')]
    return {
        "name": message.get("Name", ""),
        "version": message.get("Version", ""),
        "licence": named[0][:80] if named else classifiers[0].split(" :: ")[-1] if classifiers else "",
        "requires": "\n".join(requires),
    }


def _pyproject(text: str) -> dict[str, str]:
    try:
        project = tomllib.loads(text).get("project", {})
    except tomllib.TOMLDecodeError:
        return {}
    licence = project.get("license", "")
    if isinstance(licence, dict):
        licence = str(licence.get("text", "")).splitlines()[0:1]
        licence = licence[0] if licence else ""
    return {
        "name": str(project.get("name", "")),
        "version": str(project.get("version", "")),
        "licence": str(licence)[:80],
        "requires": "\n".join(map(str, project.get("dependencies", []))),
    }


def _setup_cfg(text: str) -> dict[str, str]:
    config = ConfigParser(interpolation=None, strict=False)
    try:
        config.read_string(text)
    except ConfigParserError:
        return {}
    version = config.get("metadata", "version", fallback="")
    return {
        "name": config.get("metadata", "name", fallback=""),
        "version": "" if version.startswith(("attr:", "file:")) else version,
        "licence": config.get("metadata", "license", fallback="")[:80],
        "requires": config.get("options", "install_requires", fallback="").strip(),
    }
