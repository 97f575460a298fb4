"""The text of a box program as it is sent: made fit for interpreters older than ours, and shorter.

The programs are written for today's checkers; what runs them is whatever interpreter a task's image has. So
all that only readers and checkers need is left out before they are sent: annotations, docstrings,
`from __future__` and what stands under `TYPE_CHECKING`. A program may import from another one of
`gym_code.grading.box`: that one's statements take the place of the import, since a box holds no packages of
ours.
"""

from __future__ import annotations

import ast
import importlib.resources
from functools import cache

BOX = "gym_code.grading.box"
OLDEST_PYTHON = (3, 6)
"""The oldest interpreter that the programs run on."""
_CHECKING = "TYPE_CHECKING"


@cache
def program(name: str) -> str:
    """The text of a program in `gym_code.grading.box`, as it is sent."""
    return as_sent(importlib.resources.files(BOX).joinpath(name).read_text("utf-8"))


def as_sent(text: str) -> str:
    """The text of any program as it is sent into a box."""
    return ast.unparse(_Sent(set()).visit(ast.parse(text)))


def _parsed(name: str) -> ast.Module:
    return ast.parse(importlib.resources.files(BOX).joinpath(name).read_text("utf-8"))


class _Sent(ast.NodeTransformer):
    """Leaves out what does nothing where a program runs; `inlined`: programs whose statements are there."""

    def __init__(self, inlined: set[str]) -> None:
        self._inlined = inlined

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Visit what a node holds; a body of which nothing is left passes."""
        super().generic_visit(node)
        if getattr(node, "body", None) == [] and not isinstance(node, ast.Module):
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST | list[ast.stmt] | None:
        if node.module == "__future__":
            return None
        package, _, name = (node.module or "").rpartition(".")
        if package != BOX:
            return node
        if name in self._inlined:
            return []
        self._inlined.add(name)
        module = self.visit(_parsed(f"{name}.py"))
        assert isinstance(module, ast.Module)
        return module.body

    def visit_If(self, node: ast.If) -> ast.AST | None:
        checking = isinstance(node.test, ast.Name) and node.test.id == _CHECKING
        return None if checking else self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> ast.AST | None:
        targets = [target.id for target in node.targets if isinstance(target, ast.Name)]
        return None if targets == [_CHECKING] else self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST | None:
        if node.value is None:
            return None
        return ast.copy_location(ast.Assign(targets=[node.target], value=self.visit(node.value)), node)

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        return None if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node
