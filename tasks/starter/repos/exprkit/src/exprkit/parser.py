"""Tokens to a tree, by precedence climbing."""

from __future__ import annotations

from exprkit.errors import ExprError
from exprkit.lexer import Token, tokenize
from exprkit.tree import Binary, Call, Name, Node, Number, Unary

PRECEDENCE = {"+": 1, "-": 1, "*": 2, "/": 2, "//": 2, "%": 2, "**": 4}
"""How strongly operators bind; all but those in RIGHT_ASSOCIATIVE group to the left."""

RIGHT_ASSOCIATIVE = frozenset({"**"})

UNARY_PRECEDENCE = 3


def parse(text: str) -> Node:
    """The tree of an expression. Raises ExprError with the column of the first token that does not fit."""
    parser = _Parser(tokenize(text))
    node = parser.expression(1)
    parser.expect("end", "")
    return node


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._index = 0

    @property
    def _token(self) -> Token:
        return self._tokens[self._index]

    def _take(self) -> Token:
        token = self._token
        self._index += 1
        return token

    def expect(self, kind: str, text: str) -> None:
        if (self._token.kind, self._token.text) != (kind, text):
            raise self._unexpected(repr(text) if text else "the end")
        self._index += 1

    def _unexpected(self, wanted: str) -> ExprError:
        found = repr(self._token.text) if self._token.kind != "end" else "the end"
        return ExprError(f"expected {wanted}, found {found}", self._token.column)

    def expression(self, minimum: int) -> Node:
        left = self._operand()
        while self._token.kind == "symbol" and PRECEDENCE.get(self._token.text, 0) >= minimum:
            operator = self._take().text
            binding = PRECEDENCE[operator]
            right = self.expression(binding if operator in RIGHT_ASSOCIATIVE else binding + 1)
            left = Binary(operator, left, right)
        return left

    def _operand(self) -> Node:
        token = self._token
        if token.kind == "number":
            self._take()
            return Number(int(token.text) if token.text.isdigit() else float(token.text))
        if token.kind == "name":
            self._take()
            return self._call(token.text) if self._token.text == "(" else Name(token.text)
        if token.text == "-":
            self._take()
            return Unary("-", self.expression(UNARY_PRECEDENCE))
        if token.text == "(":
            self._take()
            inner = self.expression(1)
            self.expect("symbol", ")")
            return inner
        raise self._unexpected("an operand")

    def _call(self, function: str) -> Node:
        self.expect("symbol", "(")
        arguments: list[Node] = []
        if self._token.text != ")":
            arguments.append(self.expression(1))
            while self._token.text == ",":
                self._take()
                arguments.append(self.expression(1))
        self.expect("symbol", ")")
        return Call(function, tuple(arguments))
