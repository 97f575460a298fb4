"""Rows of any data set, each with its place: JSON, JSONL, Parquet, a task repository, a hub name."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gym_code.errors import ConfigError, InputError
from gym_code.interop import json_lines
from gym_code.interop.problems import fail, kind
from gym_code.interop.taskrepo import directory_rows, plain_value
from gym_code.suite.directory import SUITE_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from gym_code.types import JSON

SUFFIXES = (".json", ".jsonl", ".parquet")
_HUB = re.compile(r"(?P<name>[\w.-]+/[\w.-]+)(:(?P<split>[\w.-]+))?")
_BATCH = 64
"""Parquet rows held at a time: one may be megabytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row, as it came: `data` keeps the order of its keys."""

    data: Mapping[str, JSON]
    file: str
    line: int = 0
    """From 1; 0 where rows have no lines."""

    @property
    def where(self) -> tuple[str, int]:
        """(file, line), as problems name it."""
        return self.file, self.line


def read_rows(source: str) -> Iterator[Row]:
    """The rows of a file, a task repository or a hub name `org/name[:split]`, as they are read.

    Raises `DataError` (file, line, expected, found) where the data breaks off, `InputError` where nothing is
    there, `ConfigError` where a package that reads it is not installed.
    """
    path = Path(source)
    if path.is_dir():
        if not (path / SUITE_FILE).is_file():
            raise InputError(
                "not a task repository", where=source, expected=f"a file {SUITE_FILE}", found="none"
            )
        for file, data in directory_rows(path):
            yield Row(data=data, file=file)
    elif path.is_file():
        yield from _file_rows(path)
    elif path.suffix not in SUFFIXES and (name := _HUB.fullmatch(source)):
        yield from _hub_rows(name["name"], name["split"])
    else:
        raise InputError(
            "no such data set",
            where=source,
            expected=f"a file ({', '.join(SUFFIXES)}), a task repository, or org/name[:split]",
            found="none",
        )


def _file_rows(path: Path) -> Iterator[Row]:
    if path.suffix == ".jsonl":
        yield from _jsonl_rows(path)
    elif path.suffix == ".json":
        for key, value, line in json_lines.entries(utf8(path.read_bytes(), (str(path), 1)), str(path)):
            yield _row(_named(value, key), (str(path), line))
    elif path.suffix == ".parquet":
        yield from _parquet_rows(path)
    else:
        raise InputError(
            "unknown kind of data set", where=str(path), expected=", ".join(SUFFIXES), found=path.suffix
        )


def _jsonl_rows(path: Path) -> Iterator[Row]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.strip():
                where = (str(path), number)
                yield _row(json_lines.parse(utf8(line, where), where, "a row of JSON"), where)


def _parquet_rows(path: Path) -> Iterator[Row]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise _missing("pyarrow", error) from None
    number = 0
    try:
        with pq.ParquetFile(path) as table:
            for batch in table.iter_batches(batch_size=_BATCH):
                for data in batch.to_pylist():
                    number += 1
                    where = (f"{path} row {number}", 0)
                    yield _row({key: plain_value(value, where, key) for key, value in data.items()}, where)
    except (pa.ArrowException, OSError) as error:
        place = f"{path} row {number + 1}" if number else str(path)
        raise fail((place, 0), "", "Parquet, whole", error) from None


def _hub_rows(name: str, split: str | None) -> Iterator[Row]:
    """Rows through `datasets`, from its cache or the network; its errors in our words, here alone."""
    try:
        import datasets
    except ImportError as error:
        raise _missing("datasets", error) from None
    try:
        wanted = split or _only_split(name, datasets.get_dataset_split_names(name))
        found = datasets.load_dataset(name, split=wanted)
    except InputError:
        raise
    except Exception as error:  # It raises its own, requests', httpx's and fsspec's errors.
        raise InputError(
            "cannot be loaded from the hub",
            where=name,
            expected="a data set in the cache or a hub that answers; a file works without either",
            found=f"{type(error).__name__}: {' '.join(str(error).split())[:300]}",
        ) from None
    for number, data in enumerate(found, start=1):
        where = (f"{name}:{wanted} row {number}", 0)
        yield _row({key: plain_value(value, where, key) for key, value in data.items()}, where)


def _only_split(name: str, splits: list[str]) -> str:
    if "test" in splits:
        return "test"
    if len(splits) != 1:
        raise InputError("which split?", where=name, expected=f"{name}:SPLIT", found=", ".join(splits))
    return splits[0]


def _named(value: JSON, key: str | None) -> JSON:
    """A row of an object by id: the key is its instance id where it does not say so itself."""
    if key is not None and isinstance(value, dict) and "instance_id" not in value:
        return {"instance_id": key, **value}
    return value


def _row(value: JSON, where: tuple[str, int]) -> Row:
    if not isinstance(value, dict):
        raise fail(where, "", "a row: an object", kind(value))
    return Row(data=value, file=where[0], line=where[1])


def utf8(content: bytes, where: tuple[str, int]) -> str:
    """The text of bytes that begin at (file, line); a byte order mark is dropped. Raises `DataError`."""
    try:
        return content.decode("utf-8-sig" if where[1] == 1 else "utf-8")
    except UnicodeDecodeError as error:
        line = where[1] + content.count(b"\n", 0, error.start)
        raise fail((where[0], line), "", "UTF-8", f"the byte 0x{content[error.start]:02x}") from None


def _missing(package: str, error: ImportError) -> ConfigError:
    return ConfigError(
        f"needs the package {package} ({error.msg}); run: pip install 'gym-code[data]'", where="data set"
    )
