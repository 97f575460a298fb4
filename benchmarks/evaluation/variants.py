"""Seven answers to an instance: the right one, and six of the kinds that agents really hand in.

gold, empty, wrong (plausible, fails), partial (mends some, or breaks what was whole), unfitting (does not
apply), hanging (a call or an import never ends), crashing (a call or an import ends the interpreter).
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import TYPE_CHECKING

from gym_code.synth.patches import git_patch
from gym_code.synth.removal import STUB, functions, stub

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.evaluation.drafts import Draft
    from gym_code.types import File

VARIANTS = ("gold", "empty", "wrong", "partial", "unfitting", "hanging", "crashing")
MUTANTS, OTHERS = 8, 4
"""How many mutants, and functions of the same file, are tried for `partial`."""
_SWAPS = (
    (" == ", " != "), (" < ", " <= "), (" > ", " >= "), (" <= ", " < "), (" >= ", " > "), ("True", "False"),
    (" + ", " - "), (" - ", " + "), (" and ", " or "), (" not in ", " in "), (" is not ", " is "),
    ("if ", "if not "), ("return ", "return not "), ("1", "2"), ("0", "1"),
)  # fmt: skip
_WRONG = (b"return None", b"return 0", b"raise ValueError")
_HANGING_CALL = (b"import time", b"while True:", b"    time.sleep(0.1)")
_HANGING_CALLS = (
    _HANGING_CALL,
    (b"import signal", b"signal.signal(signal.SIGTERM, signal.SIG_IGN)", *_HANGING_CALL),
)
_HANGING_IMPORT = b"\nimport time\n\ntime.sleep(1e6)\n"
_CRASHING_CALLS = ((b"import os", b"os._exit(0)"), (b"import ctypes", b"ctypes.string_at(0)"))
_CRASHING_IMPORTS = (b"\nimport sys\n\nsys.exit(0)\n", b"\nimport os\n\nos._exit(1)\n")


def wrong(draft: Draft) -> Iterator[bytes]:
    """Candidates: bodies that look like an answer."""
    for line in _WRONG:
        yield _patch(draft, _with_body(draft, (line,)))


def partial(draft: Draft) -> Iterator[bytes]:
    """Candidates: the solution with one thing altered, then the solution with a neighbour taken out."""
    yield from _mutants(draft)
    path = draft.function.path
    solved = draft.solved[path].content
    others = [f for f in functions(path, solved) if f.key != draft.function.key and not f.trivial]
    for other in others[:OTHERS]:
        yield git_patch(draft.start, stub(draft.solved, [other]))


def unfitting(draft: Draft, number: int) -> bytes:
    """Does not apply: a line it takes away, or a file it alters, was never there; or it breaks off."""
    gold = draft.gold_patch
    if number % 3 == 0:
        return gold.replace(b"raise NotImplementedError", b"raise NeverWrittenError")
    if number % 3 == 1:
        return gold.replace(draft.function.path.encode(), b"src/never/written.py")
    lines = gold.splitlines(keepends=True)
    return b"".join(lines[: -max(2, len(lines) // 4)])


def hanging(draft: Draft, number: int) -> bytes:
    """A call of the function, or every third time the import of its file, never ends."""
    if number % 3 == 2:
        return _patch(draft, draft.solved[draft.function.path].content + _HANGING_IMPORT)
    return _patch(draft, _with_body(draft, _HANGING_CALLS[number % 3]))


def crashing(draft: Draft, number: int) -> bytes:
    """A call of the function, or every other time the import of its file, ends the interpreter."""
    if number % 2:
        return _patch(draft, draft.solved[draft.function.path].content + _CRASHING_IMPORTS[number // 2 % 2])
    return _patch(draft, _with_body(draft, _CRASHING_CALLS[number // 2 % 2]))


def _with_body(draft: Draft, lines: tuple[bytes, ...]) -> bytes:
    """The function's file in the start tree with these lines for the stub."""
    function, content = draft.function, draft.start[draft.function.path].content
    assert content[function.start : function.end].strip() == STUB
    body = b"\n".join(function.indent + line for line in lines)
    return content[: function.start] + body + content[function.end :]


def _patch(draft: Draft, content: bytes) -> bytes:
    path = draft.function.path
    after: Mapping[str, File] = {**draft.start, path: replace(draft.start[path], content=content)}
    return git_patch(draft.start, after)


def _mutants(draft: Draft) -> Iterator[bytes]:
    """The solution with one operator, constant or condition of the function altered, at most `MUTANTS`."""
    path, made = draft.function.path, 0
    content = draft.solved[path].content
    [solved] = [f for f in functions(path, content) if f.key == draft.function.key]
    for offset, line in _lines(content, solved.start, solved.end):
        for old, new in _SWAPS:
            at = line.find(old.encode())
            if at < 0 or made == MUTANTS:
                continue
            begin = offset + at
            mutant = content[:begin] + new.encode() + content[begin + len(old) :]
            if _is_python(mutant):
                made += 1
                yield _patch(draft, mutant)


def _lines(content: bytes, start: int, end: int) -> Iterator[tuple[int, bytes]]:
    """The lines between two offsets, each with its own."""
    for line in content[start:end].splitlines(keepends=True):
        yield start, line
        start += len(line)


def _is_python(content: bytes) -> bool:
    try:
        ast.parse(content)
    except SyntaxError:
        return False
    return True
