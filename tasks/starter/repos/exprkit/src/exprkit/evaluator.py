"""A tree to a number."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping

from exprkit.errors import ExprError
from exprkit.parser import parse
from exprkit.tree import Binary, Call, Name, Node, Number, Unary

Value = int | float
Function = Callable[..., Value]

FUNCTIONS: dict[str, Function] = {"abs": abs, "min": min, "max": max, "round": round}

_LARGEST_EXPONENT = 10_000


def _power(base: Value, exponent: Value) -> Value:
    if abs(exponent) > _LARGEST_EXPONENT:
        raise ExprError("exponent too large")
    result = base**exponent
    if isinstance(result, complex):
        raise ExprError("fractional power of a negative number")
    return result


_OPERATORS: dict[str, Callable[[Value, Value], Value]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": _power,
}


def apply(symbol: str, left: Value, right: Value) -> Value:
    """The result of one binary operator. Raises ExprError for division by zero and for what is no number."""
    try:
        return _OPERATORS[symbol](left, right)
    except ZeroDivisionError:
        raise ExprError("division by zero") from None
    except OverflowError:
        raise ExprError("result too large") from None


def evaluate(
    expression: str | Node,
    variables: Mapping[str, Value] | None = None,
    functions: Mapping[str, Function] | None = None,
) -> Value:
    """The value of an expression, given as text or as a tree.

    `functions` are added to the built-in ones and may replace them. Raises ExprError for unknown names and
    functions, wrong arguments and arithmetic that has no result.
    """
    node = parse(expression) if isinstance(expression, str) else expression
    return _evaluate(node, variables or {}, {**FUNCTIONS, **(functions or {})})


def _evaluate(node: Node, variables: Mapping[str, Value], functions: Mapping[str, Function]) -> Value:
    match node:
        case Number(value):
            return value
        case Name(name):
            if name not in variables:
                raise ExprError(f"unknown variable {name!r}")
            return variables[name]
        case Unary(_, operand):
            return -_evaluate(operand, variables, functions)
        case Binary(symbol, left, right):
            return apply(
                symbol, _evaluate(left, variables, functions), _evaluate(right, variables, functions)
            )
        case Call(name, arguments):
            if name not in functions:
                raise ExprError(f"unknown function {name!r}")
            values = [_evaluate(argument, variables, functions) for argument in arguments]
            try:
                return functions[name](*values)
            except TypeError:
                raise ExprError(f"wrong arguments for {name!r}") from None
