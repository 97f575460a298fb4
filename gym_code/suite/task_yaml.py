"""`task.yaml`, read and checked: the public half of a task."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from gym_code.types import Environment, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

    from gym_code.suite.fields import Fields

KINDS = ("fix", "build")
RUNNERS = ("pytest", "unittest", "django", "sympy", "official")
"""`official`: only SWE-bench's own log parsers read what these tests print."""
IDS = ("exact", "swebench")
"""Test ids are the runner's own, or what SWE-bench's log parsers read of them on a console."""
CHECKOUTS = ("start", "solution")
"""What a task's image holds where no source tree is there: the start tree, or the solution with its tests."""
LEVELS = ("line", "function", "class", "module", "feature", "application")
GRADES = ("train", "eval")
TRUST = ("high", "low")
SPLITS = ("test", "dev", "train", "deprecated")
EVAL_TYPES = ("pass_and_fail", "fail_only")
DIFFICULTY = (0.0, 1.0)
GYM_KEYS = frozenset({
    "kind", "source", "start_digest", "runner", "ids", "environment", "visible_tests", "limits", "removed",
    "level", "difficulty", "licence", "grade", "seed", "evidence", "digest", "trust", "family", "mutants",
    "checkout",
})  # fmt: skip

ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SHA1 = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[A-Za-z0-9,._-]+\])?==[A-Za-z0-9][A-Za-z0-9.!+_-]*")
PYTHON = re.compile(r"3\.[0-9]+")
_LIMITS = {field.name: field for field in dataclasses.fields(Limits)}
_MAY_BE_NONE = frozenset({"tokens", "cost", "episode_seconds", "cpu_seconds"})
_FRACTIONS = frozenset({"cost", "exec_seconds", "episode_seconds"})
_MOST, _MOST_SECONDS = 2**63 - 1, 1e9
"""What the system can count to, and seconds that a clock can wait for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskMeta:
    """What `task.yaml` says."""

    instance_id: str
    repo: str
    version: str
    base_commit: str
    image: str
    source: str
    start_digest: str
    """Both "" where `checkout` is given."""
    checkout: Literal["start", "solution"] | None
    digest: str
    kind: Literal["fix", "build"]
    runner: str
    ids: Literal["exact", "swebench"]
    environment: Environment
    visible_tests: tuple[str, ...] | None
    limits: Limits
    difficulty: float | None
    family: str
    trust: Literal["high", "low"]
    provenance: Mapping[str, Any]


def expected_image(instance_id: str) -> str:
    """The image name that SWE-bench derives from an instance id."""
    return f"swebench/sweb.eval.x86_64.{instance_id}:latest".lower().replace("__", "_1776_")


def task_meta(fields: Fields, instance_id: str) -> TaskMeta:
    """The fields of a `task.yaml`; what is wrong gathers in `fields.problems`, so look there first."""
    _swebench_keys(fields, instance_id)
    fields.only("gym", GYM_KEYS)
    environment = _environment(fields)
    evidence = fields.mapping("gym.evidence", {})
    seconds = evidence.get("gold_seconds")
    provenance = {
        "level": fields.choice("gym.level", LEVELS, "feature"),
        "licence": fields.text("gym.licence", ""),
        "grade": fields.choice("gym.grade", GRADES, "train"),
        "seed": fields.get("gym.seed"),
        **({"difficulty": label} if isinstance(label := fields.get("difficulty"), str) else {}),
        **({"gold_seconds": seconds} if isinstance(seconds, int | float) else {}),
    }
    fields.strings("gym.removed", [])
    checkout = fields.choice("gym.checkout", CHECKOUTS) if _given(fields, "checkout") else None
    if checkout is None:
        version, commit = fields.text("version"), fields.text("base_commit", like=SHA1)
        source, start_digest = (
            fields.text("gym.source", like=ID),
            fields.text("gym.start_digest", like=SHA256),
        )
    else:
        version, commit = fields.text("version", ""), fields.text("base_commit", "")
        source = start_digest = ""
        _no_source(fields, environment)
    return TaskMeta(
        instance_id=fields.text("instance_id", like=ID),
        repo=fields.text("repo"),
        version=version,
        base_commit=commit,
        image=fields.text("image"),
        source=source,
        start_digest=start_digest,
        checkout=cast("Literal['start', 'solution'] | None", checkout),
        digest=fields.text("gym.digest", like=SHA256),
        kind=cast("Literal['fix', 'build']", fields.choice("gym.kind", KINDS)),
        runner=fields.choice("gym.runner", RUNNERS, "pytest"),
        ids=cast("Literal['exact', 'swebench']", fields.choice("gym.ids", IDS, "exact")),
        environment=environment,
        visible_tests=fields.strings("gym.visible_tests", []) if _given(fields, "visible_tests") else None,
        limits=_limits(fields),
        difficulty=fields.number("gym.difficulty", *DIFFICULTY, None),
        family=fields.text("gym.family", "") or source or str(fields.get("repo", "")),
        trust=cast("Literal['high', 'low']", fields.choice("gym.trust", TRUST, "low")),
        provenance=provenance,
    )


def _no_source(fields: Fields, environment: Environment) -> None:
    for name in ("source", "start_digest"):
        if _given(fields, name):
            fields.problem(f"gym.{name}", "nothing beside gym.checkout", fields.get(f"gym.{name}"))
    if environment.image is None:
        fields.problem("gym.environment.image", "the image that holds the tree", "nothing")


def _given(fields: Fields, name: str) -> bool:
    return fields.get(f"gym.{name}") is not None


def _swebench_keys(fields: Fields, instance_id: str) -> None:
    if fields.get("instance_id", instance_id) != instance_id:
        fields.problem("instance_id", f"{instance_id}, the name of its directory", fields.get("instance_id"))
    foreign = _given(fields, "checkout")
    if not foreign and fields.get("image") not in (None, expected_image(instance_id)):
        fields.problem("image", expected_image(instance_id), fields.get("image"))
    split = fields.choice("split", SPLITS)
    if not foreign:
        fields.text("log_parser")
        fields.choice("eval_type", EVAL_TYPES)
    if split != "deprecated" and not fields.strings("datasets"):
        fields.problem("datasets", "at least one data set", fields.get("datasets"))


def _environment(fields: Fields) -> Environment:
    name = "gym.environment"
    fields.only(name, ("python", "packages", "image", "env"))
    packages = fields.strings(f"{name}.packages", [])
    for package in packages:
        if not PACKAGE.fullmatch(package):
            fields.problem(f"{name}.packages", "pinned requirements, name==version", package)
    image = fields.text(f"{name}.image", None) or None
    env = fields.mapping(f"{name}.env", {})
    for key, value in env.items():
        if not isinstance(value, str):
            fields.problem(f"{name}.env.{key}", "text", value)
    python = Environment().python
    if image is None or fields.get(f"{name}.python") is not None:
        python = fields.text(f"{name}.python", like=PYTHON)
    return Environment(
        python=python,
        packages=tuple(sorted(packages)),
        image=image,
        env={key: str(value) for key, value in sorted(env.items())},
    )


def _limits(fields: Fields) -> Limits:
    given = fields.mapping("gym.limits", {})
    fields.only("gym.limits", _LIMITS)
    values: dict[str, Any] = {}
    for name in given:
        if name not in _LIMITS:
            continue
        field, value = f"gym.limits.{name}", given[name]
        if value is None and name in _MAY_BE_NONE:
            values[name] = None
            continue
        number = fields.number(field, 0, _MOST_SECONDS if name in _FRACTIONS else _MOST)
        if number is None:
            continue
        if number <= 0 or (name not in _FRACTIONS and number != int(number)):
            fields.problem(
                field, "a number above 0" if name in _FRACTIONS else "a whole number above 0", value
            )
            continue
        values[name] = float(number) if name in _FRACTIONS else int(number)
    return Limits(**values)
