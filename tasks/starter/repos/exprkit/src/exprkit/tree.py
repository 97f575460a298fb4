"""The nodes of an expression tree: plain values that compare by content."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Number:
    """A constant."""

    value: int | float


@dataclass(frozen=True, slots=True)
class Name:
    """A variable."""

    name: str


@dataclass(frozen=True, slots=True)
class Unary:
    """A sign before an operand; `operator` is always `-`."""

    operator: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Binary:
    """An operator between two operands."""

    operator: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Call:
    """A function applied to arguments."""

    function: str
    arguments: tuple[Node, ...]


Node = Number | Name | Unary | Binary | Call


def children(node: Node) -> tuple[Node, ...]:
    """The direct parts of a node, left to right."""
    match node:
        case Unary(_, operand):
            return (operand,)
        case Binary(_, left, right):
            return (left, right)
        case Call(_, arguments):
            return arguments
    return ()


def variables(node: Node) -> list[str]:
    """The names of all variables, each once, in the order in which they first occur in the text."""
    found: dict[str, None] = {}
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if isinstance(current, Name):
            found.setdefault(current.name)
        waiting.extend(reversed(children(current)))
    return list(found)
