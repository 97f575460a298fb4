"""Trees made smaller without changing their value."""

from __future__ import annotations

from exprkit.errors import ExprError
from exprkit.evaluator import apply
from exprkit.tree import Binary, Call, Node, Number, Unary


def simplify(node: Node) -> Node:
    """An equal but smaller tree.

    Parts without variables and calls become numbers, unless evaluating them fails; then they stay. Neutral
    operands vanish (`x + 0`, `x - 0`, `x * 1`, `x / 1`), `0 - x` becomes `-x`, `x * 0` becomes `0`, and a double
    minus is dropped. Calls stay, with their arguments simplified. A negative number is written as `Unary`.
    """
    match node:
        case Unary(symbol, operand):
            return _negated(symbol, simplify(operand))
        case Binary(symbol, left, right):
            return _binary(symbol, simplify(left), simplify(right))
        case Call(function, arguments):
            return Call(function, tuple(simplify(argument) for argument in arguments))
    return node


def _constant(node: Node) -> int | float | None:
    match node:
        case Number(value):
            return value
        case Unary(_, Number(value)):
            return -value
    return None


def _number(value: int | float) -> Node:
    return Unary("-", Number(-value)) if value < 0 else Number(value)


def _negated(symbol: str, operand: Node) -> Node:
    if operand == Number(0):
        return operand
    return operand.operand if isinstance(operand, Unary) else Unary(symbol, operand)


def _binary(symbol: str, left: Node, right: Node) -> Node:
    first, second = _constant(left), _constant(right)
    if first is not None and second is not None:
        try:
            return _number(apply(symbol, first, second))
        except ExprError:
            return Binary(symbol, left, right)
    match symbol:
        case "+" | "-" if second == 0:
            return left
        case "+" if first == 0:
            return right
        case "-" if first == 0:
            return _negated("-", right)
        case "*" if 0 in (first, second):
            return Number(0)
        case "*" | "/" if second == 1:
            return left
        case "*" if first == 1:
            return right
    return Binary(symbol, left, right)
