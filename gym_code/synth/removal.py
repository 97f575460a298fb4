"""Find function bodies and take them out, byte for byte: everything outside a removed body stays as it was.

    def area(w, h):            def area(w, h):
        "Square metres."           "Square metres."
        # both sides       ->      raise NotImplementedError
        return w * h

Signature, decorators and docstring stay; comments inside the body go with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import tree_sitter_python
from tree_sitter import Language, Node, Parser

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from gym_code.types import File

STUB = b"raise NotImplementedError"

_DEFINITIONS = ("function_definition", "class_definition")
_BRANCHES = frozenset(
    {"if_statement", "elif_clause", "for_statement", "while_statement", "except_clause", "with_statement"}
    | {"conditional_expression", "boolean_operator", "for_in_clause", "match_statement", "case_clause"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function or method, and where its body lies. Bytes are half-open, lines 1-based and inclusive."""

    path: str
    qualname: str
    """Names from the module inwards: `Cache.pop`."""
    occurrence: int = 0
    """Counts definitions of one qualname in one file (a property and its setter)."""
    signature: str
    """Decorators and header as written, ending in the colon."""
    docstring: str
    first_line: int
    """Of the body to remove: after header and docstring."""
    last_line: int
    start: int
    """First byte of the body's first line."""
    end: int
    """Past the last byte of the body, its line end not included."""
    indent: bytes
    statements: int
    branches: int
    trivial: bool
    """Nothing to think about: one plain statement without branch, loop or comprehension, or an overload."""

    @property
    def key(self) -> str:
        """Unique within a repository."""
        suffix = f"#{self.occurrence}" if self.occurrence else ""
        return f"{self.path}::{self.qualname}{suffix}"

    @property
    def lines(self) -> int:
        """Length of the body in lines."""
        return self.last_line - self.first_line + 1


def parse(content: bytes) -> Node | None:
    """The root of the syntax tree, or None where the file is not valid Python."""
    root = Parser(Language(tree_sitter_python.language())).parse(content).root_node
    return None if root.has_error else root


def count(content: bytes) -> int:
    """How many functions and methods a file defines, those whose body cannot be cut out included."""
    root = parse(content)
    return sum(1 for _ in _definitions(root, ())) if root is not None else 0


def functions(path: str, content: bytes) -> tuple[Function, ...]:
    """Every function and method of a file whose body can be cut out, in file order.

    Functions inside functions belong to the outer body; one-line definitions (`def f(): return 1`) are
    left out, as is a file that does not parse.
    """
    root = parse(content)
    if root is None:
        return ()
    seen: dict[str, int] = {}
    found = []
    for node, scope in _definitions(root, ()):
        function = _function(path, content, node, ".".join((*scope, text(node.child_by_field_name("name")))))
        if function is not None:
            before = seen.get(function.qualname, 0)
            seen[function.qualname] = before + 1
            found.append(replace(function, occurrence=before))
    return tuple(found)


def stub(files: Mapping[str, File], removed: Iterable[Function]) -> dict[str, File]:
    """The files with each removed body replaced by `raise NotImplementedError`; nothing else changes."""
    result = dict(files)
    # From the back, so that earlier offsets stay true.
    for function in sorted(removed, key=lambda f: (f.path, -f.start)):
        file = result[function.path]
        content = file.content[: function.start] + function.indent + STUB + file.content[function.end :]
        result[function.path] = replace(file, content=content)
    return result


def body(content: bytes, function: Function) -> bytes:
    """The bytes that `stub` takes out."""
    return content[function.start : function.end]


def text(node: Node | None) -> str:
    """The source of a node."""
    return (node.text or b"").decode("utf-8", "replace") if node is not None else ""


