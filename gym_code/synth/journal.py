"""What became of each candidate, one synced line each: a run goes on after a cut, losses can be looked up."""

from __future__ import annotations

import json
import os
from typing import IO, TYPE_CHECKING

from gym_code.synth.cut import Lost
from gym_code.types import canonical_digest, tree_digest

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from gym_code.synth.baseline import Baseline

VERSION = 2
"""Raised when making changes so that old results no longer stand."""


class Journal:
    """`OUT/make/NAME-VERSION.jsonl`: a header that names the inputs, then one line a candidate.

    A journal of other inputs (source, environment, stable tests, version of the maker) is replaced. A torn
    last line is dropped.
    """

    def __init__(self, out: Path, base: Baseline) -> None:
        self._out = out
        self._path = out / "make" / f"{base.directory}.jsonl"
        self._header = canonical_digest(
            {
                "version": VERSION,
                "tree": tree_digest(base.source.files),
                "environment": base.environment.digest,
                "stable": sorted(base.stable),
            }
        )
        self._known: dict[str, Lost | str] = {}
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Journal:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        lines = self._path.read_bytes().split(b"\n")[:-1] if self._path.exists() else []
        first = json.dumps({"inputs": self._header}).encode()
        if lines[:1] == [first]:
            self._read(lines[1:])
        kept = b"".join(line + b"\n" for line in (lines if lines[:1] == [first] else [first]))
        temporary = self._path.with_suffix(".tmp")
        temporary.write_bytes(kept)
        temporary.replace(self._path)
        self._file = self._path.open("ab")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def known(self, key: str) -> Lost | str | None:
        """The loss, or the id of the task that is still there; None for a candidate that must be tried."""
        return self._known.get(key)

    def lost(self, lost: Lost) -> None:
        """Note a loss, unless it is known."""
        if lost.key not in self._known:
            self._append({"key": lost.key, "lost": lost.reason, "detail": lost.detail})

    def made(self, key: str, task_id: str) -> None:
        """Note a task that was written."""
        self._append({"key": key, "task": task_id})

    def _read(self, lines: list[bytes]) -> None:
        for line in lines:
            entry = json.loads(line)
            if "lost" in entry:
                self._known[entry["key"]] = Lost(
                    key=entry["key"], reason=entry["lost"], detail=entry["detail"]
                )
            elif (self._out / "tasks" / entry["task"] / "task.yaml").is_file():
                self._known[entry["key"]] = entry["task"]

    def _append(self, entry: dict[str, str]) -> None:
        if self._file is None:
            raise ValueError("the journal is not open")
        self._file.write(json.dumps(entry, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
