"""The problem statement of a removed function: what its signature, its docstring, the documentation and the
code that stays say of it. Never a line of the removed body, never the name of a hidden test.

Facts that a solver could not know and tests may insist on are told in words: the types of the exceptions it
raises and of its warnings, whether it is a generator, which attributes of `self` the rest of the class reads
and nobody sets.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from gym_code.synth.layout import Layout, in_tests
from gym_code.synth.leaks import significant
from gym_code.synth.removal import Function, body, docstring_node, parse, text, walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from tree_sitter import Node

    from gym_code.types import File

MAX_DOC_LINES = 30
MAX_CALLERS = 6
SHORT = 12
"""Lines shorter than this (`return self`) are nobody's secret; in bytes."""

_DIRECTIVE = (
    r"^(?P<indent>[ \t]*)\.\. (?:py:)?(?:auto)?(?:function|method|class|decorator|attribute|data|property"
)
_DIRECTIVE += r"|classmethod|staticmethod)::\s*(?:[\w.]+\.)?{name}\b.*$"
_HISTORY = re.compile(r"change|history|news|release|author|licen", re.IGNORECASE)


def statement(
    function: Function,
    *,
    start: Mapping[str, File],
    full: Mapping[str, File],
    layout: Layout,
    hidden: int,
) -> str:
    """The Markdown an agent reads. `hidden` is the number of hidden tests that prove the feature."""
    removed = body(full[function.path].content, function)
    name = f"{layout.module(function.path)}.{function.qualname}"
    parts = [
        f"# Write the missing body of `{name}`",
        f"`{function.qualname}` in `{function.path}` has lost its body (line {function.first_line}): calling "
        "it raises `NotImplementedError`. Write it, so that it does what its documentation and the rest of "
        "the repository expect of it. Signature, decorators and docstring stay as they are.",
        "## The definition",
        f"```python\n{_definition(function, full[function.path].content)}\n```",
    ]
    documentation = _documentation(function, start, secret_lines(function, removed))
    if documentation:
        path, excerpt = documentation
        parts += [f"## What `{path}` says", "\n".join(f"> {line}".rstrip() for line in excerpt)]
    facts = [*_facts(removed), *_unset_attributes(function, start), *_callers(function, start, layout)]
    if facts:
        parts += ["## What else is known", "\n".join(f"- {fact}" for fact in facts)]
    count = "one hidden test" if hidden == 1 else f"{hidden} hidden tests"
    parts += [
        "## Done when",
        f"- {count} of this behaviour, now failing, pass (they call it directly or through its users);\n"
        "- the tests that pass today still pass.",
    ]
    return "\n\n".join(parts).rstrip() + "\n"


def secret_lines(function: Function, removed: bytes) -> set[bytes]:
    """Lines of the body that the statement must not show; what the docstring says too is no secret."""
    told = set(significant(function.docstring.encode()))
    return {line for line in significant(removed) if len(line) >= SHORT and line not in told}


def quotes(statement_text: str, function: Function, removed: bytes) -> str | None:
    """A line of the removed body that the statement repeats, or None: the gate behind the promise above."""
    shown = secret_lines(function, removed) & set(significant(statement_text.encode()))
    return min(shown).decode("utf-8", "replace") if shown else None


def _definition(function: Function, content: bytes) -> str:
    lines = [*function.signature.split("\n"), *_quoted_docstring(function.docstring, "    "), "    ..."]
    owner = _owner(function, content)
    if owner is None:
        return "\n".join(lines)
    block = owner.child_by_field_name("body")
    doc = docstring_node(block) if block is not None else None
    head = text(owner).split(":\n", 1)[0].split("\n")[0].rstrip(":") + ":"
    about = text(doc).split("\n") if doc is not None else []
    margin = owner.start_point.column + 4
    about = [
        "    " + (line[margin:] if not line[:margin].strip() else line) for line in about[:MAX_DOC_LINES]
    ]
    return "\n".join(
        [head, *about, *([""] if about else []), *("    " + line if line else "" for line in lines)]
    )


