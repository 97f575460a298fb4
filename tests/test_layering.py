"""Imports point down: read from the source of every module, those inside functions and for types too."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent

# A room may import its own level's rooms only where named here, and any room of a lower level.
LEVELS = (
    {"errors", "types", "data", "files", "gitrepo", "diff", "patch"},
    {"suite"},
    {"task"},
    {"sandbox"},
    {"grading"},
    {"tools"},  # the tool `test` runs visible tests through grading; grading knows no tools
    {"episode", "spaces", "registration"},
    {"env"},
    {"vector"},
    {"records", "replay"},
    {"synth", "stats", "interop"},
    {"evaluate"},
    {"view"},
    {"cli", "doctor", "__main__"},
)
LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
# What the package's front door may use: both are cheap and import nothing above them.
FRONT = {"gym_code.registration", "gym_code.task"}


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide what they point at"
            if node.module == "gym_code":
                yield from (f"gym_code.{name.name}" for name in node.names)
            elif node.module:
                yield node.module


def modules(package: str) -> Iterator[tuple[Path, str]]:
    """Every source file of a package with the room it belongs to."""
    for path in sorted((ROOT / package).rglob("*.py")):
        room = path.relative_to(ROOT / package).parts[0].removesuffix(".py")
        yield path, room


def test_gym_code_imports_neither_agents_nor_train() -> None:
    bad = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, _ in modules("gym_code")
        for name in imports(path)
        if name.split(".")[0] in ("agents", "train")
    ]
    assert bad == []


def test_agents_do_not_import_train() -> None:
    bad = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path, _ in modules("agents")
        for name in imports(path)
        if name.split(".")[0] == "train"
    ]
    assert bad == []


def test_every_room_of_gym_code_has_a_level() -> None:
    rooms = {room for _, room in modules("gym_code")} - {"__init__"}
    assert rooms - set(LEVEL) == set(), "give the new room a level in LEVELS"


def test_imports_inside_gym_code_point_down() -> None:
    bad = []
    for path, room in modules("gym_code"):
        for name in imports(path):
            parts = name.split(".")
            if parts[0] != "gym_code" or len(parts) == 1:
                continue
            if room == "__init__":
                allowed = name in FRONT or any(name.startswith(f"{front}.") for front in FRONT)
            else:
                allowed = (
                    parts[1] == room
                    or parts[1] == "__version__"
                    or LEVEL.get(parts[1], 99) < LEVEL.get(room, 99)
                )
                allowed = allowed or {parts[1], room} <= LEVELS[0]
            if not allowed:
                bad.append(f"{path.relative_to(ROOT)} imports {name}")
    assert bad == []
