"""search: lines of text by regular expression, or definitions in Python files by name."""

from __future__ import annotations

import fnmatch
import functools
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gym_code.errors import ToolCallError
from gym_code.grading.runners.source import as_sent
from gym_code.tools.spec import Tool, ToolContext
from gym_code.tools.symbols import definitions
from gym_code.tools.text import check_path, one_line, path_errors, with_note
from gym_code.types import JSON, Cause

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MATCHES = 100
_FILES = 300
_FILE_BYTES = 512 * 1024  # of one Python file that the host parses
_LINE_CHARS = 200


def _search(context: ToolContext, arguments: Mapping[str, JSON]) -> str:
    pattern, path = arguments["pattern"], arguments.get("path", ".")
    check_path(path)
    symbols = arguments.get("kind", "text") == "symbol"
    found = _symbols(context, pattern, path) if symbols else _lines(context, pattern, path)
    if not found:
        return "No matches."
    shown = _fitting(found[:_MATCHES], context.task.limits.output_bytes)
    text = "\n".join(shown)
    if len(found) > len(shown):
        text = with_note(text, f"[more than {len(shown)} matches; narrow the pattern or the path]")
    return text


def _fitting(lines: list[str], budget: int) -> list[str]:
    """As many of the lines as fit into `budget` bytes."""
    used = 0
    for count, line in enumerate(lines):
        used += len(line.encode("utf-8", "replace")) + 1
        if used > budget:
            return lines[:count]
    return lines


def _lines(context: ToolContext, pattern: str, path: str) -> list[str]:
    found = _ask(context, kind="text", pattern=pattern, path=path, most=_MATCHES)
    return [f"{name}:{number}: {line.rstrip()}" for name, number, line in found]


def _symbols(context: ToolContext, pattern: str, path: str) -> list[str]:
    # The box finds the files that can hold the name; the host parses only those.
    word = max(re.findall(r"\w+", pattern), key=len, default="")
    files = _ask(context, kind="symbol", pattern=word, path=path, most=_FILES)
    found: list[str] = []
    for name in files[:_FILES]:
        if any("\udc80" <= char <= "\udcff" for char in name):
            continue  # a name that is not UTF-8 cannot be asked for
        found += _matching(context, pattern, name)
        if len(found) > _MATCHES:
            break
    return found


def _matching(context: ToolContext, pattern: str, name: str) -> Iterator[str]:
    with path_errors(context.sandbox, name):
        data = context.sandbox.read(name, max_bytes=_FILE_BYTES)
    glob = pattern if any(char in pattern for char in "*?[") else f"*{pattern}*"
    for symbol in definitions(data):
        if fnmatch.fnmatchcase(symbol.name, glob):
            yield f"{name}:{symbol.line}: {one_line(symbol.text, _LINE_CHARS)}"


@functools.cache
def _program() -> str:
    return as_sent(Path(__file__).with_name("searcher.py").read_text(encoding="utf-8"))


def _ask(context: ToolContext, **request: JSON) -> list[Any]:
    """What the searcher finds in the box; raises `ToolCallError` where it found nothing to search."""
    command = ["python3", "-I", "-S", "-c", _program()]
    stdin = json.dumps(request).encode()
    result = context.sandbox.exec(
        command, stdin=stdin, output_bytes=4 * 1024**2, timeout=context.task.limits.exec_seconds
    )
    if result.cause is Cause.TIMED_OUT:
        raise ToolCallError("the search took too long; narrow the path or simplify the pattern.")
    try:
        answer = json.loads(result.stdout)
    except ValueError:
        raise ToolCallError("the search could not run in this sandbox; try bash with grep.") from None
    match answer:
        case {"found": list(found)}:
            return found
        case {"error": "missing"}:
            raise ToolCallError(f"{request['path']} does not exist.")
        case {"error": "pattern", "reason": str(reason)}:
            raise ToolCallError(f"the pattern is not a regular expression: {one_line(reason, _LINE_CHARS)}.")
    raise ToolCallError("the search could not run in this sandbox; try bash with grep.")


SEARCH = Tool(
    name="search",
    description="Search the files. kind text: lines that match a Python regular expression; kind symbol: "
    "definitions in Python files whose dotted name contains the pattern, or matches it as a glob with *.",
    parameters={
        "type": "object",
        "properties": {
            "pattern": {"type": "string", "minLength": 1, "description": "What to look for."},
            "path": {"type": "string", "minLength": 1, "description": "Where; default: the repository."},
            "kind": {"type": "string", "enum": ["text", "symbol"], "description": "Default: text."},
        },
        "required": ["pattern"],
        "additionalProperties": False,
    },
    run=_search,
)
