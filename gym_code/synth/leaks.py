"""The leak scan, a gate that fails: can a removed body be read back from anywhere but the answer?

Three places are searched: the start tree (a copy in another file, a build directory, a cache), leftovers
that scrubbing should have taken, and the environment (an installed copy of the package). Code that is merely
similar is no leak: only a run of the removed lines, word for word, in their order.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import TYPE_CHECKING

from gym_code.synth.removal import Function, body
from gym_code.synth.sources import normalise, scrub

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from gym_code.sandbox.base import Sandbox
    from gym_code.types import File

SHARE = 0.6
"""A leak is a run of at least this share of the removed lines ..."""
LONE_LINE = 40
"""... and, where the body is one line, only if the line is this long: `return self` stands everywhere."""

_LOCATE = """
import importlib.machinery, os, sys
here = os.getcwd()
away = [p for p in sys.path if p and not os.path.abspath(p).startswith(here)]
for name in sys.argv[1:]:
    spec = importlib.machinery.PathFinder.find_spec(name, away)
    if spec is not None:
        print(name, spec.origin)
"""


def in_tree(start: Mapping[str, File], full: Mapping[str, File], removed: Iterable[Function]) -> str | None:
    """Where the start tree still shows a removed body, as a sentence; None when nowhere."""
    _, leftovers = scrub(start)
    if leftovers:
        return f"{leftovers[0]} is a leftover of a build or a cache"
    for function in removed:
        lines = list(significant(body(full[function.path].content, function)))
        for path, file in start.items():
            if file.content and _leaks(lines, _places(file.content)):
                return f"{path} shows the body of {function.qualname}"
    return None


def in_environment(box: Sandbox, modules: Sequence[str]) -> str | None:
    """Which module of the repository could be imported from outside it; None when none. Runs in the box."""
    result = box.exec(["python3", "-c", _LOCATE, *modules], timeout=60.0)
    found = result.stdout.decode("utf-8", "replace").split("\n")[0]
    return f"the environment holds {found}" if found else None


def among_packages(name: str, packages: Iterable[str]) -> str | None:
    """Whether the task's own package is pinned into its environment (the test runner may need it)."""
    own = normalise(name)
    return next((pin for pin in packages if normalise(pin.partition("==")[0]) == own), None)


def significant(content: bytes) -> Iterator[bytes]:
    """Lines without indentation, blank lines and comments; prompts of doctests and quotes are taken off."""
    for line in content.splitlines():
        stripped = re.sub(rb"^\s*(>>> |\.\.\. |> )?", b"", line).strip()
        if stripped and not stripped.startswith(b"#"):
            yield stripped


@lru_cache(maxsize=1024)
def _places(content: bytes) -> Mapping[bytes, Sequence[int]]:
    """Where each significant line of a file stands, counted in such lines. Kept: most files never change."""
    places: dict[bytes, list[int]] = {}
    for position, line in enumerate(significant(content)):
        places.setdefault(line, []).append(position)
    return places


def _leaks(lines: Sequence[bytes], places: Mapping[bytes, Sequence[int]]) -> bool:
    if len(lines) < 2:
        return bool(lines) and len(lines[0]) >= LONE_LINE and lines[0] in places
    needed = max(2, math.ceil(SHARE * len(lines)))
    return any(len(line) >= LONE_LINE // 2 for line in lines) and _longest_run(lines, places) >= needed


def _longest_run(lines: Sequence[bytes], places: Mapping[bytes, Sequence[int]]) -> int:
    """Length of the longest common contiguous run (dynamic programming over the places of each line)."""
    best = 0
    before: dict[int, int] = {}
    for line in lines:
        now = {position: before.get(position - 1, 0) + 1 for position in places.get(line, ())}
        best = max(best, *now.values()) if now else best
        before = now
    return best
