"""An in-memory double of a sandbox, for tests: files in a dict, a handful of commands, no process.

Patches and digests come from the same code as those of the real backends, so equal states give equal bytes.
Commands are a tiny shell: words and quotes, `;` and `&&`, `>` and `>>`, and the built-ins `echo printf cat
true false pwd ls cd mkdir rm exit`. Tests script any other outcome:

>>> fails = ExecResult(exit_code=1, stdout=b"1 failed")
>>> backend = MemoryBackend(commands={"pytest": lambda box, argv, stdin: fails})
"""

from __future__ import annotations

import errno
import itertools
import os
import posixpath
import shlex
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gym_code.errors import InputError, SandboxClosed
from gym_code.sandbox.base import BoxSpec, Capabilities, Sandbox
from gym_code.sandbox.changes import content_hash
from gym_code.sandbox.export import Records, apply_records, make_patch, state_digest
from gym_code.sandbox.gitobjects import Objects, start_repo, tree_entries
from gym_code.sandbox.ignore import IgnoreRules
from gym_code.types import ExecResult, File, tree_digest

Command = Callable[["MemorySandbox", Sequence[str], bytes], ExecResult]
"""A scripted command: gets the box, the words and stdin."""

Boxes = list[Sandbox]


@dataclass(slots=True)
class State:
    """What a box holds: files by absolute path, and directories."""

    files: dict[str, File]
    folders: set[str]

    def copy(self) -> State:
        """An independent copy."""
        return State(dict(self.files), set(self.folders))


class MemoryBackend:
    """Opens in-memory boxes. `commands` maps a program's name to what stands for it."""

    name = "memory"

    def __init__(self, commands: Mapping[str, Command] | None = None) -> None:
        self.commands = dict(commands or {})
        self._boxes: set[MemorySandbox] = set()
        self._lock = threading.Lock()
        self._closed = False

    def capabilities(self) -> Capabilities:
        """Files only."""
        return Capabilities(
            name=self.name,
            processes=False,
            network_isolated=True,
            limits_enforced=("output_bytes",),
            notes={"processes": "built-in commands only"},
        )

    def fingerprint(self) -> str:
        """The double's version."""
        return "memory/1"

    def prepare(self, spec: BoxSpec) -> str:
        """The base commit."""
        return start_repo(_checked(spec)).base_commit

    def open(self, spec: BoxSpec) -> MemorySandbox:
        """A fresh box."""
        if self._closed:
            raise SandboxClosed("the backend was closed")
        box = MemorySandbox(self, spec, None)
        self.adopt(box)
        return box

    def adopt(self, box: MemorySandbox) -> None:
        """Close this box with the backend."""
        with self._lock:
            self._boxes.add(box)

    def forget(self, box: MemorySandbox) -> None:
        """The box was closed."""
        with self._lock:
            self._boxes.discard(box)

    def close(self) -> None:
        """Close every box."""
        self._closed = True
        with self._lock:
            boxes = tuple(self._boxes)
        for box in boxes:
            box.close()

    def __enter__(self) -> MemoryBackend:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _checked(spec: BoxSpec) -> Mapping[str, File]:
    files = spec.start.files()
    found = tree_digest(files)
    if found != spec.start.digest:
        raise InputError("start tree differs from its digest", expected=spec.start.digest, found=found)
    return files


