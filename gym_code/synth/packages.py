"""The list of real packages that tasks are made from: `tasks/packages.toml`, data and nothing else.

The packages themselves are not part of gym-code: each is fetched when it is asked for, and its hash checked.
"""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from gym_code.data import tasks_directory
from gym_code.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

    from gym_code.synth.layout import Layout

PREFIX = "real"
"""`real` names all of the list, `real:toolz,semver` some."""

_ALLOWED = {
    "layout": ("src", "flat", "module"),
    "tests": ("beside", "inside"),
    "runner": ("pytest", "unittest"),
}
_PATTERNS = {"name": r"[a-z0-9]+(-[a-z0-9]+)*", "version": r"[0-9][A-Za-z0-9.!+]*", "sha256": r"[0-9a-f]{64}"}


@dataclass(frozen=True, slots=True, kw_only=True)
class RealPackage:
    """One package of the list."""

    name: str
    version: str
    sha256: str
    """Of the source distribution."""
    layout: Literal["src", "flat", "module"]
    tests: Literal["beside", "inside"]
    runner: Literal["pytest", "unittest"]

    @property
    def source(self) -> str:
        """The reference that `gym_code.synth.sources` opens."""
        return f"pypi:{self.name}=={self.version}#sha256={self.sha256}"


def real_packages(path: Path | None = None) -> tuple[RealPackage, ...]:
    """The packages of the list (default: the one that came with gym-code), in its order.

    Raises `InputError` naming the entry and the field that is wrong.
    """
    file = path or tasks_directory() / "packages.toml"
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError("no list of packages", where=str(file)) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"not TOML: {error}", where=str(file)) from None
    entries = data.get("package")
    if not isinstance(entries, list) or not entries or not all(isinstance(item, dict) for item in entries):
        raise InputError(
            "no packages", where=str(file), expected="[[package]] tables", found=sorted(data) or "nothing"
        )
    found = tuple(_package(item, f"{file}: package {number}") for number, item in enumerate(entries, 1))
    names = [package.name for package in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError("listed twice", where=str(file), expected="each package once", found=twice)
    return found


def chosen(reference: str, listed: tuple[RealPackage, ...]) -> tuple[RealPackage, ...]:
    """The packages that `real` or `real:NAME,NAME` asks for, in the order of the list."""
    _, colon, names = reference.partition(":")
    if not colon:
        return listed
    wanted = {name.strip() for name in names.split(",")}
    known = {package.name for package in listed}
    if not wanted <= known:
        raise InputError(
            "not in the list of packages",
            where=reference,
            expected=", ".join(sorted(known)),
            found=", ".join(sorted(wanted - known)) or "nothing",
        )
    return tuple(package for package in listed if package.name in wanted)


def is_real(reference: str) -> bool:
    """Whether a reference speaks of the list."""
    return reference.partition(":")[0] == PREFIX


def described(layout: Layout) -> dict[str, str]:
    """What the list says of a package, as it is found in its files."""
    inside = any(_inside(path, layout) for path in layout.tests)
    package = any(path.endswith("/__init__.py") for path in layout.sources)
    return {
        "layout": "src" if layout.root == "src" else "flat" if package else "module",
        "tests": "inside" if inside else "beside",
        "runner": layout.runner,
    }


def _inside(path: str, layout: Layout) -> bool:
    prefix = f"{layout.root}/" if layout.root else ""
    return path.startswith(tuple(f"{prefix}{module}/" for module in layout.modules))


def _package(item: dict[str, object], where: str) -> RealPackage:
    wanted = {*_PATTERNS, *_ALLOWED}
    if item.keys() != wanted:
        raise InputError(
            "wrong fields", where=where, expected=", ".join(sorted(wanted)), found=", ".join(sorted(item))
        )
    for name, pattern in _PATTERNS.items():
        if not isinstance(item[name], str) or not re.fullmatch(pattern, str(item[name])):
            raise InputError("wrong value", where=f"{where}: {name}", expected=pattern, found=item[name])
    for name, values in _ALLOWED.items():
        if item[name] not in values:
            raise InputError(
                "wrong value", where=f"{where}: {name}", expected=" or ".join(values), found=item[name]
            )
    return RealPackage(**item)  # type: ignore[arg-type]  # Checked above, field by field.
