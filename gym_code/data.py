"""Where the data that comes with gym-code lies: beside the package in a checkout, else inside it."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def data_directory(name: str) -> Path:
    """The directory of shipped data called `tasks` or `containers`; it need not exist."""
    checkout = _PACKAGE.parent
    if (checkout / "pyproject.toml").is_file():
        return checkout / name
    return _PACKAGE / "_data" / name


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
