"""edit: replace one exact piece of text in a file."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

from gym_code.errors import ToolCallError
from gym_code.tools.spec import Tool, ToolContext
from gym_code.tools.text import READ_BYTES, decode, one_line, path_errors
from gym_code.types import ordered_unique

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from gym_code.types import JSON

_SHOWN_PLACES = 5
_COMPARED_LINES = 1000  # difflib is quadratic: a hostile file must not cost the host seconds
_COMPARED_CHARS = 100


def _edit(context: ToolContext, arguments: Mapping[str, JSON]) -> str:
    path, old, new = arguments["path"], arguments["old"].encode(), arguments["new"].encode()
    with path_errors(context.sandbox, path):
        data = context.sandbox.read(path, max_bytes=READ_BYTES + 1)
        if len(data) > READ_BYTES:
            raise ToolCallError(f"{path} is larger than {READ_BYTES} bytes; edit it with bash.")
        places = _places(data, old)
        if len(places) != 1:
            raise ToolCallError(_not_once(path, data, old, places))
        if old == new:
            raise ToolCallError("old and new are the same; nothing would change.")
        at = places[0]
        context.sandbox.write(path, data[:at] + new + data[at + len(old) :])
    return f"Edited {path}."


def _places(data: bytes, old: bytes) -> list[int]:
    """Where `old` occurs, overlaps included; one more than are shown is enough to know."""
    places: list[int] = []
    at = data.find(old)
    while at >= 0 and len(places) < 1000:
        places.append(at)
        at = data.find(old, at + 1)
    return places


def _not_once(path: str, data: bytes, old: bytes, places: Sequence[int]) -> str:
    if places:
        lines = ordered_unique([str(data.count(b"\n", 0, at) + 1) for at in places[:_SHOWN_PLACES]])
        more = ", ..." if len(places) > _SHOWN_PLACES else ""
        count = f"{len(places)} times" if len(places) < 1000 else "1000 times or more"
        where = ", ".join(lines) + more
        return f"old was found {count} in {path} (lines {where}), expected once; give more text around it."
    return f"old was found 0 times in {path}, expected once. {_nearest(decode(data)[0], decode(old)[0])}"


def _nearest(text: str, old: str) -> str:
    """Why `old` may be missing: white space that differs, or else the lines most like its first line."""
    lines, wanted = text.split("\n")[:_COMPARED_LINES], old.strip("\n").split("\n")
    stripped, target = [line.split() for line in lines], [line.split() for line in wanted]
    for at in range(len(lines) - len(wanted) + 1):
        if any(target) and stripped[at : at + len(target)] == target:
            cause = "line ends (the file has \\r\\n)" if "\r\n" in text and "\r" not in old else "white space"
            return f"Lines {at + 1}-{at + len(wanted)} differ from it in {cause} only."
    first = next((line.strip() for line in wanted if line.strip()), "")[:_COMPARED_CHARS]
    candidates = {line.strip()[:_COMPARED_CHARS]: n for n, line in reversed(list(enumerate(lines, 1)))}
    near = difflib.get_close_matches(first, list(candidates), n=3, cutoff=0.5) if first else []
    if not near:
        return "No line looks like it."
    return "The nearest lines:\n" + "\n".join(
        f"{candidates[line]}: {one_line(line, _COMPARED_CHARS)}" for line in near
    )


EDIT = Tool(
    name="edit",
    description="Replace a piece of text in a file. old must occur exactly once, white space included.",
    parameters={
        "type": "object",
        "properties": {
            "path": {"type": "string", "minLength": 1, "description": "The file."},
            "old": {
                "type": "string",
                "minLength": 1,
                "description": "The text to replace, exactly as it stands.",
            },
            "new": {"type": "string", "description": "What to put in its place."},
        },
        "required": ["path", "old", "new"],
        "additionalProperties": False,
    },
    run=_edit,
)
