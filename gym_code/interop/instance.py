"""What a row of SWE-bench (Lite, Verified, version 5), SWE-smith or SWE-rebench says, by one name each.

| | classic | version 5 | SWE-rebench | SWE-smith |
|---|---|---|---|---|
| image | derived from the id | `image` | `docker_image`, `image_name` | `image_name` |
| the image holds | the start tree | the start tree | the start tree | the solution |
| `patch` | the solution | the solution | the solution | *makes the bug*: the solution is its reverse |
| how tests run | by repository | `eval_script`, `log_parser` | `install_config` | by repository |
| FAIL_TO_PASS | JSON text or list | list | list | list |
"""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeGuard

from gym_code.interop.dataset import read_rows
from gym_code.interop.problems import Problems, kind
from gym_code.interop.reverse import reverse_diff
from gym_code.suite.task_yaml import ID, expected_image

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gym_code.interop.dataset import Row
    from gym_code.types import JSON

F2P, P2P = "FAIL_TO_PASS", "PASS_TO_PASS"
_TEXTS = ("repo", "patch", "problem_statement")
_OPTIONAL_TEXTS = (
    "version", "base_commit", "test_patch", "hints_text", "image", "image_name",
    "docker_image", "dockerfile", "eval_script", "eval_type", "log_parser", "environment_setup_commit",
)  # fmt: skip
_OTHERS = ("created_at", "difficulty", "split")
"""Nothing hangs on them: where they are no text, only the row keeps them."""
_UNDERSTOOD = frozenset(
    {"instance_id", F2P, P2P, "datasets", "install_config", "test_cmd", *_TEXTS, *_OPTIONAL_TEXTS, *_OTHERS}
)
_DJANGO, _SYMPY = "django/django", "sympy/sympy"
_OURS = frozenset(
    f"parse_log_{name}"
    for name in (
        *("pytest", "pytest_options", "pytest_v2", "matplotlib", "seaborn"),
        *("astroid", "flask", "marshmallow", "pvlib", "pyvista", "sqlfluff", "xarray"),  # as pytest
        *("pydicom", "requests", "pylint"),  # as pytest_options
        *("astropy", "scikit", "sphinx"),  # as pytest_v2
    )
)
"""Parsers of SWE-bench that read pytest's output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One row, understood, and `row` as it came, so that nothing is lost. None: the row is silent."""

    instance_id: str
    repo: str
    patch: str
    """As in the row; `gold_patch` is the solution."""
    problem_statement: str
    fail_to_pass: tuple[str, ...]
    pass_to_pass: tuple[str, ...]
    test_patch: str | None = None
    base_commit: str | None = None
    version: str | None = None
    hints: str | None = None
    """None and "" are two things: nobody looked, and nothing was said."""
    created_at: str | None = None
    environment_setup_commit: str | None = None
    difficulty: str | None = None
    image: str
    """Where the row names none: the name under which SWE-bench publishes it."""
    image_holds: Literal["start", "solution"] = "start"
    dockerfile: str | None = None
    eval_script: str | None = None
    eval_type: str | None = None
    log_parser: str | None = None
    test_commands: tuple[str, ...] = ()
    install: Mapping[str, JSON] | None = None
    """SWE-rebench's `install_config`."""
    split: str | None = None
    datasets: tuple[str, ...] = ()
    row: Mapping[str, JSON]
    where: tuple[str, int]
    """(file, line) of the row; line 0 where rows have none."""

    @property
    def extra(self) -> dict[str, JSON]:
        """The columns that no field above speaks of."""
        return {key: value for key, value in self.row.items() if key not in _UNDERSTOOD}

    @property
    def gold_patch(self) -> str:
        """From the start tree to the solution. Raises `PatchError` where a bug cannot be taken back."""
        return self.patch if self.image_holds == "start" else reverse_diff(self.patch)

    @property
    def runner(self) -> str:
        """The test runner by name; `official` where only SWE-bench's own parsers read the tests."""
        if self.repo == _DJANGO or self.log_parser == "parse_log_django":
            return "django"
        if self.repo == _SYMPY or self.log_parser == "parse_log_sympy":
            return "sympy"
        return "pytest" if self.log_parser is None or self.log_parser in _OURS else "official"


def read_instances(source: str, limit: int | None = None) -> list[Instance]:
    """The instances of a data set (`read_rows`), the first `limit` of them.

    Raises `DataError` with all that is wrong with the rows; an id that comes twice is wrong.
    """
    problems, found = Problems(), dict[str, Instance]()
    places: dict[str, tuple[str, int]] = {}
    for row in itertools.islice(read_rows(source), limit):
        instance = instance_of(row, problems)
        if instance is None:
            continue
        if instance.instance_id in places:
            file, line = places[instance.instance_id]
            first = f"{file}:{line}" if line else file
            problems.add(row.where, "instance_id", f"ids once (first: {first})", repr(instance.instance_id))
        places.setdefault(instance.instance_id, row.where)
        found[instance.instance_id] = instance
    problems.raise_any()
    return list(found.values())


