"""view: a file's text, or a directory's names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gym_code.errors import ToolCallError
from gym_code.tools.spec import Tool, ToolContext
from gym_code.tools.text import (
    READ_BYTES,
    clip,
    decode,
    path_errors,
    split_lines,
    undecodable_note,
    with_note,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gym_code.types import JSON


def _view(context: ToolContext, arguments: Mapping[str, JSON]) -> str:
    path, budget = arguments["path"], context.task.limits.output_bytes
    start, end = (int(arguments[key]) if key in arguments else None for key in ("start", "end"))
    with path_errors(context.sandbox, path):
        try:
            data = context.sandbox.read(path, max_bytes=READ_BYTES + 1)
        except IsADirectoryError:
            if start is not None or end is not None:
                raise ToolCallError(f"{path} is a directory; start and end are for files.") from None
            return _listing(context.sandbox.list(path), budget)
    text, bad = decode(data[:READ_BYTES])
    shown = _lines(path, split_lines(text), start, end, budget)
    if bad:
        shown = with_note(shown, undecodable_note(bad))
    if len(data) > READ_BYTES:
        shown = with_note(shown, f"[only the first {READ_BYTES} bytes of the file can be viewed]")
    return shown


def _lines(path: str, lines: list[str], start: int | None, end: int | None, budget: int) -> str:
    """The asked lines, raw; what does not fit is counted in a last line that says how to see it."""
    first = start or 1
    if end is not None and end < first:
        raise ToolCallError(f"end ({end}) must not be less than start ({first}).")
    if first > max(len(lines), 1):
        raise ToolCallError(f"{path} has {len(lines)} lines; line {first} is past its end.")
    asked = lines[first - 1 : end]
    kept, used = 0, 0
    while kept < len(asked) and (used := used + len(asked[kept].encode("utf-8", "replace"))) <= budget:
        kept += 1
    if kept == len(asked):
        return "".join(asked)
    if kept == 0:
        note = f"[line {first} is longer than {budget} bytes and was cut; use bash to see the rest]"
        return with_note(clip(asked[0], budget), note)
    left, more = len(asked) - kept, first + kept
    note = f"[{left} more {'line' if left == 1 else 'lines'}; view with start={more} to see them]"
    return with_note("".join(asked[:kept]), note)


def _listing(names: tuple[str, ...], budget: int) -> str:
    if not names:
        return "(empty directory)"
    text = "\n".join(names)
    shown = clip(text, budget)
    if len(shown) == len(text):
        return text
    whole = shown.rpartition("\n")[0]
    left = len(names) - (whole.count("\n") + 1 if whole else 0)
    return with_note(whole, f"[{left} more names; use bash with ls to see them]")


VIEW = Tool(
    name="view",
    description="Show the text of a file, or the names in a directory. Lines are numbered from 1; "
    "start and end (both included) choose some of them.",
    parameters={
        "type": "object",
        "properties": {
            "path": {"type": "string", "minLength": 1, "description": "File or directory in the repository."},
            "start": {"type": "integer", "minimum": 1, "description": "First line to show."},
            "end": {"type": "integer", "minimum": 1, "description": "Last line to show."},
        },
        "required": ["path"],
        "additionalProperties": False,
    },
    run=_view,
)
