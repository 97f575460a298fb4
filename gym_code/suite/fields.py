"""Reading YAML and JSON at the door: every problem says file, line, field, expected and found."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml

from gym_code.errors import TaskError

if TYPE_CHECKING:
    import re
    from collections.abc import Collection
    from pathlib import Path

_REQUIRED = object()
_SHOWN = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong with one field of one file. `line` counts from 1; 0 where it is not known."""

    file: str
    field: str
    expected: str
    found: str
    line: int = 0

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}" if self.line else self.file
        return f"{where}: {self.field}: expected {self.expected}, found {self.found}"

    def error(self) -> TaskError:
        """The problem as an exception."""
        where = f"{self.file}:{self.line}" if self.line else self.file
        return TaskError(self.field, where=where, expected=self.expected, found=self.found)


class Fields:
    """A mapping read from a file, asked field by field (`gym.limits.turns`); gathers `problems`."""

    def __init__(self, file: str, data: dict[str, Any], lines: dict[str, int]) -> None:
        self.file, self.data, self.lines = file, data, lines
        self.problems: list[Problem] = []

    def problem(self, field: str, expected: str, found: object) -> None:
        """Note that a field is not what it should be."""
        line = self.lines.get(field, self.lines.get(field.rpartition(".")[0], 0))
        self.problems.append(
            Problem(file=self.file, field=field, expected=expected, found=_show(found), line=line)
        )

    def get(self, field: str, default: Any = None) -> Any:
        """The value at a dotted path."""
        value: Any = self.data
        for part in field.split("."):
            if not isinstance(value, dict) or part not in value:
                return default
            value = value[part]
        return value

    def text(self, field: str, default: Any = _REQUIRED, *, like: re.Pattern[str] | None = None) -> str:
        """A string, matched whole by `like`."""
        value = self._typed(field, str, "text", default)
        if isinstance(value, str) and like is not None and not like.fullmatch(value):
            self.problem(field, f"text like {like.pattern}", value)
        return value if isinstance(value, str) else ""

    def choice(self, field: str, choices: Collection[str], default: Any = _REQUIRED) -> str:
        """One of some words."""
        value = self._typed(field, str, "text", default)
        if isinstance(value, str) and value not in choices:
            self.problem(field, " or ".join(sorted(choices)), value)
        return value if isinstance(value, str) else ""

    def strings(self, field: str, default: Any = _REQUIRED) -> tuple[str, ...]:
        """A list of strings without repeats."""
        value = self._typed(field, list, "a list of text", default)
        if not isinstance(value, list):
            return ()
        for number, item in enumerate(value):
            if not isinstance(item, str):
                self.problem(f"{field}[{number}]", "text", item)
        texts = tuple(item for item in value if isinstance(item, str))
        if len(set(texts)) < len(texts):
            self.problem(field, "no repeats", next(text for text in texts if texts.count(text) > 1))
        return texts

    def mapping(self, field: str, default: Any = _REQUIRED) -> dict[str, Any]:
        """A mapping with text as keys."""
        value = self._typed(field, dict, "a mapping", default)
        if not isinstance(value, dict):
            return {}
        for key in value:
            if not isinstance(key, str):
                self.problem(field, "text as keys", key)
        return {key: item for key, item in value.items() if isinstance(key, str)}

    def number(self, field: str, low: float, high: float, default: Any = _REQUIRED) -> float | None:
        """A number in [low, high], or None where the default is."""
        value = self.get(field, default)
        if value is _REQUIRED or (value is None and default is _REQUIRED):
            self.problem(field, f"a number from {low:g} to {high:g}", "nothing")
            return None
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            self.problem(field, f"a number from {low:g} to {high:g}", value)
            return None
        return value

    def only(self, field: str, allowed: Collection[str]) -> None:
        """A mapping has no keys but these: a misspelt one would be passed over in silence."""
        value = self.get(field) if field else self.data
        for key in value if isinstance(value, dict) else ():
            if key not in allowed:
                name = f"{field}.{key}" if field else str(key)
                self.problem(name, f"one of {', '.join(sorted(allowed))}", key)

    def _typed(self, field: str, kind: type, name: str, default: Any) -> Any:
        value = self.get(field, default)
        if value is _REQUIRED:
            self.problem(field, name, "nothing")
        elif not isinstance(value, kind) and not (value is None and default is None):
            self.problem(field, name, value)
        return value


def read_text(path: Path, shown: str) -> str:
    """The text of a file, line ends as they are. Raises `TaskError` where it is missing or not UTF-8."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        raise TaskError("file is missing", where=shown, expected="a file", found="none") from None
    except (UnicodeDecodeError, OSError) as error:
        raise TaskError("file cannot be read", where=shown, expected="UTF-8 text", found=error) from None


def read_yaml(path: Path, shown: str) -> Fields:
    """The mapping in a YAML file, with the line of every field. Raises `TaskError`."""
    text = read_text(path, shown)
    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        data = None if node is None else loader.construct_document(node)
        fields = Fields(shown, data if isinstance(data, dict) else {}, {})
        _note_lines(node, "", fields)
    except yaml.MarkedYAMLError as error:
        line = f":{error.problem_mark.line + 1}" if error.problem_mark else ""
        raise TaskError(
            "not valid YAML", where=f"{shown}{line}", expected="YAML", found=error.problem
        ) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise TaskError("not valid YAML", where=shown, expected="YAML", found=error) from None
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise TaskError("not a mapping", where=shown, expected="a mapping", found=_show(data))
    return fields


def read_json(path: Path, shown: str) -> Fields:
    """The mapping in a JSON file. Raises `TaskError`."""
    try:
        data = json.loads(read_text(path, shown))
    except json.JSONDecodeError as error:
        raise TaskError(
            "not valid JSON", where=f"{shown}:{error.lineno}", expected="JSON", found=error.msg
        ) from None
    except (ValueError, RecursionError) as error:  # A number too long, or lists too deep.
        raise TaskError("not valid JSON", where=shown, expected="JSON", found=error) from None
    if not isinstance(data, dict):
        raise TaskError("not a mapping", where=shown, expected="a mapping", found=_show(data))
    return Fields(shown, data, {})


def _note_lines(node: yaml.Node | None, prefix: str, fields: Fields) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        name = f"{prefix}.{key.value}" if prefix else key.value
        repeated = name in fields.lines
        fields.lines[name] = key.start_mark.line + 1
        if repeated:
            fields.problem(name, "a field once", "it twice")
        _note_lines(value, name, fields)


def _show(value: object) -> str:
    try:
        text = value if value == "nothing" else repr(value)
    except (ValueError, RecursionError):
        return f"{type(value).__name__}, too large to show"
    return str(text) if len(str(text)) <= _SHOWN else f"{str(text)[:_SHOWN]}..."
