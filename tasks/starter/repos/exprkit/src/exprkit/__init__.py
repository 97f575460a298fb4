"""Parse, evaluate and print arithmetic expressions."""

from exprkit.errors import ExprError
from exprkit.evaluator import evaluate
from exprkit.parser import parse
from exprkit.printer import to_text
from exprkit.simplify import simplify
from exprkit.tree import Binary, Call, Name, Node, Number, Unary, variables

__all__ = [
    "Binary",
    "Call",
    "ExprError",
    "Name",
    "Node",
    "Number",
    "Unary",
    "evaluate",
    "parse",
    "simplify",
    "to_text",
    "variables",
]
