"""Where the data that comes with gym-code lies: beside the package in a checkout, else inside it."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_SHIPPED = _PACKAGE / "_data"
"""Where the wheel puts the data; no checkout has it."""


def checkout_directory() -> Path | None:
    """The root of the checkout that this package is part of; None where it was installed from a wheel."""
    return None if _SHIPPED.is_dir() else _PACKAGE.parent


def data_directory(name: str) -> Path:
    """The directory of shipped data called `tasks` or `containers`; it need not exist."""
    return (checkout_directory() or _SHIPPED) / name


def tasks_directory() -> Path:
    """Where the shipped task suites lie, one directory each."""
    return data_directory("tasks")


def containers_directory() -> Path:
    """Where Dockerfiles and image recipes lie."""
    return data_directory("containers")


def shipped_suites() -> tuple[str, ...]:
    """The names of the task suites that came with this installation, sorted."""
    root = tasks_directory()
    if not root.is_dir():
        return ()
    return tuple(sorted(entry.name for entry in root.iterdir() if (entry / "sweb.yaml").is_file()))
