"""Trajectories as versioned JSON lines: one episode a line, appended whole, read back without loss.

    append("runs/a.jsonl", trajectory)
    reading = read("runs/a.jsonl")
    reading.trajectories, reading.torn

A line is UTF-8 JSON of every field of the record by name. Bytes stand as `{"text": ...}` where they are UTF-8
and as `{"base64": ...}` where they are not. Floats that are not finite stand as Python writes them (`NaN`).
Only the last line may lack its newline: a writer died in it. If such a tail is no whole record it is *torn*:
`read` reports it and keeps everything before it, `append` cuts it off first. Anything else that is wrong is
a `RecordError` naming file, line, field, what was expected and what was found.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import enum
import functools
import json
import re
import types
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from gym_code.errors import RecordError
from gym_code.files import append_lines
from gym_code.types import JSON, Limits, Trajectory

SCHEMA_VERSION = 1
MAX_COUNT, MAX_SECONDS = 2**63 - 1, 1e9
"""The largest whole number and the largest fraction (seconds, cost) that a limit may be."""

LONE_SURROGATE = re.compile("(?<![\ud800-\udbff])[\udc00-\udfff]|[\ud800-\udbff](?![\udc00-\udfff])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What a trajectory file holds. `torn` describes a last line cut off in writing, or is None."""

    trajectories: tuple[Trajectory, ...]
    torn: str | None = None


def encode(trajectory: Trajectory) -> bytes:
    """The record as one line of JSON, newline included."""
    text = json.dumps(to_plain(trajectory), ensure_ascii=False, separators=(",", ":"))
    # A lone surrogate is escaped, so that the line stays valid UTF-8. The two halves of a split pair are
    # written raw: JSON would read their escapes as one character.
    text = LONE_SURROGATE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)
    return text.encode("utf-8", "surrogatepass") + b"\n"


def decode(line: bytes, *, where: str = "record") -> Trajectory:
    """The record of one line. Raises `RecordError`; `where` stands at the head of its message."""
    try:
        value = json.loads(line.decode("utf-8", "surrogatepass"))
    except UnicodeDecodeError as error:
        found = f"byte 0x{line[error.start]:02x} at offset {error.start}"
        raise RecordError("not UTF-8", where=where, expected="UTF-8 text", found=found) from None
    except (ValueError, RecursionError) as error:
        raise RecordError("not JSON", where=where, expected="a JSON object", found=str(error)) from None
    if not isinstance(value, dict):
        raise RecordError("not a record", where=where, expected="a JSON object", found=_shown(value))
    version = value.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise RecordError(
            "this gym-code cannot read records of that schema version",
            where=f"{where}: schema_version",
            expected=str(SCHEMA_VERSION),
            found=_shown(version) if "schema_version" in value else "none",
        )
    trajectory = _typed(value, Trajectory, f"{where}: ")
    assert isinstance(trajectory, Trajectory)
    return trajectory


def append(path: str | Path, *trajectories: Trajectory) -> None:
    """Add records at the end of a file, creating it (and its directory) if need be.

    Each line is written whole under a lock and synced to disk before this returns; when the disk refuses
    (OSError), the file is cut back to its last whole line. A torn tail of an earlier writer is cut off.
    """
    append_lines(Path(path), map(encode, trajectories), _is_record)


def read(path: str | Path) -> Reading:
    """All records of a file, in order. Raises `RecordError`; a torn tail is reported in the reading."""
    trajectories: list[Trajectory] = []
    torn: str | None = None
    for number, line in _lines(Path(path)):
        where = f"{path}:{number}"
        if line.endswith(b"\n"):
            trajectories.append(decode(line, where=where))
            continue
        try:
            trajectories.append(decode(line, where=where))
        except RecordError:
            torn = f"{where}: the last line was cut off in writing: its {len(line)} bytes were left out"
    return Reading(trajectories=tuple(trajectories), torn=torn)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except OSError as error:
        reason = error.strerror or str(error)
        raise RecordError(reason, where=str(path), expected="a trajectory file", found=reason) from None


