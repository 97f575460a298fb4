"""The instances and the predictions of a run, from whatever names them."""

from __future__ import annotations

import difflib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from gym_code.errors import InputError, TaskError
from gym_code.evaluate.store import SUITE
from gym_code.interop import Prediction, import_rows, read_predictions
from gym_code.suite import DirectorySuite
from gym_code.suite.fields import read_yaml
from gym_code.task import load_suite

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gym_code.task import Suite

GOLD = "gold"
"""In place of a predictions file: the solutions of the data set, to see that it can be solved at all."""


def open_dataset(source: str, run: Path) -> tuple[str, Suite]:
    """The suite of a data set, and its reference.

    source: a suite (a shipped name, a directory, `procedural:...`), or rows: a file, a SWE-bench 5 task
    repository, a hub name. Rows are imported into the run's directory. Raises `DataError`, `InputError`.
    """
    if (ref := _suite_reference(source)) is not None:
        return ref, load_suite(ref)
    aside, final = run / f".{SUITE}-new", run / SUITE
    shutil.rmtree(aside, ignore_errors=True)
    report = import_rows(source, aside)
    if report.missing_sources:
        shutil.rmtree(aside)
        raise InputError(
            "rows of a suite whose source trees no row can hold",
            where=source,
            expected="the suite itself",
            found=f"no {', '.join(f'repos/{name}' for name in report.missing_sources[:3])}",
        )
    shutil.rmtree(final, ignore_errors=True)
    aside.rename(final)
    return SUITE, DirectorySuite(final)


def _suite_reference(source: str) -> str | None:
    """The reference by which a source is one of our suites; None where it holds rows."""
    path = Path(source)
    if path.is_dir():
        for file in sorted(path.glob("tasks/*/task.yaml"))[:1]:
            return str(path.resolve()) if read_yaml(file, str(file)).get("gym") is not None else None
        return str(path.resolve()) if (path / "sweb.yaml").is_file() else None
    if path.is_file():
        return None
    try:
        load_suite(source)
    except TaskError:
        if ":" in source and "/" not in source:
            raise
        return None
    return source


def chosen_ids(suite: Suite, limit: int | None, wanted: Sequence[str]) -> tuple[str, ...]:
    """The ids to evaluate, sorted: those named, else the first `limit`. Raises `InputError`."""
    ids = sorted(suite.ids())
    for name in wanted:
        if name not in ids:
            near = difflib.get_close_matches(name, ids, 1)
            hint = f" (nearest: {near[0]!r})" if near else ""
            raise InputError(
                "no such instance",
                where="--instance",
                expected=f"one of {len(ids)} ids{hint}",
                found=repr(name),
            )
    return tuple(sorted(set(wanted)) if wanted else ids[:limit])


def load_predictions(source: str, suite: Suite, ids: Sequence[str]) -> dict[str, Prediction]:
    """The predictions of a file for these instances; `gold`: their solutions.

    Raises `DataError` with all that is wrong with the file: predictions for instances of the data set that
    are not asked for are no mistake, others are.
    """
    if source == GOLD:
        return {name: _gold(suite, name) for name in ids}
    found = read_predictions(source, known=suite.ids())
    return {name: found[name] for name in ids if name in found}


def _gold(suite: Suite, name: str) -> Prediction:
    patch = suite.answer(name).gold_patch.decode("utf-8", "surrogateescape")
    return Prediction(instance_id=name, model=GOLD, patch=patch)
