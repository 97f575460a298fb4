"""gitignore(5) rules, evaluated as data.

The rules come from the start tree alone: what an agent writes into a `.gitignore` is exported like any
other change, and decides nothing about what is exported. Some litter of tools is ignored everywhere, so
that a project that starts from nothing (and has no `.gitignore`) does not hand in its caches.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

LITTER = b"""__pycache__/
*.py[cod]
.pytest_cache/
.mypy_cache/
.ruff_cache/
.hypothesis/
"""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a `.gitignore`, relative to its directory."""

    pattern: re.Pattern[bytes]
    negated: bool
    directories_only: bool
    whole_path: bool


@dataclass(slots=True)
class IgnoreRules:
    """The rules of a tree: `directory -> rules`, the nearest and last match wins, as in git."""

    rules: dict[bytes, list[Rule]] = field(default_factory=dict)
    _known: dict[bytes, bool] = field(default_factory=dict)

    @classmethod
    def from_files(cls, files: Iterable[tuple[bytes, bytes]]) -> IgnoreRules:
        """From `(path of a .gitignore, content)`."""
        made = cls()
        made.rules[b""] = parse(LITTER)
        for path, content in files:
            directory = path.rpartition(b"/")[0]
            made.rules[directory] = made.rules.get(directory, []) + parse(content)
        return made

    def match(self, path: bytes) -> bool:
        """Whether a file is ignored, by itself or with a directory above it."""
        parts = path.split(b"/")
        for end in range(1, len(parts)):
            directory = b"/".join(parts[:end])
            known = self._known.get(directory)
            if known is None:
                known = self._known[directory] = self._verdict(directory, True)
            if known:
                return (
                    True  # git does not look into an ignored directory: nothing re-includes what lies there
                )
        return self._verdict(path, False)

    def _verdict(self, path: bytes, is_directory: bool) -> bool:
        directory = path
        while directory:
            directory = directory.rpartition(b"/")[0]
            relative = path[len(directory) + 1 :] if directory else path
            for rule in reversed(self.rules.get(directory, ())):
                if rule.directories_only and not is_directory:
                    continue
                if rule.pattern.fullmatch(relative if rule.whole_path else relative.rpartition(b"/")[2]):
                    return not rule.negated
        return False


def parse(content: bytes) -> list[Rule]:
    """The rules of one file."""
    rules = []
    for line in content.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        rule = _parse_line(line.removesuffix(b"\r"))
        if rule is not None:
            rules.append(rule)
    return rules


def _parse_line(line: bytes) -> Rule | None:
    line = re.sub(rb"(?<!\\) +$", b"", line)
    if not line or line.startswith(b"#"):
        return None
    negated = line.startswith(b"!")
    line = line[1:] if negated else line
    directories_only = line.endswith(b"/")
    line = line[:-1] if directories_only else line
    whole_path = b"/" in line
    line = line.removeprefix(b"/")
    try:
        pattern = re.compile(translate(line), re.DOTALL)
    except re.error:
        return None  # git, too, lets a broken pattern match nothing
    return Rule(pattern, negated, directories_only, whole_path) if line else None


def translate(glob: bytes) -> bytes:
    """A gitignore pattern as a regular expression over a path."""
    out, at = [], 0
    while at < len(glob):
        piece = glob[at : at + 1]
        if glob.startswith(b"**/", at) and (at == 0 or glob[at - 1 : at] == b"/"):
            out.append(rb"(?:[^/]+/)*")
            at += 3
            continue
        if glob[at:] == b"**" and glob[at - 1 : at] == b"/":
            out.append(rb".+")
            break
        if piece == b"*":
            out.append(rb"[^/]*")
        elif piece == b"?":
            out.append(rb"[^/]")
        elif piece == b"[":
            text, at = _bracket(glob, at)
            out.append(text)
            continue
        elif piece == b"\\" and at + 1 < len(glob):
            at += 1
            out.append(re.escape(glob[at : at + 1]))
        else:
            out.append(re.escape(piece))
        at += 1
    return b"".join(out)


def _bracket(glob: bytes, at: int) -> tuple[bytes, int]:
    end = at + 1
    if glob[end : end + 1] in (b"!", b"^"):
        end += 1
    if glob[end : end + 1] == b"]":
        end += 1
    end = glob.find(b"]", end)
    if end < 0:
        raise re.error("unclosed bracket")
    inner = glob[at + 1 : end]
    negated = inner[:1] in (b"!", b"^")
    inner = inner[1:] if negated else inner
    inner = inner.replace(b"[", rb"\[").replace(b"]", rb"\]")
    return b"(?!/)[" + (b"^" if negated else b"") + inner + b"]", end + 1