def outer(node: Node) -> Node:
    """The node with its decorators."""
    parent = node.parent
    return parent if parent is not None and parent.type == "decorated_definition" else node


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it."""
    stack = [node]
    while stack:
        item = stack.pop()
        yield item
        stack.extend(reversed(item.children))


def docstring_node(block: Node) -> Node | None:
    """The statement that is a block's docstring."""
    first = next((child for child in block.named_children if child.type != "comment"), None)
    if first is not None and first.type == "expression_statement" and first.named_child_count == 1:
        inner = first.named_children[0]
        if inner.type in ("string", "concatenated_string"):
            return first
    return None


def _definitions(node: Node, scope: tuple[str, ...]) -> Iterator[tuple[Node, tuple[str, ...]]]:
    for child in node.named_children:
        if child.type == "function_definition":
            yield child, scope
        elif child.type == "class_definition":
            inner = child.child_by_field_name("body")
            if inner is not None:
                yield from _definitions(inner, (*scope, text(child.child_by_field_name("name"))))
        elif child.named_child_count and not child.type.endswith(("expression", "assignment")):
            yield from _definitions(child, scope)


def _function(path: str, content: bytes, node: Node, qualname: str) -> Function | None:
    block = node.child_by_field_name("body")
    if block is None:
        return None
    doc = docstring_node(block)
    code = [child for child in block.named_children if child.type != "comment" and child != doc]
    colon = next(child for child in reversed(node.children) if child.type == ":")
    head = doc if doc is not None else colon
    if not code or code[0].start_point.row == head.end_point.row:
        return None
    start = content.index(b"\n", head.end_byte) + 1
    end = _body_end(content, code[-1].end_byte, code[0].start_point.column)
    indent = content[code[0].start_byte - code[0].start_point.column : code[0].start_byte]
    inside = [n for item in code for n in walk(item)]
    statements = sum(n.type.endswith("_statement") for n in inside)
    branches = sum(n.type in _BRANCHES for n in inside)
    return Function(
        path=path,
        qualname=qualname,
        signature=_dedent(content, outer(node).start_byte, colon.end_byte),
        docstring=_docstring(doc),
        first_line=content.count(b"\n", 0, start) + 1,
        last_line=content.count(b"\n", 0, end) + 1,
        start=start,
        end=end,
        indent=indent,
        statements=statements,
        branches=branches,
        trivial=(statements < 2 and not branches) or _is_overload(node),
    )


def _body_end(content: bytes, end: int, column: int) -> int:
    """Past the rest of the last line, and past comment lines indented like the body."""
    end = _line_end(content, end)
    probe = end
    while probe < len(content):
        following = content[probe + 1 : _line_end(content, probe + 1)]
        stripped = following.lstrip()
        if stripped.startswith(b"#") and len(following) - len(stripped) >= column:
            end = _line_end(content, probe + 1)
        elif stripped.strip():
            break
        probe = _line_end(content, probe + 1)
    return end


def _line_end(content: bytes, position: int) -> int:
    """Where the line ends: before `\\n`, `\\r\\n` or at the end of the file."""
    newline = content.find(b"\n", position)
    if newline < 0:
        return len(content)
    return newline - 1 if newline > position and content[newline - 1 : newline] == b"\r" else newline


def _dedent(content: bytes, start: int, end: int) -> str:
    column = start - (content.rfind(b"\n", 0, start) + 1)
    lines = content[start:end].decode("utf-8", "replace").replace("\r\n", "\n").split("\n")
    return "\n".join(
        [lines[0], *(line[column:] if not line[:column].strip() else line for line in lines[1:])]
    )


def _docstring(doc: Node | None) -> str:
    if doc is None:
        return ""
    parts = [text(node) for node in walk(doc) if node.type == "string_content"]
    lines = "".join(parts).expandtabs().replace("\r\n", "\n").split("\n")
    margin = min((len(s) - len(s.lstrip()) for s in lines[1:] if s.strip()), default=0)
    return "\n".join([lines[0].strip(), *(line[margin:].rstrip() for line in lines[1:])]).strip()


def _is_overload(node: Node) -> bool:
    decorators = [text(child) for child in outer(node).named_children if child.type == "decorator"]
    return any(name.rsplit(".", 1)[-1].strip("@ ") == "overload" for name in decorators)
