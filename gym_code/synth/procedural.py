"""Tasks without end, from a seed: small repositories with a missing function, made by machine.

A task is a pure function of its id, `procedural__FAMILY-lLEVEL-fFUNCTIONS-SPLIT-SEED`:

    level 1      one function a module
    level 2      a second, finished function stands beside it
    level 3      as 2, and the result is combined with a constant where the family allows it
    functions    how many functions are missing; all must be right (1 = a one-line feature)
    split        `train` and `eval` never hold the same feature: the digest of what is stated (path,
                 names, docstring) decides which split a draw belongs to; a draw of the other split is
                 drawn again

Suite reference: `procedural:seed=0,count=100,split=eval,levels=1-3,functions=1,families=gap+pages`.
"""

from __future__ import annotations

import ast
import copy
import functools
import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gym_code.errors import TaskError
from gym_code.gitrepo import base_commit
from gym_code.synth.families import (
    BY_NAME,
    ENDINGS,
    FAMILIES,
    GLUES,
    MODULES,
    PARAMETERS,
    WORDS,
    Family,
)
from gym_code.synth.patches import git_patch
from gym_code.types import Answer, Environment, File, Limits, StartTree, Task, canonical_digest, tree_digest

STUB = "raise NotImplementedError"
SPLITS = ("train", "eval")
EVAL_SHARE = 4
"""One draw in EVAL_SHARE belongs to `eval`."""

_ID = re.compile(
    r"procedural__(?P<family>\w+)-l(?P<level>\d)-f(?P<functions>\d+)-(?P<split>\w+)-(?P<seed>\d+)"
)
_SAFE = {each.__name__: each for each in (abs, dict, len, list, max, min, range, set, sorted, sum)}

