"""What a Python file defines, read with tree-sitter: also from a file that does not parse as a whole."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tree_sitter import Node, Parser


@dataclass(frozen=True, slots=True, kw_only=True)
class Symbol:
    """A definition: its dotted name within the file, the line it begins on (from 1), and that line's text."""

    name: str
    line: int
    text: str


def definitions(source: bytes) -> Iterator[Symbol]:
    """Functions and classes at any depth, and names assigned in modules and classes, from top to bottom."""
    lines = source.split(b"\n")
    stack = [(_parser().parse(source).root_node, "")]
    while stack:  # not recursive: a hostile file may nest deeper than Python's stack
        node, scope = stack.pop()
        name = _name(node)
        if name is not None:
            dotted = f"{scope}.{name}" if scope else name
            row = node.start_point[0]
            yield Symbol(name=dotted, line=row + 1, text=lines[row].decode("utf-8", "replace").strip())
            if node.type in ("function_definition", "class_definition"):
                scope = dotted
        if node.type != "assignment":
            stack += [(child, scope) for child in reversed(node.named_children)]


def _name(node: Node) -> str | None:
    """What a node defines, if it defines something."""
    if node.type in ("function_definition", "class_definition"):
        target = node.child_by_field_name("name")
    elif node.type == "assignment" and _is_declaration(node):
        target = node.child_by_field_name("left")
    else:
        return None
    if target is None or target.type != "identifier" or target.text is None:
        return None
    return target.text.decode("utf-8", "replace")


def _is_declaration(node: Node) -> bool:
    """Whether an assignment stands directly in a module or a class, not in a function."""
    statement = node.parent
    block = statement.parent if statement is not None else None
    if block is None or block.type == "module":
        return block is not None
    return block.parent is not None and block.parent.type == "class_definition"


@functools.cache
def _parser() -> Parser:
    # Imported here: only a search for symbols needs the parser.
    import tree_sitter_python
    from tree_sitter import Language, Parser

    return Parser(Language(tree_sitter_python.language()))
