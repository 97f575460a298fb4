"""Templates: parsed once, rendered often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stencil.context import Context
from stencil.filters import FILTERS, Filter
from stencil.nodes import Settings, render_all
from stencil.parser import parse


class Template:
    """A template that has been read. Raises TemplateError when the text has mistakes."""

    def __init__(
        self,
        text: str,
        *,
        filters: Mapping[str, Filter] | None = None,
        escape: bool = True,
        strict: bool = False,
    ) -> None:
        self._nodes = parse(text)
        self._settings = Settings({**FILTERS, **(filters or {})}, escape)
        self._strict = strict

    def render(self, values: Mapping[str, Any] | None = None) -> str:
        """The text for some values. Raises TemplateError for unknown filters, and unknown names in strict mode."""
        return render_all(self._nodes, Context(values or {}, strict=self._strict), self._settings)


def render(text: str, values: Mapping[str, Any] | None = None, **options: Any) -> str:
    """The text of a template that is used only once; options as for `Template`."""
    return Template(text, **options).render(values)
