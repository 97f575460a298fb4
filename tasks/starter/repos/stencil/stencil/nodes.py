"""What a template is made of after parsing; every node can render itself."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from stencil.context import Context
from stencil.errors import TemplateError
from stencil.filters import Filter, escaped, to_text


@dataclass(frozen=True, slots=True)
class Settings:
    """What holds for a whole template."""

    filters: Mapping[str, Filter]
    escape: bool


class Node(Protocol):
    """A part of a template."""

    def render(self, context: Context, settings: Settings) -> str:
        """The text of this part."""


@dataclass(frozen=True, slots=True)
class Text:
    """Text outside of tags."""

    text: str

    def render(self, context: Context, settings: Settings) -> str:
        """The text itself."""
        return self.text


@dataclass(frozen=True, slots=True)
class FilterCall:
    """A filter with its arguments: constants, or paths that are looked up."""

    name: str
    arguments: tuple[Expression | str | int, ...]


@dataclass(frozen=True, slots=True)
class Expression:
    """A path and the filters that its value goes through."""

    path: str
    calls: tuple[FilterCall, ...]
    line: int

    def value(self, context: Context, settings: Settings) -> Any:
        """The value after all filters. Raises TemplateError for an unknown filter or arguments that do not fit."""
        value = context.look_up(self.path, self.line)
        for call in self.calls:
            if call.name not in settings.filters:
                raise TemplateError(f"unknown filter {call.name!r}", self.line)
            arguments = [
                item.value(context, settings) if isinstance(item, Expression) else item
                for item in call.arguments
            ]
            try:
                value = settings.filters[call.name](value, *arguments)
            except TypeError as error:
                raise TemplateError(f"filter {call.name!r}: {error}", self.line) from error
        return value


@dataclass(frozen=True, slots=True)
class Output:
    """`{{ expression }}`."""

    expression: Expression

    def render(self, context: Context, settings: Settings) -> str:
        """The value as text, escaped where the settings ask for it."""
        value = self.expression.value(context, settings)
        return escaped(value) if settings.escape else to_text(value)


@dataclass(frozen=True, slots=True)
class If:
    """`{% if %}` with both branches."""

    condition: Expression
    negated: bool
    body: Sequence[Node]
    otherwise: Sequence[Node]

    def render(self, context: Context, settings: Settings) -> str:
        """The branch that the condition picks."""
        holds = bool(self.condition.value(context, settings)) != self.negated
        return render_all(self.body if holds else self.otherwise, context, settings)


@dataclass(frozen=True, slots=True)
class For:
    """`{% for name in expression %}` and what stands for an empty series."""

    name: str
    series: Expression
    body: Sequence[Node]
    otherwise: Sequence[Node]

    def render(self, context: Context, settings: Settings) -> str:
        """The body once for every item, each with the item and `loop` in scope."""
        items = self.series.value(context, settings)
        if items is None:
            items = ()
        if not isinstance(items, Iterable) or isinstance(items, str):
            raise TemplateError(f"cannot loop over {self.series.path!r}", self.series.line)
        series = list(items)
        if not series:
            return render_all(self.otherwise, context, settings)
        out = []
        for index, item in enumerate(series):
            loop = {
                "index": index + 1,
                "first": index == 0,
                "last": index == len(series) - 1,
                "length": len(series),
            }
            context.push({self.name: item, "loop": loop})
            try:
                out.append(render_all(self.body, context, settings))
            finally:
                context.pop()
        return "".join(out)


def render_all(nodes: Iterable[Node], context: Context, settings: Settings) -> str:
    """The texts of several nodes, joined."""
    return "".join(node.render(context, settings) for node in nodes)
