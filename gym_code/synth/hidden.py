"""Hide tests: take the functions behind FAIL_TO_PASS ids out of the test files, byte for byte.

A class left with nothing goes too when nobody names it, otherwise it keeps a `pass`; a file left with imports
alone is deleted. What is taken out comes back as `test.patch`. Ids of parametrised tests that still pass hide
with their function.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from gym_code.synth.removal import docstring_node, outer, parse, text, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tree_sitter import Node

    from gym_code.synth.covered import SuiteRun
    from gym_code.synth.layout import Layout
    from gym_code.types import File

_SCAFFOLD = frozenset({"import_statement", "import_from_statement", "future_import_statement", "comment"})

Site = tuple[str, int]
"""A test function: its file and the first byte of its definition."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hidden:
    """The tree without the hidden tests."""

    files: Mapping[str, File]
    touched: tuple[str, ...]
    """Test files that were changed or deleted."""
    ids: frozenset[str]
    """Every test id whose function is gone."""


class TestIndex:
    """Where the function behind each test id is written."""

    __test__ = False

    def __init__(self, files: Mapping[str, File], layout: Layout, run: SuiteRun) -> None:
        self._files, self._layout = files, layout
        self._defs: dict[str, list[tuple[str, Node]]] = {}
        self.sites: dict[str, Site | None] = {name: self._locate(name, run) for name in run.outcomes}

    def node(self, site: Site) -> Node:
        """The definition at a site."""
        return next(node for _, node in self._definitions(site[0]) if node.start_byte == site[1])

    def file_of(self, test_id: str) -> str:
        """The file a test id names; the function may be written in another."""
        return self._split(test_id)[0]

    def _locate(self, test_id: str, run: SuiteRun) -> Site | None:
        path, qualname = self._split(test_id)
        for name, node in self._definitions(path):
            if name == qualname:
                return path, node.start_byte
        # An inherited test: written in a base class, perhaps in another file.
        seen = run.sites[test_id]
        if seen.file is None or seen.file not in self._files:
            return None
        for _, node in self._definitions(seen.file):
            if outer(node).start_point.row < seen.line <= node.end_point.row + 1:
                return seen.file, node.start_byte
        return None

    def _split(self, test_id: str) -> tuple[str, str]:
        """The file and the qualified name an id speaks of."""
        if self._layout.runner == "pytest":
            path, *names = test_id.split("[", 1)[0].split("::")
            return path, ".".join(names)
        for path in self._layout.tests:
            module = path.removesuffix(".py").replace("/", ".") + "."
            if test_id.startswith(module):
                return path, test_id.removeprefix(module)
        return "", test_id

    def _definitions(self, path: str) -> list[tuple[str, Node]]:
        if path not in self._defs:
            root = parse(self._files[path].content) if path in self._files else None
            self._defs[path] = [
                (_qualname(node), node)
                for node in (walk(root) if root is not None else ())
                if node.type == "function_definition"
            ]
        return self._defs[path]


def hide(files: Mapping[str, File], index: TestIndex, ids: Iterable[str]) -> Hidden | None:
    """The files without the functions behind `ids`; None when one of them cannot be found in the tree."""
    sites = {index.sites.get(name) for name in ids}
    if None in sites or not sites:
        return None
    by_file: dict[str, list[Node]] = {}
    for site in sorted(site for site in sites if site is not None):
        by_file.setdefault(site[0], []).append(index.node(site))
    result = dict(files)
    for path, nodes in by_file.items():
        content = _without(files, path, nodes)
        if content is None:
            del result[path]
        else:
            result[path] = replace(files[path], content=content)
    gone = frozenset(name for name, site in index.sites.items() if site in sites)
    return Hidden(files=result, touched=tuple(sorted(by_file)), ids=gone)


