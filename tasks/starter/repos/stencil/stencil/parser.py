"""Pieces to nodes."""

from __future__ import annotations

import re

from stencil.errors import TemplateError
from stencil.lexer import Piece, split
from stencil.nodes import Expression, FilterCall, For, If, Node, Output, Text

_PATH = re.compile(r"[A-Za-z_]\w*(?:\.\w+)*")
_CALL = re.compile(r"(?P<name>[A-Za-z_]\w*)\s*(?::\s*(?P<arguments>.*))?", re.DOTALL)
_ARGUMENT = re.compile(
    r'\s*(?:"(?P<text>[^"]*)"|(?P<number>-?\d+)|(?P<path>[A-Za-z_]\w*(?:\.\w+)*))\s*(?:,|$)'
)
_PIPE = re.compile(r'\|(?=(?:[^"]*"[^"]*")*[^"]*$)')
_FOR = re.compile(r"for\s+([A-Za-z_]\w*)\s+in\s+(.+)", re.DOTALL)


def parse(text: str) -> list[Node]:
    """The nodes of a template. Raises TemplateError with the line of the first mistake."""
    return _Parser(split(text)).parse()


def expression(text: str, line: int) -> Expression:
    """A path with filters: `user.name | trim | repeat: 2`."""
    path, *calls = (part.strip() for part in _PIPE.split(text))
    if not _PATH.fullmatch(path):
        raise TemplateError(f"not a name: {path!r}", line)
    return Expression(path, tuple(_filter_call(call, line) for call in calls), line)


def _filter_call(text: str, line: int) -> FilterCall:
    match = _CALL.fullmatch(text)
    if match is None:
        raise TemplateError(f"not a filter: {text!r}", line)
    rest = match["arguments"] or ""
    arguments: list[Expression | str | int] = []
    position = 0
    while position < len(rest):
        argument = _ARGUMENT.match(rest, position)
        if argument is None:
            raise TemplateError(f"not an argument: {rest[position:].strip()!r}", line)
        if argument["path"] is not None:
            arguments.append(Expression(argument["path"], (), line))
        else:
            arguments.append(argument["text"] if argument["number"] is None else int(argument["number"]))
        position = argument.end()
    return FilterCall(match["name"], tuple(arguments))


class _Parser:
    def __init__(self, pieces: list[Piece]) -> None:
        self._pieces = pieces
        self._index = 0

    def parse(self) -> list[Node]:
        return self._until(())[0]

    def _until(self, stops: tuple[str, ...]) -> tuple[list[Node], Piece | None]:
        """Nodes up to the first block tag in `stops`, and that tag; None where the template ends before."""
        nodes: list[Node] = []
        while self._index < len(self._pieces):
            piece = self._pieces[self._index]
            self._index += 1
            if piece.kind == "text":
                nodes.append(Text(piece.content))
            elif piece.kind == "value":
                nodes.append(Output(expression(piece.content, piece.line)))
            elif piece.content in stops:
                return nodes, piece
            else:
                nodes.append(self._block(piece))
        return nodes, None

    def _block(self, piece: Piece) -> Node:
        keyword, _, rest = piece.content.partition(" ")
        if keyword == "if":
            words = rest.split(maxsplit=1)
            negated = len(words) == 2 and words[0] == "not"
            condition = expression(words[1] if negated else rest.strip(), piece.line)
            return If(condition, negated, *self._branches(piece, "endif"))
        if keyword == "for":
            match = _FOR.fullmatch(piece.content)
            if match is None:
                raise TemplateError(f"expected 'for NAME in VALUE', found {piece.content!r}", piece.line)
            return For(match[1], expression(match[2], piece.line), *self._branches(piece, "endfor"))
        raise TemplateError(f"unexpected {{% {piece.content} %}}", piece.line)

    def _branches(self, opening: Piece, ending: str) -> tuple[list[Node], list[Node]]:
        body, end = self._until(("else", ending))
        otherwise: list[Node] = []
        if end is not None and end.content == "else":
            otherwise, end = self._until((ending,))
        if end is None:
            raise TemplateError(f"{{% {opening.content} %}} is never closed", opening.line)
        return body, otherwise