def instance_of(row: Row, problems: Problems) -> Instance | None:
    """The instance of a row, or None where something that grading needs is missing or of another type."""
    before = problems.total
    fields = _RowFields(row, problems)
    identity = fields.identity()
    texts = {name: fields.text(name) for name in _TEXTS}
    optional = {name: fields.optional(name) for name in _OPTIONAL_TEXTS}
    others = {name: value for name in _OTHERS if isinstance(value := row.data.get(name), str)}
    fail_to_pass, pass_to_pass = fields.tests(F2P), fields.tests(P2P)
    if not fail_to_pass and problems.total == before and others.get("split") != "deprecated":
        problems.add(row.where, F2P, "at least one test", "none: nothing would grade it")
    install = row.data.get("install_config")
    install = install if isinstance(install, dict) else None
    commands = row.data.get("test_cmd") or (install or {}).get("test_cmd")
    datasets = row.data.get("datasets")
    if problems.total > before:
        return None
    named = optional["image"] or optional["image_name"] or optional["docker_image"]
    parser = optional["log_parser"] or (install or {}).get("log_parser")
    return Instance(
        instance_id=identity,
        repo=texts["repo"],
        patch=texts["patch"],
        problem_statement=texts["problem_statement"],
        fail_to_pass=fail_to_pass,
        pass_to_pass=pass_to_pass,
        test_patch=optional["test_patch"],
        base_commit=optional["base_commit"],
        version=optional["version"],
        hints=optional["hints_text"],
        created_at=others.get("created_at"),
        environment_setup_commit=optional["environment_setup_commit"],
        difficulty=others.get("difficulty"),
        image=named or expected_image(identity),
        image_holds="solution" if _makes_the_bug(texts["repo"], named, row.data) else "start",
        dockerfile=optional["dockerfile"],
        eval_script=optional["eval_script"],
        eval_type=optional["eval_type"],
        log_parser=parser if isinstance(parser, str) else None,
        test_commands=_commands(commands),
        install=install,
        split=others.get("split"),
        datasets=tuple(datasets) if _is_texts(datasets) else (),
        row=row.data,
        where=row.where,
    )


def _makes_the_bug(repo: str, image: str | None, row: Mapping[str, JSON]) -> bool:
    """Whether this is SWE-smith's: its patches break a sound repository (its `harness/utils.py`)."""
    smith = repo.startswith("swesmith/") or "swesmith" in (image or "")
    return smith and not row.get("test_patch")


def _commands(value: JSON) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,)
    return tuple(value) if _is_texts(value) else ()


def _is_texts(value: JSON) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


class _RowFields:
    """A row asked field by field; what is wrong is noted with its place."""

    def __init__(self, row: Row, problems: Problems) -> None:
        self._row, self._problems = row, problems

    def _wrong(self, field: str, expected: str, found: object) -> None:
        self._problems.add(self._row.where, field, expected, found)

    def identity(self) -> str:
        value = self._row.data.get("instance_id")
        if not isinstance(value, str) or not ID.fullmatch(value):
            found = repr(value) if isinstance(value, str) else self._found("instance_id")
            self._wrong("instance_id", f"text like {ID.pattern}", found)
            return ""
        return value

    def text(self, field: str) -> str:
        value = self._row.data.get(field)
        if not isinstance(value, str):
            self._wrong(field, "text", self._found(field))
            return ""
        self._check_unicode(field, value)
        return value

    def optional(self, field: str) -> str | None:
        value = self._row.data.get(field)
        if value is None:
            return None
        if not isinstance(value, str):
            self._wrong(field, "text or null", kind(value))
            return None
        self._check_unicode(field, value)
        return value

    def tests(self, field: str) -> tuple[str, ...]:
        """The tests of a list, or of the JSON text of one."""
        value = self._row.data.get(field)
        if isinstance(value, str):
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                self._wrong(field, "a list of tests, or one as JSON text", repr(value))
                return ()
        if not _is_texts(value):
            self._wrong(field, "a list of tests, or one as JSON text", self._found(field))
            return ()
        for test in value:
            self._check_unicode(field, test)
        return tuple(value)

    def _check_unicode(self, field: str, value: str) -> None:
        try:
            value.encode("utf-8", "surrogateescape" if field.endswith("patch") else "strict")
        except UnicodeEncodeError as error:
            self._wrong(field, "Unicode", f"half of a surrogate pair at {error.start}")

    def _found(self, field: str) -> str:
        if field in self._row.data:
            return kind(self._row.data[field])
        close = next((key for key in self._row.data if key.lower() == field.lower()), None)
        return "no such key" if close is None else f"no such key, but {close!r}"