def _quoted_docstring(docstring: str, indent: str) -> list[str]:
    if not docstring:
        return []
    lines = f'"""{docstring}'.split("\n")
    lines = [*lines, '"""'] if len(lines) > 1 else [lines[0] + '"""']
    return [indent + line if line else "" for line in lines]


def _owner(function: Function, content: bytes) -> Node | None:
    """The class a method belongs to."""
    root = parse(content)
    for node in walk(root) if root is not None else ():
        if node.type == "class_definition" and node.start_byte < function.start <= node.end_byte:
            inner = node.child_by_field_name("body")
            if inner is not None and "." in function.qualname:
                name = function.qualname.split(".")[-2]
                if text(node.child_by_field_name("name")) == name:
                    return node
    return None


def _documentation(
    function: Function, start: Mapping[str, File], secret: set[bytes]
) -> tuple[str, list[str]] | None:
    """The first passage of the repository's documentation about the function, else about its class."""
    for path in _documents(start):
        lines = start[path].content.decode("utf-8", "replace").expandtabs().splitlines()
        for passage in _passages(lines, function.qualname.split(".")):
            excerpt = passage[:MAX_DOC_LINES] + (["..."] if len(passage) > MAX_DOC_LINES else [])
            kept = [line for line in excerpt if line.strip().encode() not in secret]
            if any(line.strip() for line in kept[1:]):
                return path, kept
    return None


def _documents(start: Mapping[str, File]) -> list[str]:
    found = [p for p in start if p.endswith((".rst", ".md", ".txt"))]
    found = [p for p in found if not _HISTORY.search(PurePosixPath(p).name)]
    return sorted(found, key=lambda p: (not p.startswith("doc"), p.count("/"), p))


def _passages(lines: list[str], names: list[str]) -> Iterator[list[str]]:
    """What a document says of `Class.method` or `function`, the most special first."""
    *owners, name = names
    if owners:
        # `pop` alone names too much: it is looked for with its class and inside what is said of its class.
        about = list(_about(lines, owners[-1]))
        yield from _about(lines, f"{owners[-1]}.{name}")
        for block in about:
            yield from _about(block[1:], name)
        yield from about
    else:
        yield from _about(lines, name)


def _about(lines: list[str], name: str) -> Iterator[list[str]]:
    """Directives that declare a name, then sections whose heading holds it."""
    directive = re.compile(_DIRECTIVE.format(name=re.escape(name)))
    for number, line in enumerate(lines):
        match = directive.match(line)
        if match:
            yield _block(lines, number, len(match["indent"]))
    heading = re.compile(rf"^#+ .*\b{re.escape(name)}\b")
    for number, line in enumerate(lines):
        if heading.match(line):
            end = next((i for i in range(number + 1, len(lines)) if lines[i].startswith("#")), len(lines))
            yield _trim(lines[number:end])


def _block(lines: list[str], number: int, indent: int) -> list[str]:
    end = number + 1
    while end < len(lines) and (
        not lines[end].strip() or len(lines[end]) - len(lines[end].lstrip()) > indent
    ):
        end += 1
    return _trim([line[indent:] for line in lines[number:end]])


def _trim(lines: list[str]) -> list[str]:
    while lines and not lines[-1].strip():
        lines = lines[:-1]
    return lines


