"""Predictions as agents write them: `.jsonl`, or `.json` with a list or with an object by instance id."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from gym_code.errors import InputError
from gym_code.interop import json_lines
from gym_code.interop.dataset import utf8
from gym_code.interop.problems import DataError, Problems, kind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from gym_code.types import JSON

MAX_PATCH_BYTES = 20_000_000
"""A longer patch is refused: SWE-bench's largest solution has 0.2 MB."""
MAX_LINE_BYTES = 2 * MAX_PATCH_BYTES
"""A longer line of JSON is refused unread; escapes make it longer than its patch."""
_HEAD = 4096
_ID, _MODEL, _PATCH = "instance_id", "model_name_or_path", "model_patch"
_DIFF = re.compile(r"^(diff --git |--- [^\n]*\n\+\+\+ )", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """One answer of one agent. A patch of None (it gave none) and "" (it changed nothing) are two things."""

    instance_id: str
    model: str
    patch: str | None
    extra: Mapping[str, JSON] = field(default_factory=dict)
    """The other keys, as they came."""
    file: str = ""
    line: int = 0


def read_predictions(path: str | Path, known: Collection[str] | None = None) -> dict[str, Prediction]:
    """The predictions of a file by instance id, in its order.

    known: the ids of the data set; one that is not among them is wrong. All or nothing: raises `DataError`
    with everything that is wrong (a file cut in the middle too), `InputError` where there is no such file. A
    patch is looked at no further than to see that it is a diff: whether it applies is the grader's to say.
    """
    path = Path(path)
    if path.suffix not in (".json", ".jsonl") or not path.is_file():
        found = f"{path.suffix or 'no suffix'}" if path.is_file() else "none"
        raise InputError("no predictions", where=str(path), expected="a .json or .jsonl file", found=found)
    problems, predictions = Problems(), dict[str, Prediction]()
    ids = None if known is None else frozenset(known)
    for key, value, line in _entries(path, problems):
        prediction = _prediction(value, key, (str(path), line), problems)
        if prediction is None:
            continue
        _check(prediction, ids, predictions.get(prediction.instance_id), problems)
        predictions.setdefault(prediction.instance_id, prediction)
    problems.raise_any()
    return predictions


def _entries(path: Path, problems: Problems) -> Iterator[tuple[str | None, JSON, int]]:
    """(key, value, line); a line that cannot be read is noted and passed over."""
    try:
        if path.suffix == ".json":
            yield from json_lines.entries(utf8(path.read_bytes(), (str(path), 1)), str(path))
            return
        for number, line in _lines(path, problems):
            try:
                where = (str(path), number)
                value = json_lines.parse(utf8(line, where), where, "a prediction of JSON")
            except DataError as error:
                _note(error, problems)
                continue
            yield None, value, number
    except DataError as error:
        _note(error, problems)


def _note(error: DataError, problems: Problems) -> None:
    for problem in error.problems:
        problems.add((problem.file, problem.line), problem.field, problem.expected, problem.found)


def _lines(path: Path, problems: Problems) -> Iterator[tuple[int, bytes]]:
    """The lines that are not empty, with their numbers; one that is too long is noted and never held."""
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE_BYTES + 1):
            number += 1
            size = len(line)
            if size > MAX_LINE_BYTES:
                head = line[:_HEAD]
                while line and not line.endswith(b"\n"):
                    line = file.readline(MAX_LINE_BYTES)
                    size += len(line)
                expected = f"at most {MAX_LINE_BYTES} bytes on a line"
                problems.add((str(path), number), _near(head), expected, f"{size} bytes")
            elif line.strip():
                yield number, line


def _near(head: bytes) -> str:
    """The instance id at the head of a line that is not read, where it stands there."""
    match = re.search(rb'"instance_id"\s*:\s*"([\w.-]+)"', head)
    return match[1].decode() if match else ""


def _prediction(
    value: JSON, key: str | None, where: tuple[str, int], problems: Problems
) -> Prediction | None:
    """The prediction, or None where the schema is another."""
    if not isinstance(value, dict):
        problems.add(where, key or "", f"an object with {_ID}, {_MODEL} and {_PATCH}", kind(value))
        return None
    before = problems.total
    texts = {_ID: value.get(_ID, key), _MODEL: value.get(_MODEL)}
    for name, text in texts.items():
        if not isinstance(text, str) or not text:
            found = "nothing" if name not in value else "no text" if text == "" else kind(text)
            problems.add(where, name, "text", found)
    if key is not None and texts[_ID] != key:
        problems.add(where, _ID, f"{key!r}, the key it stands under", repr(texts[_ID]))
    patch = value.get(_PATCH)
    if _PATCH not in value or not (patch is None or isinstance(patch, str)):
        problems.add(where, _PATCH, "a diff as text, or null", kind(patch) if _PATCH in value else "nothing")
    if problems.total > before:
        return None
    extra = {name: item for name, item in value.items() if name not in (_ID, _MODEL, _PATCH)}
    return Prediction(
        instance_id=str(texts[_ID]),
        model=str(texts[_MODEL]),
        patch=patch,
        extra=extra,
        file=where[0],
        line=where[1],
    )


def _check(
    prediction: Prediction, known: frozenset[str] | None, first: Prediction | None, problems: Problems
) -> None:
    where, name = (prediction.file, prediction.line), prediction.instance_id
    if first is not None:
        problems.add(where, _ID, f"one prediction for an instance (first: line {first.line})", repr(name))
    if known is not None and name not in known:
        near = difflib.get_close_matches(name, known, 1) if len(problems.found) < 20 else []
        nearest = f" (nearest: {near[0]!r})" if near else ""
        problems.add(where, _ID, f"one of the {len(known)} ids of the data set{nearest}", repr(name))
    if prediction.patch is None or not prediction.patch.strip():
        return
    size = len(prediction.patch.encode("utf-8", "surrogatepass"))
    if size > MAX_PATCH_BYTES:
        problems.add(where, _PATCH, f"at most {MAX_PATCH_BYTES} bytes", f"{size} bytes ({name})")
    elif not _DIFF.search(prediction.patch):
        problems.add(
            where,
            _PATCH,
            f"a diff (`diff --git`, or `---` and `+++`) for {name}",
            repr(prediction.patch[:60]),
        )
