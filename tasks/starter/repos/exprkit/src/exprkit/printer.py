"""A tree to text, with as few parentheses as possible."""

from __future__ import annotations

from exprkit.parser import PRECEDENCE, RIGHT_ASSOCIATIVE, UNARY_PRECEDENCE
from exprkit.tree import Binary, Call, Name, Node, Number, Unary

_ATOM = 9


def to_text(node: Node) -> str:
    """Text that parses back to an equal tree."""
    return _print(node)[0]


def _print(node: Node) -> tuple[str, int]:
    """The text of a node and how strongly its outermost operator binds."""
    match node:
        case Number(value):
            return repr(value), _ATOM
        case Name(name):
            return name, _ATOM
        case Call(function, arguments):
            return f"{function}({', '.join(to_text(argument) for argument in arguments)})", _ATOM
        case Unary(symbol, operand):
            return symbol + _wrapped(operand, UNARY_PRECEDENCE), UNARY_PRECEDENCE
        case Binary(symbol, left, right):
            binding = PRECEDENCE[symbol]
            to_the_right = symbol in RIGHT_ASSOCIATIVE
            first = _wrapped(left, binding + to_the_right)
            second = _wrapped(right, binding + (not to_the_right))
            return f"{first} {symbol} {second}", binding
    raise TypeError(f"not a node: {node!r}")


def _wrapped(node: Node, minimum: int) -> str:
    text, binding = _print(node)
    return text if binding >= minimum else f"({text})"