def _facts(removed: bytes) -> Iterator[str]:
    """What the removed code does, in kind: never how."""
    root = parse(b"def f():\n" + b"\n".join(b" " + line for line in removed.split(b"\n")) + b"\n")
    nodes = list(walk(root)) if root is not None else []
    raised = sorted({name for node in nodes if node.type == "raise_statement" for name in _raised(node)})
    if raised:
        yield f"It may raise {_listed(raised)}."
    warned = sorted({name for node in nodes if node.type == "call" for name in _warned(node)})
    if warned:
        yield f"It may warn: {_listed(warned)}."
    own = [n for n in nodes if n.type in ("yield", "return_statement", "await") and _depth(n) == 1]
    if any(node.type == "yield" for node in own):
        yield "It is a generator."
    elif not any(node.type == "return_statement" and node.named_child_count for node in own):
        yield "It returns nothing: it is called for its effect."


def _raised(node: Node) -> Iterator[str]:
    for child in node.named_children[:1]:
        target = child.child_by_field_name("function") if child.type == "call" else child
        name = text(target)
        if re.fullmatch(r"[A-Z][\w.]*", name):
            yield name


def _warned(node: Node) -> Iterator[str]:
    """The category of a call of `warn`, where it is named."""
    arguments = node.child_by_field_name("arguments")
    if text(node.child_by_field_name("function")).rpartition(".")[2] != "warn" or arguments is None:
        return
    for argument in arguments.named_children:
        value = argument.child_by_field_name("value") if argument.type == "keyword_argument" else argument
        if re.fullmatch(r"(\w+\.)*\w*Warning", text(value)):
            yield text(value)


def _depth(node: Node) -> int:
    """How many functions a node lies in."""
    depth, parent = 0, node.parent
    while parent is not None:
        depth += parent.type in ("function_definition", "lambda")
        parent = parent.parent
    return depth


def _unset_attributes(function: Function, start: Mapping[str, File]) -> Iterator[str]:
    """For a method: attributes of `self` that its class reads and that nobody sets with the body gone."""
    owner = _owner(function, start[function.path].content)
    if owner is None:
        return
    read: set[str] = set()
    known: set[str] = set()
    for node in walk(owner):
        if node.type == "attribute" and text(node.child_by_field_name("object")) == "self":
            name = text(node.child_by_field_name("attribute"))
            parent = node.parent
            target = (
                parent is not None
                and parent.type == "assignment"
                and parent.child_by_field_name("left") == node
            )
            (known if target else read).add(name)
        elif node.type in ("function_definition", "class_definition"):
            known.add(text(node.child_by_field_name("name")))
        elif node.type == "assignment":
            known.add(text(node.child_by_field_name("left")))
    unset = sorted(read - known)
    if owner.child_by_field_name("superclasses") is not None:
        # Anything else may be inherited.
        unset = [name for name in unset if name.startswith("__")]
    unset = [name for name in unset if not name.endswith("__")]
    if unset:
        yield f"The class reads attributes of `self` that nothing sets now: {_listed(unset)}."


def _callers(function: Function, start: Mapping[str, File], layout: Layout) -> Iterator[str]:
    """Functions of the repository, tests left out, that call something of this name."""
    name = function.qualname.split(".")[-1]
    if name.startswith("__"):
        return
    found: list[str] = []
    for path in layout.sources:
        root = parse(start[path].content) if path in start and not in_tests(path) else None
        for node in walk(root) if root is not None else ():
            if node.type == "call" and text(node.child_by_field_name("function")).rsplit(".", 1)[-1] == name:
                caller = _path_name(node)
                if caller:
                    found.append(f"`{caller}` (`{path}`)")
    unique = list(dict.fromkeys(found))
    if unique:
        more = f" and {len(unique) - MAX_CALLERS} more" if len(unique) > MAX_CALLERS else ""
        yield f"Code that calls `{name}`: {', '.join(unique[:MAX_CALLERS])}{more}."


def _path_name(node: Node) -> str:
    """The qualified name of the function around a node; empty where there is none."""
    names: list[str] = []
    parent = node.parent
    while parent is not None:
        if parent.type == "function_definition" or (names and parent.type == "class_definition"):
            names.append(text(parent.child_by_field_name("name")))
        parent = parent.parent
    return ".".join(reversed(names))


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)