class MemorySandbox:
    """One in-memory box."""

    def __init__(self, backend: MemoryBackend, spec: BoxSpec, state: State | None) -> None:
        self.spec = spec
        self._backend = backend
        self._base = _checked(spec)
        self._commit = start_repo(self._base).base_commit
        self._state = state or self._fresh()
        self._snapshots: dict[str, State] = {}
        self._closed = False

    def _fresh(self) -> State:
        state = State({}, {"/", "/tmp", "/home", "/home/agent"})
        self._make_folder(state, self.spec.workdir)
        for path, file in self._base.items():
            full = posixpath.join(self.spec.workdir, path)
            self._make_folder(state, posixpath.dirname(full))
            state.files[full] = file
        return state

    @staticmethod
    def _make_folder(state: State, path: str) -> None:
        while path not in state.folders:
            if path in state.files:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            state.folders.add(path)
            path = posixpath.dirname(path)

    @property
    def base_commit(self) -> str:
        """The commit id of the start tree."""
        return self._commit

    def exec(
        self,
        command: Sequence[str] | str,
        *,
        timeout: float | None = None,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        output_bytes: int | None = None,
        channel: bool = False,
    ) -> ExecResult:
        """Run built-in or scripted commands; `timeout` and `env` have nothing to act on."""
        self._check_open()
        shell = Shell(self, self._resolve(cwd or "."), stdin)
        result = shell.script(command) if isinstance(command, str) else shell.run(list(command))
        limit = self.spec.limits.output_bytes if output_bytes is None else output_bytes
        return _bounded(result, limit)

    def read(self, path: str, *, max_bytes: int | None = None) -> bytes:
        """The content of a file."""
        self._check_open()
        return self._file(path).content[:max_bytes]

    def _file(self, path: str) -> File:
        full = self._resolve(path)
        if full in self._state.folders:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if full not in self._state.files:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self._state.files[full]

    def write(self, path: str, content: bytes, *, executable: bool | None = None) -> None:
        """Create or replace a file."""
        self._check_open()
        full = self._resolve(path)
        if full in self._state.folders:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        self._make_folder(self._state, posixpath.dirname(full))
        old = self._state.files.get(full)
        bit = executable if executable is not None else old is not None and old.executable
        self._state.files[full] = File(content=content, executable=bit)

    def list(self, path: str = ".") -> tuple[str, ...]:
        """Sorted names in a directory."""
        self._check_open()
        full = self._resolve(path)
        if full in self._state.files:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        if full not in self._state.folders:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        names = [posixpath.basename(name) for name in self._state.files if posixpath.dirname(name) == full]
        folders = self._state.folders - {"/"}
        names += [posixpath.basename(name) + "/" for name in folders if posixpath.dirname(name) == full]
        return tuple(sorted(names + ([".git/"] if full == self.spec.workdir else [])))

    def snapshot(self) -> str:
        """Freeze the file state."""
        self._check_open()
        name = f"s{len(self._snapshots) + 1}"
        self._snapshots[name] = self._state.copy()
        return name

    def fork(self, n: int) -> Boxes:
        """`n` boxes that begin from here."""
        self._check_open()
        made: Boxes = []
        for _ in range(n):
            box = MemorySandbox(self._backend, self.spec, self._state.copy())
            self._backend.adopt(box)
            made.append(box)
        return made

    def restore(self, snapshot: str) -> None:
        """Go back to a snapshot."""
        self._check_open()
        self._state = self._snapshots[snapshot].copy()

    def digest(self) -> str:
        """SHA-256 (hex) of what differs from the start tree."""
        return state_digest(self._changes(hashed=True))

    def diff(self) -> bytes:
        """The changes as a git patch."""
        objects = Objects()
        base = tree_entries(objects, self._base)
        rules = IgnoreRules.from_files(
            (os.fsencode(path), file.content)
            for path, file in self._base.items()
            if posixpath.basename(path) == ".gitignore" and file.link is None
        )
        after = apply_records(base, self._changes(hashed=False), objects, rules)
        return make_patch(base, after, objects, None)

    def close(self) -> None:
        """Forget everything."""
        self._closed = True
        self._state = State({}, set())
        self._backend.forget(self)

    def __enter__(self) -> MemorySandbox:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def remove(self, path: str) -> None:
        """Delete a file, or a directory with all in it; nothing happens where nothing is."""
        full = self._resolve(path, follow=False)
        inside = full + "/"
        for name in [name for name in self._state.files if name == full or name.startswith(inside)]:
            del self._state.files[name]
        self._state.folders = {
            name for name in self._state.folders if name != full and not name.startswith(inside)
        }

    def make_directory(self, path: str) -> None:
        """Make a directory and its parents."""
        self._make_folder(self._state, self._resolve(path))

    def _check_open(self) -> None:
        if self._closed:
            raise SandboxClosed("the sandbox was closed")

    def _resolve(self, path: str, *, follow: bool = True) -> str:
        """Absolute and normal, links followed inside the box."""
        if "\0" in path:
            raise OSError(errno.EINVAL, "NUL in a path", path)
        todo = posixpath.join(self.spec.workdir, path).split("/")[1:]
        done = "/"
        for _ in range(1000):
            if not todo:
                return done
            part = todo.pop(0)
            if part in ("", "."):
                continue
            done = posixpath.dirname(done) if part == ".." else posixpath.join(done, part)
            file = self._state.files.get(done)
            if file is not None and file.link is not None and (todo or follow):
                todo = posixpath.join(posixpath.dirname(done), file.link).split("/")[1:] + todo
                done = "/"
            elif file is not None and todo:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)

    def _changes(self, *, hashed: bool) -> Records:
        self._check_open()
        inside = self.spec.workdir + "/"
        now = {
            path[len(inside) :]: file for path, file in self._state.files.items() if path.startswith(inside)
        }
        old_folders = {parent for path in self._base for parent in _parents(path)}
        new_folders = {path[len(inside) :] for path in self._state.folders if path.startswith(inside)}
        records: Records = []
        for path in {*self._base, *now, *old_folders, *new_folders}:
            key = os.fsencode(path)
            if path in now and now[path] != self._base.get(path):
                records.append(_record(key, now[path], hashed=hashed))
            elif path in new_folders and path not in old_folders:
                records.append(("d", 0o755, key, b""))
            elif path not in now and path not in new_folders:
                records.append(("-", 0, key, b""))
        return sorted(records, key=lambda record: record[2])


