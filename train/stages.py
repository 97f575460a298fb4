"""The suites of a run's stages, opened as it begins; tasks of real packages are made there and then."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from gym_code.errors import InputError
from gym_code.sandbox.base import Backend
from gym_code.suite import DirectorySuite
from gym_code.synth.make import Progress, make_suite
from gym_code.synth.packages import chosen, is_real, real_packages
from gym_code.task import Suite, load_suite
from train.checkpoint import write_whole
from train.config import Config


def open_stages(
    references: Sequence[str],
    config: Config,
    backend: Backend,
    directory: Path,
    report: Callable[[str], None] = lambda _: None,
) -> list[list[Suite]]:
    """The suites of each reference: `load_suite`'s, or `real:NAME,NAME` (`real`: all packages of the list).

    Suites of real packages are made under `directory` (`real_tasks` of each package), which takes minutes a
    package; `report` is told how far it is. What is there already is not made again. Raises `TaskError` for a
    suite that is not there, `InputError` for a package that cannot be fetched or gave no task.
    """
    opened: list[list[Suite]] = []
    for reference in references:
        if not is_real(reference):
            opened.append([load_suite(reference)])
            continue
        packages = chosen(reference, real_packages())
        opened.append(
            [_made(p.name, p.source, config, backend, directory / p.name, report) for p in packages]
        )
    return opened


def _made(
    name: str, source: str, config: Config, backend: Backend, out: Path, report: Callable[[str], None]
) -> Suite:
    finished = out.with_name(f"{out.name}.json")

    def tell(step: Progress) -> None:
        report(f"tasks of {name}: {step.accepted} of {config.real_tasks} ({step.done}/{step.total} tried)")

    if not finished.is_file():
        report(f"tasks of {name}: running its tests")
        made = make_suite(
            source, out, backend=backend, workers=config.workers, limit=config.real_tasks, progress=tell
        )
        if not made.accepted:
            raise InputError("no task could be made", where=source, expected="at least one", found="none")
        write_whole(finished, json.dumps(made.to_json()).encode())
    return DirectorySuite(out)