Value = object
Case = tuple[tuple[Value, ...], Value]


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One generated function: how it is stated, solved, missed and tested."""

    family: str
    name: str
    parameters: tuple[str, ...]
    doc: str
    right: str
    wrong: str
    shared: tuple[Case, ...]
    """Cases on which right and wrong agree."""
    telling: tuple[Case, ...]
    """Cases on which they differ."""

    def source(self, body: str) -> str:
        """The function with this body."""
        return f'def {self.name}({", ".join(self.parameters)}):\n    """{self.doc}"""\n    {body}\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Repository:
    """One generated repository; `missing` maps a module path to the function that is missing there."""

    missing: Mapping[str, Function]
    start: Mapping[str, File]
    solved: Mapping[str, File]
    hidden: Mapping[str, File]


class ProceduralSuite:
    """An endless suite, `count` tasks of which `ids()` lists. Every well-formed id can be asked for."""

    def __init__(
        self,
        *,
        seed: int = 0,
        count: int = 100,
        split: str = "train",
        levels: Sequence[int] = (1, 2, 3),
        functions: int = 1,
        families: Sequence[str] = tuple(BY_NAME),
    ) -> None:
        self.name = "procedural"
        self._ids = tuple(
            f"procedural__{families[i % len(families)]}"
            f"-l{levels[(i // len(families)) % len(levels)]}-f{functions}-{split}-{seed * 1_000_000 + i}"
            for i in range(count)
        )

    def ids(self) -> Sequence[str]:
        """The listed ids: families in turn, then levels."""
        return self._ids

    def task(self, task_id: str) -> Task:
        """The public half. Raises `TaskError` for an id that is none of this generator."""
        return _made(task_id)[0]

    def answer(self, task_id: str) -> Answer:
        """The secret half."""
        return _made(task_id)[1]

    def start(self, task_id: str) -> StartTree:
        """The start tree; generated in memory."""
        files = repository(task_id).start
        return StartTree(digest=tree_digest(files), files=lambda: files)


def suite(options: str) -> ProceduralSuite:
    """A suite from its reference options, e.g. `seed=7,count=100,levels=1-2,families=gap+pages`.

    Raises `TaskError` for an unknown key, family or split, or a value that is no number.
    """
    where = f"procedural:{options}"
    found = dict(part.partition("=")[::2] for part in options.split(",") if part)
    known = ("seed", "count", "split", "levels", "functions", "families")
    for key in found:
        if key not in known:
            raise TaskError("unknown option", where=where, expected=" ".join(known), found=key)
    numbers = {}
    for key, default in (("seed", "0"), ("count", "100"), ("functions", "1")):
        if not found.get(key, default).isdecimal():
            raise TaskError(f"{key} is no number", where=where, expected="digits", found=found[key])
        numbers[key] = int(found.get(key, default))
    levels = re.fullmatch(r"([1-3])(?:-([1-3]))?", found.get("levels", "1-3"))
    if levels is None:
        raise TaskError("levels is no range", where=where, expected="1-3", found=found["levels"])
    low, high = int(levels[1]), int(levels[2] or levels[1])
    split = found.get("split", "train")
    if split not in SPLITS:
        raise TaskError("unknown split", where=where, expected=" or ".join(SPLITS), found=split)
    families = found["families"].split("+") if "families" in found else list(BY_NAME)
    for name in families:
        if name not in BY_NAME:
            raise TaskError("unknown family", where=where, expected=" ".join(BY_NAME), found=name)
    if not 1 <= numbers["functions"] <= len(MODULES):
        raise TaskError(
            "functions out of range", where=where, expected=f"1 to {len(MODULES)}", found=numbers["functions"]
        )
    return ProceduralSuite(
        seed=numbers["seed"],
        count=numbers["count"],
        functions=numbers["functions"],
        split=split,
        levels=tuple(range(low, high + 1)),
        families=families,
    )


@functools.lru_cache(maxsize=4096)
def repository(task_id: str) -> Repository:
    """The repository of a task id, whole. Raises `TaskError` for an id that is none of this generator."""
    match = _ID.fullmatch(task_id)
    if (
        match is None
        or match["family"] not in BY_NAME
        or match["split"] not in SPLITS
        or match["level"] not in "123"
    ):
        raise TaskError(
            "no procedural task",
            where=task_id,
            expected="procedural__FAMILY-lLEVEL-fN-SPLIT-SEED",
            found=task_id,
        )
    level, count = int(match["level"]), int(match["functions"])
    if not 1 <= count <= len(MODULES):
        raise TaskError("functions out of range", where=task_id, expected=f"1 to {len(MODULES)}", found=count)
    rng = random.Random(task_id)
    while True:
        made = _draw_repository(BY_NAME[match["family"]], level, count, rng)
        if split_of(made.missing) == match["split"]:
            return made


def family_of(task_id: str) -> str:
    """The family that the id of a procedural task names."""
    return task_id.removeprefix("procedural__").split("-")[0]


def split_of(missing: Mapping[str, Function]) -> str:
    """Which split a repository belongs to, by what is stated and missing alone: paths, names, docstrings."""
    stated = canonical_digest({path: function.source(STUB) for path, function in missing.items()})
    return "eval" if int(stated[:8], 16) % EVAL_SHARE == 0 else "train"


def _draw_repository(family: Family, level: int, count: int, rng: random.Random) -> Repository:
    modules = rng.sample(MODULES, count)
    families = [family, *(rng.choice(FAMILIES) for _ in range(count - 1))]
    missing: dict[str, Function] = {}
    start: dict[str, File] = {}
    solved: dict[str, File] = {}
    for module, its_family in zip(modules, families, strict=True):
        function = draw_function(its_family, level, rng)
        others = (
            [draw_function(rng.choice([f for f in FAMILIES if f != its_family]), 1, rng)] if level > 1 else []
        )
        place = rng.randrange(len(others) + 1)
        path = f"{module}.py"
        missing[path] = function
        for files, body in ((start, STUB), (solved, f"return {function.right}")):
            parts = [other.source(f"return {other.right}") for other in others]
            parts.insert(place, function.source(body))
            files[path] = File(content="\n\n".join(parts).encode())
    shared = {
        "about.py": File(content=f'NAME = "{rng.choice(WORDS)}-{rng.choice(MODULES)}"\n'.encode()),
        "tests/__init__.py": File(),
        "tests/test_visible.py": File(content=_visible_tests(missing).encode()),
    }
    hidden = {"tests/test_hidden.py": File(content=_hidden_tests(missing).encode())}
    return Repository(missing=missing, start=start | shared, solved=solved | shared, hidden=hidden)


def draw_function(family: Family, level: int, rng: random.Random) -> Function:
    """One function of a family, with names, a constant and cases that tell right from wrong."""
    while True:
        variant = rng.choice(family.variants)
        names: list[str] = []
        for kind in family.kinds:
            names.append(rng.choice([name for name in PARAMETERS[kind] if name not in names]))
        filled = dict(zip("abc", names, strict=False)) | {"k": str(rng.randint(2, 9))}
        doc, right, wrong = (text.format(**filled) for text in (variant.doc, variant.right, variant.wrong))
        if level >= 3 and family.composable:
            extra = rng.randint(2, 9)
            doc, right, wrong = f"{doc} Add {extra} to that.", f"{right} + {extra}", f"{wrong} + {extra}"
        shared, telling = _draw_cases(family, names, right, wrong, rng)
        if telling:
            return Function(
                family=family.name,
                name=rng.choice(family.verbs),
                parameters=tuple(names),
                doc=doc,
                right=right,
                wrong=wrong,
                shared=shared,
                telling=telling,
            )


def _draw_cases(
    family: Family, names: Sequence[str], right: str, wrong: str, rng: random.Random
) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
    shared: dict[str, Case] = {}
    telling: dict[str, Case] = {}
    for _ in range(60):
        arguments = draw_arguments(family, rng)
        expected, other = (evaluate(text, names, arguments) for text in (right, wrong))
        if isinstance(expected, Exception):
            continue
        same = type(expected) is type(other) and expected == other
        (shared if same else telling).setdefault(repr(arguments), (arguments, expected))
        if len(shared) >= 2 and len(telling) >= 3:
            break
    return tuple(shared.values())[:2], tuple(telling.values())[:3]


def evaluate(expression: str, names: Sequence[str], arguments: Sequence[Value]) -> Value:
    """The value of one of our own expressions on a copy of the arguments, or the exception it raised."""
    scope = dict(zip(names, copy.deepcopy(list(arguments)), strict=True))
    try:
        return eval(compile(expression, "<family>", "eval"), {"__builtins__": _SAFE} | scope)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        return error


def draw_arguments(family: Family, rng: random.Random) -> tuple[Value, ...]:
    """Arguments for one case, one for each kind; related kinds are drawn so that edge cases are common."""
    values: list[Value] = []
    for kind in family.kinds:
        values.append(draw_argument(kind, values, rng))
    return tuple(values)


def draw_argument(kind: str, before: Sequence[Value], rng: random.Random) -> Value:
    """One argument of a kind (see `Family`); `before` are the arguments already drawn."""
    match kind:
        case "n":
            numbers = [v for v in before if isinstance(v, int)]
            pool = [*numbers, *(x for v in before if isinstance(v, list) for x in v)]
            return rng.choice(pool) if pool and rng.random() < 0.3 else rng.randint(-6, 12)
        case "p":
            return rng.randint(2, 4)
        case "i":
            return rng.randint(0, 3)
        case "f":
            return rng.randint(0, 12)
        case "L":
            size = 0 if rng.random() < 0.15 else rng.randint(3, 6)
            return [rng.randint(-3, 9) for _ in range(size)]
        case "w":
            tables = [v for v in before if isinstance(v, dict)]
            known = list(tables[0]) if tables else []
            return (
                rng.choice(known) if known and rng.random() < 0.5 else rng.choice(WORDS) + rng.choice(ENDINGS)
            )
        case "m":
            words = [v for v in before if isinstance(v, str)]
            word = rng.choice(words) if words and rng.random() < 0.6 else rng.choice(WORDS)
            return rng.choice((word.lower(), word.title(), word.upper()))
        case "s":
            words = [v for v in before if isinstance(v, str)]
            return words[0][-2:] if words and rng.random() < 0.4 else rng.choice(ENDINGS)
        case "g":
            return rng.choice(GLUES)
        case "W":
            return rng.sample(WORDS, rng.randint(2, 4))
        case "T":
            return {word: rng.randint(0, 9) for word in rng.sample(WORDS, 3)}
        case _:
            raise ValueError(f"unknown kind of argument: {kind}")


def _visible_tests(missing: Mapping[str, Function]) -> str:
    lines = ["import unittest", "", "import about"]
    lines += [f"import {path.removesuffix('.py')}" for path in sorted(missing)]
    lines += ["", "", "class VisibleTest(unittest.TestCase):"]
    lines += ["    def test_about(self):", "        self.assertIn('-', about.NAME)"]
    for number, (path, function) in enumerate(missing.items()):
        if not function.shared:
            continue
        arguments, expected = function.shared[0]
        call = f"{path.removesuffix('.py')}.{function.name}({', '.join(map(repr, arguments))})"
        lines += [
            "",
            f"    def test_example_{number}(self):",
            f"        self.assertEqual({call}, {expected!r})",
        ]
    return "\n".join(lines) + "\n"


def _hidden_tests(missing: Mapping[str, Function]) -> str:
    lines = [
        "import unittest",
        "",
        *(f"import {path.removesuffix('.py')}" for path in sorted(missing)),
        "",
        "",
    ]
    lines += ["class HiddenTest(unittest.TestCase):"]
    for number, (path, function) in enumerate(missing.items()):
        for letter, (arguments, expected) in zip(
            "abcde", (*function.telling, *function.shared[1:]), strict=False
        ):
            call = f"{path.removesuffix('.py')}.{function.name}({', '.join(map(repr, arguments))})"
            lines += [
                f"    def test_{number}_{letter}(self):",
                f"        self.assertEqual({call}, {expected!r})",
                "",
            ]
    return "\n".join(lines[:-1]) + "\n"


def _test_names(source: bytes, module: str) -> list[str]:
    tree = ast.parse(source)
    return [
        f"{module}.{node.name}.{item.name}"
        for node in tree.body
        if isinstance(node, ast.ClassDef)
        for item in node.body
        if isinstance(item, ast.FunctionDef)
    ]


@functools.lru_cache(maxsize=4096)
def _made(task_id: str) -> tuple[Task, Answer]:
    made = repository(task_id)
    match = _ID.fullmatch(task_id)
    assert match is not None
    level, count = int(match["level"]), len(made.missing)
    visible = _test_names(made.start["tests/test_visible.py"].content, "tests.test_visible")
    hidden = _test_names(made.hidden["tests/test_hidden.py"].content, "tests.test_hidden")
    answer = Answer(
        task_id=task_id,
        fail_to_pass=tuple(hidden),
        pass_to_pass=tuple(name for name in visible if name.endswith(".test_about")),
        gold_patch=git_patch(made.start, made.solved),
        test_patch=git_patch(made.start, {**made.start, **made.hidden}),
    )
    wanted = [f"Implement {function.name} in {path}." for path, function in made.missing.items()]
    digest = canonical_digest(
        [task_id, tree_digest(made.start), answer.gold_patch.decode(), answer.test_patch.decode()]
    )
    task = Task(
        id=task_id,
        instruction="\n".join(wanted),
        base_commit=base_commit(made.start),
        environment=Environment(),
        runner="unittest",
        visible_tests=tuple(visible),
        repo="procedural",
        family=match["family"],
        difficulty=min(1.0, (level + 3 * (count - 1)) / 10),
        limits=Limits(
            turns=8 + 6 * count, exec_seconds=20.0, memory_bytes=512 * 1024**2, disk_bytes=64 * 1024**2
        ),
        provenance={
            "source": "procedural",
            "level": level,
            "functions": count,
            "split": match["split"],
            "seed": int(match["seed"]),
            "licence": "Apache-2.0",
        },
        digest=digest,
    )
    return task, answer