def _is_record(line: bytes) -> bool:
    try:
        decode(line)
    except RecordError:
        return False
    return True


def to_plain(value: Any) -> JSON:
    """A record as values that `json.dumps` writes; the values of a mapping are JSON already."""
    if dataclasses.is_dataclass(value):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, bytes):
        try:
            return {"text": value.decode("utf-8")}
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return dict(value)
    return value


@functools.cache
def _hints(record: type) -> dict[str, Any]:
    return get_type_hints(record)


def _typed(value: JSON, hint: Any, where: str) -> Any:
    """The value as the type hint says; `where` names the field, dotted, from the record's root."""
    origin = get_origin(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        inner = [option for option in get_args(hint) if option is not type(None)]
        return None if value is None else _typed(value, inner[0], where)
    if origin is Literal:
        choices = get_args(hint)
        return value if value in choices else _refuse(value, " or ".join(map(repr, choices)), where)
    if origin is tuple:
        items = _checked(value, list, "a list", where)
        return tuple(_typed(item, get_args(hint)[0], f"{where}[{index}]") for index, item in enumerate(items))
    if origin is not None and issubclass(origin, Mapping):
        return {
            key: _typed(item, get_args(hint)[1], f"{where}.{key}")
            for key, item in _checked(value, dict, "an object", where).items()
        }
    if dataclasses.is_dataclass(hint):
        return from_plain(_checked(value, dict, "an object", where), hint, where)
    if issubclass(hint, enum.Enum):
        choices = tuple(member.value for member in hint)
        return hint(value) if value in choices else _refuse(value, "one of " + ", ".join(choices), where)
    return _scalar(value, hint, where)


def _scalar(value: JSON, hint: type, where: str) -> Any:
    if hint is bytes:
        return _bytes(_checked(value, dict, "an object", where), where)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            _refuse("an integer beyond all floats", "a number", where)
    names = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
    return _checked(value, hint, names[hint], where)


def from_plain(value: Mapping[str, JSON], record: Any, where: str) -> Any:
    """The record (a dataclass) of a JSON object, field by field. Raises `RecordError`; `where` heads it."""
    prefix = where if where.endswith(": ") else f"{where}."
    fields = {field.name: field for field in dataclasses.fields(record)}
    if unknown := value.keys() - fields.keys():
        name = min(unknown)
        raise RecordError(
            "unknown field", where=f"{prefix}{name}", expected="one of " + ", ".join(fields), found=name
        )
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in value:
            raise RecordError(
                "field is missing", where=f"{prefix}{name}", expected=str(field.type), found="nothing"
            )
    hints = _hints(record)
    values = {name: _typed(item, hints[name], f"{prefix}{name}") for name, item in value.items()}
    if record is Limits:
        for name, limit in values.items():
            _in_range(limit, f"{prefix}{name}")
    return record(**values)


def _in_range(limit: float | None, where: str) -> None:
    """Refuse what no limit can be: the sandbox would be asked to wait for NaN seconds."""
    most = MAX_SECONDS if isinstance(limit, float) else MAX_COUNT
    if limit is not None and not 0 <= limit <= most:
        _refuse(limit, f"a number from 0 to {most:g}", where)


def _bytes(value: Mapping[str, JSON], where: str) -> bytes:
    match value:
        case {"text": str(text), **rest} if not rest:
            return text.encode("utf-8", "surrogatepass")
        case {"base64": str(text), **rest} if not rest:
            try:
                return base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError) as error:
                _refuse(str(error), "base64 text", where)
    return bytes(_refuse(value, '{"text": ...} or {"base64": ...}', where))


def _checked(value: JSON, kind: type, expected: str, where: str) -> Any:
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        _refuse(value, expected, where)
    return value


def _refuse(value: JSON, expected: str, where: str) -> Any:
    raise RecordError("wrong value", where=where, expected=expected, found=_shown(value))


def _shown(value: JSON) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else text[:77] + "..."