def _parents(path: str) -> list[str]:
    return list(itertools.accumulate(path.split("/")[:-1], lambda left, right: f"{left}/{right}"))


def _record(key: bytes, file: File, *, hashed: bool) -> tuple[str, int, bytes, bytes]:
    if file.link is not None:
        return "l", 0, key, os.fsencode(file.link)
    body = content_hash(file.content) if hashed else file.content
    return "f", 0o755 if file.executable else 0o644, key, body


def _bounded(result: ExecResult, limit: int) -> ExecResult:
    from gym_code.sandbox.guest import Output, share_out

    out, err = Output(limit), Output(limit)
    room = limit // 2
    room -= out.feed(result.stdout, room)
    err.feed(result.stderr, room)
    stdout, stderr, missing = share_out(out, err, limit)
    return replace(result, stdout=stdout, stderr=stderr, truncated_bytes=result.truncated_bytes + missing)


class Shell:
    """The built-in commands."""

    def __init__(self, box: MemorySandbox, cwd: str, stdin: bytes) -> None:
        self.box, self.cwd, self.stdin = box, cwd, stdin
        self.ended = False

    def script(self, text: str) -> ExecResult:
        """Commands joined by `;`, newlines or `&&`."""
        lexer = shlex.shlex(text.replace("\n", " ; "), posix=True, punctuation_chars=";&>")
        lexer.whitespace_split = True
        lexer.commenters = ""
        try:
            words = [*lexer, ";"]
        except ValueError as error:
            return ExecResult(exit_code=2, stderr=f"sh: {error}\n".encode())
        total, argv, skip = ExecResult(exit_code=0), [], False
        for word in words:
            if word not in (";", "&&"):
                argv.append(word)
                continue
            if argv and not skip and not self.ended:
                part = self.redirected(argv)
                both = total.stdout + part.stdout, total.stderr + part.stderr
                total = replace(part, stdout=both[0], stderr=both[1])
            skip = word == "&&" and total.exit_code != 0
            argv = []
        return total

    def redirected(self, words: list[str]) -> ExecResult:
        """One command with at most one `>` or `>>`."""
        for sign in (">", ">>"):
            if sign in words:
                at = words.index(sign)
                target = self._path(words[at + 1]) if at + 1 < len(words) else ""
                result = self.run(words[:at] + words[at + 2 :])
                if target == "/dev/null":
                    return replace(result, stdout=b"")
                try:
                    before = self.box.read(target) if sign == ">>" and self._exists(target) else b""
                    self.box.write(target, before + result.stdout)
                except OSError as error:
                    return ExecResult(
                        exit_code=1, stderr=f"sh: {error.filename}: {error.strerror}\n".encode()
                    )
                return replace(result, stdout=b"")
        return self.run(words)

    def run(self, words: list[str]) -> ExecResult:
        """One command."""
        name, arguments = words[0], words[1:]
        scripted = self.box._backend.commands.get(name)
        if scripted is not None:
            return scripted(self.box, words, self.stdin)
        method = getattr(self, f"do_{name}", None)
        if method is None:
            return ExecResult(exit_code=127, stderr=f"{name}: no such command\n".encode())
        try:
            out = method(arguments)
        except OSError as error:
            return ExecResult(exit_code=1, stderr=f"{name}: {error.filename}: {error.strerror}\n".encode())
        return out if isinstance(out, ExecResult) else ExecResult(exit_code=0, stdout=out)

    def do_echo(self, words: list[str]) -> bytes:
        """Print words; -n without a newline."""
        plain = words[:1] == ["-n"]
        return " ".join(words[plain:]).encode("utf-8", "surrogateescape") + (b"" if plain else b"\n")

    def do_printf(self, words: list[str]) -> bytes:
        """Print a format: `%s` and backslash escapes."""
        text = words[0].encode("utf-8", "surrogateescape").decode("unicode_escape").encode("latin-1")
        for word in words[1:]:
            text = text.replace(b"%s", word.encode(), 1)
        return text

    def do_exec(self, words: list[str]) -> bytes:
        """Redirections of the shell itself, which change nothing here."""
        return b""

    def do_cat(self, words: list[str]) -> bytes:
        """Print files, or stdin."""
        return b"".join(self.box.read(self._path(word)) for word in words) if words else self.stdin

    def do_true(self, _: list[str]) -> bytes:
        """Succeed."""
        return b""

    def do_false(self, _: list[str]) -> ExecResult:
        """Fail."""
        return ExecResult(exit_code=1)

    def do_exit(self, words: list[str]) -> ExecResult:
        """End the script."""
        self.ended = True
        return ExecResult(exit_code=int(words[0]) & 255 if words else 0)

    def do_pwd(self, _: list[str]) -> bytes:
        """Print the working directory."""
        return self.cwd.encode() + b"\n"

    def do_cd(self, words: list[str]) -> bytes:
        """Change the working directory."""
        self.box.list(self._path(words[0]))
        self.cwd = self.box._resolve(self._path(words[0]))
        return b""

    def do_ls(self, words: list[str]) -> bytes:
        """List a directory, hidden names left out."""
        names = self.box.list(self._path(words[0] if words else "."))
        return b"".join(os.fsencode(name.rstrip("/")) + b"\n" for name in names if not name.startswith("."))

    def do_mkdir(self, words: list[str]) -> bytes:
        """Make directories."""
        for word in words:
            if word != "-p":
                self.box.make_directory(self._path(word))
        return b""

    def do_rm(self, words: list[str]) -> bytes:
        """Remove files; -r directories."""
        for word in words:
            if not word.startswith("-"):
                self.box.remove(self._path(word))
        return b""

    def _path(self, word: str) -> str:
        return posixpath.join(self.cwd, word)

    def _exists(self, path: str) -> bool:
        return self.box._resolve(path) in self.box._state.files