def _without(files: Mapping[str, File], path: str, nodes: list[Node]) -> bytes | None:
    """The file's bytes without these functions; None where nothing worth keeping is left."""
    content = files[path].content
    gone, hollow = _collapse({outer(node).id: outer(node) for node in nodes}, files, path)
    root = nodes[0]
    while root.parent is not None:
        root = root.parent
    left = [child for child in root.named_children if child.id not in gone]
    if all(_is_scaffold(child) for child in left) and not _is_needed(files, path):
        return None
    cuts = [(*_lines(content, node), b"") for node in gone.values()]
    for block in hollow:
        first = next(child for child in block.named_children if child.id in gone)
        start, _ = _lines(content, first)
        indent = content[first.start_byte - first.start_point.column : first.start_byte]
        cuts.append((start, start, indent + b"pass\n"))
    for start, end, new in sorted(cuts, reverse=True):
        content = content[:start] + new + content[end:]
    return content.rstrip() + b"\n" if content.strip() else b""


def _collapse(
    gone: dict[int, Node], files: Mapping[str, File], path: str
) -> tuple[dict[int, Node], list[Node]]:
    """Grow the set of removed nodes by classes left empty; blocks that must stay and are empty come apart."""
    hollow: list[Node] = []
    pending = list(gone.values())
    while pending:
        block = pending.pop().parent
        if block is None or block.type != "block" or any(block.id == other.id for other in hollow):
            continue
        doc = docstring_node(block)
        kept = [c for c in block.named_children if c.type != "comment" and c != doc and c.id not in gone]
        owner = block.parent
        if kept or owner is None or outer(owner).id in gone:
            continue
        if owner.type == "class_definition" and not _is_named(files, path, owner):
            node = outer(owner)
            gone = {key: item for key, item in gone.items() if not _inside(item, node)} | {node.id: node}
            pending.append(node)
        else:
            hollow.append(block)
    return gone, hollow


def _inside(node: Node, other: Node) -> bool:
    return other.start_byte <= node.start_byte and node.end_byte <= other.end_byte


def _is_named(files: Mapping[str, File], path: str, owner: Node) -> bool:
    """Whether anything but the class itself says its name."""
    name = re.compile(rb"\b" + re.escape(text(owner.child_by_field_name("name")).encode()) + rb"\b")
    content = files[path].content
    here = content[: owner.start_byte] + content[owner.end_byte :]
    others = (f.content for p, f in files.items() if p.endswith(".py") and p != path)
    return any(name.search(source) for source in (here, *others))


def _is_scaffold(node: Node) -> bool:
    if node.type == "expression_statement":
        return node.named_children[0].type in ("string", "concatenated_string")
    return node.type in _SCAFFOLD or (node.type == "if_statement" and "__main__" in text(node)[:40])


def _is_needed(files: Mapping[str, File], path: str) -> bool:
    """Whether a file must stay even without tests: packages, conftest, and modules that others import."""
    pure = PurePosixPath(path)
    if pure.name in ("__init__.py", "conftest.py"):
        return True
    used = re.compile(rb"\bimport\b.*\b%b\b|\bfrom\b.*\b%b\b" % (pure.stem.encode(), pure.stem.encode()))
    return any(used.search(f.content) for p, f in files.items() if p.endswith(".py") and p != path)


def _qualname(node: Node) -> str:
    names = [text(node.child_by_field_name("name"))]
    parent = node.parent
    while parent is not None:
        if parent.type in ("class_definition", "function_definition"):
            names.append(text(parent.child_by_field_name("name")))
        parent = parent.parent
    return ".".join(reversed(names))


def _lines(content: bytes, node: Node) -> tuple[int, int]:
    """The node's whole lines: comments directly above it and blank lines after it included."""
    start = content.rfind(b"\n", 0, node.start_byte) + 1
    column = node.start_byte - start
    while start:
        above = content.rfind(b"\n", 0, start - 1) + 1
        line = content[above:start]
        if not line.lstrip().startswith(b"#") or len(line) - len(line.lstrip()) != column:
            break
        start = above
    newline = content.find(b"\n", node.end_byte)
    end = len(content) if newline < 0 else newline + 1
    while end < len(content):
        following = content.find(b"\n", end)
        following = len(content) if following < 0 else following + 1
        if content[end:following].strip():
            break
        end = following
    return start, end
