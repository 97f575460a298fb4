"""One evaluation from end to end: data set and predictions in, every verdict on disk."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from gym_code.errors import ConfigError, SandboxUnavailable
from gym_code.evaluate.cases import Case
from gym_code.evaluate.dataset import chosen_ids, load_predictions, open_dataset
from gym_code.evaluate.graders import GRADERS, graders_of
from gym_code.evaluate.images import Images
from gym_code.evaluate.report import write_reports
from gym_code.evaluate.results import collect, dataset_digest, load_evaluation, patch_of, suite_of
from gym_code.evaluate.run import grade_all, wanted
from gym_code.evaluate.store import (
    ASKED,
    CHOSEN,
    Asked,
    open_run,
    read_asked,
    read_choices,
    read_samples,
)
from gym_code.evaluate.swebench_logs import write_swebench_logs
from gym_code.sandbox import open_backend
from gym_code.sandbox.dockerd import connect

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from gym_code.evaluate.results import Evaluation
    from gym_code.evaluate.run import Progress
    from gym_code.evaluate.store import Choice, RunDirectory
    from gym_code.interop import Prediction
    from gym_code.sandbox.base import Backend
    from gym_code.task import Suite
    from gym_code.types import JSON

GIGABYTE = 1000**3


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What an evaluation is asked to do."""

    out: Path
    """The run's directory; an interrupted run goes on in it."""
    dataset: str = ""
    """See `open_dataset`; empty: the instances that the directory holds."""
    predictions: Sequence[str] = ()
    """A file for each sample, or `gold`; empty: those that the directory holds."""
    name: str = "run"
    instances: Sequence[str] = ()
    limit: int | None = None
    grader: str | None = None
    """One of `GRADERS`. This, `timeout` and `repeat`: None for what the directory says, where no data set is
    named anew, else for `auto`, the task's own limit, and one verdict."""
    sandbox: str = "auto"
    jobs: int = 4
    timeout: float | None = None
    """Seconds for one run of an instance's tests."""
    retries: int = 2
    repeat: int | None = None
    regrade: bool = False
    chosen: Path | None = None
    disk_cap: float | None = None
    """GB that fetched images may take."""
    archives: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What an agent plays on, before anything is graded."""

    suite: Suite
    ids: tuple[str, ...]
    backend: Backend
    images: Images
    out: Path


def evaluate(
    request: Request,
    *,
    play: Callable[[Stage], Sequence[str]] | None = None,
    choose: Callable[[Stage, Sequence[Mapping[str, Prediction]]], Sequence[Choice]] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    on_message: Callable[[str], None] | None = None,
) -> Evaluation:
    """Grade what has no verdict yet and give all results.

    play: makes the predictions and gives their files, one a sample; then `request.predictions` is empty.
    choose: best of n, called with the predictions of each sample. Verdicts that the directory holds for the
    same task, patch and grader are taken from it, whatever they were asked under. Raises `DataError`,
    `InputError` for what is wrong with data set and predictions, before anything is graded;
    `SandboxUnavailable` where nothing can be graded.
    """
    with open_run(request.out) as run, ExitStack() as stack:
        before = read_asked(request.out) if (request.out / ASKED).is_file() else None
        if before is None and not request.dataset:
            raise ConfigError("no data set", where=str(request.out), expected="--dataset", found="none")
        ref, suite = _dataset(request, before)
        ids = chosen_ids(suite, request.limit, request.instances)
        if before is not None and not request.dataset and not request.instances:
            ids = before.instances[: request.limit]
        # No spare boxes: all workers are busy anyway, and most images have but a few patches to be graded.
        backend = open_backend(_sandbox(request.sandbox, suite, ids), spare=0)
        stack.callback(backend.close)
        cap = None if request.disk_cap is None else int(request.disk_cap * GIGABYTE)
        images = stack.enter_context(
            Images(suite, backend, archives=request.archives, cap_bytes=cap, progress=on_message)
        )
        stage = Stage(suite=suite, ids=ids, backend=backend, images=images, out=request.out)
        sources, samples = _predictions(request, run, before, stage, play)
        choices = _choices(request, run, stage, samples, choose)
        again = before if not request.dataset else None
        timeout = again.timeout if again and request.timeout is None else request.timeout
        repeat = request.repeat or (again.repeat if again else 1)
        grader = request.grader or (again.grader if again else GRADERS[0])
        graders = graders_of(suite, ids, grader, backend, timeout)
        asked = Asked(
            name=request.name,
            model=next((each.model for sample in samples for each in sample.values()), ""),
            dataset=request.dataset or (before.dataset if before else ""),
            dataset_digest=dataset_digest(suite, ids),
            suite=ref,
            instances=ids,
            samples=len(samples),
            sources=tuple(sources),
            graders={name: f"{each.name} {each.version}" for name, each in graders.items()},
            grader=grader,
            timeout=timeout,
            repeat=repeat,
            cycle=_cycle(request, before),
            selector=choices[0].selector if choices else "",
        )
        run.write_asked(asked)
        cases = [
            Case(instance_id=name, patch=patch_of(each), sample=number, model=each.model)
            for number, sample in enumerate(samples)
            for name, each in sample.items()
        ]
        jobs = wanted(run, suite, cases, graders, timeout=timeout, repeat=repeat, cycle=asked.cycle)
        grade_all(
            run,
            suite,
            jobs,
            workers=request.jobs,
            retries=request.retries,
            cycle=asked.cycle,
            images=images,
            on_progress=on_progress,
        )
        return collect(suite, asked, samples, run.attempts, choices)


def report_run(directory: Path) -> dict[str, JSON]:
    """Write every report of a run's directory as it stands: ours and SWE-bench's. The summary ours show."""
    evaluation = load_evaluation(directory)
    write_swebench_logs(evaluation, suite_of(read_asked(directory), directory), directory)
    return write_reports(evaluation, directory)


def _dataset(request: Request, before: Asked | None) -> tuple[str, Suite]:
    if request.dataset:
        return open_dataset(request.dataset, request.out)
    assert before is not None
    return before.suite, suite_of(before, request.out)


def _sandbox(wanted_name: str, suite: Suite, ids: Sequence[str]) -> str:
    """The backend: where instances live in images of a daemon that answers, `docker` before `namespace`."""
    if wanted_name != "auto" or os.environ.get("GYM_CODE_SANDBOX"):
        return wanted_name
    images = (suite.task(name).environment.image for name in ids)
    if all(image is None or image.endswith(".tar") for image in images):
        return wanted_name
    try:
        connect().close()
    except SandboxUnavailable:
        return wanted_name
    return "docker"


def _predictions(
    request: Request,
    run: RunDirectory,
    before: Asked | None,
    stage: Stage,
    play: Callable[[Stage], Sequence[str]] | None,
) -> tuple[Sequence[str], list[dict[str, Prediction]]]:
    """Where the predictions came from, and those of each sample; the directory keeps them."""
    sources: Sequence[str] = play(stage) if play is not None else request.predictions
    if not sources:
        if before is None:
            raise ConfigError(
                "no predictions",
                where=str(request.out),
                expected="--predictions, --agent or --model",
                found="none",
            )
        kept = read_samples(request.out, before.samples, known=stage.suite.ids())
        chosen = [{name: sample[name] for name in stage.ids if name in sample} for sample in kept]
        return before.sources, chosen
    samples = [load_predictions(source, stage.suite, stage.ids) for source in sources]
    for number, sample in enumerate(samples):
        if Path(sources[number]).resolve() != run.predictions(number).resolve():
            run.write_predictions(number, sample)
    for number in range(len(samples), before.samples if before else 0):
        run.predictions(number).unlink(missing_ok=True)  # of samples that nobody asks for any more
    return sources, samples


def _choices(
    request: Request,
    run: RunDirectory,
    stage: Stage,
    samples: Sequence[Mapping[str, Prediction]],
    choose: Callable[[Stage, Sequence[Mapping[str, Prediction]]], Sequence[Choice]] | None,
) -> Sequence[Choice]:
    """What best-of-n chose: now, in a file, or as the directory remembers it."""
    known = dict.fromkeys(stage.ids, len(samples))
    if choose is not None:
        choices: Sequence[Choice] = choose(stage, samples)
    elif request.chosen is not None:
        choices = read_choices(request.chosen, known)
    elif not request.predictions and (request.out / CHOSEN).is_file():
        return read_choices(request.out / CHOSEN, known)
    else:
        choices = ()
    run.write_choices(choices)
    return choices


def _cycle(request: Request, before: Asked | None) -> int:
    """The cycle whose verdicts count: a regrade begins a new one, going on does not."""
    if before is None:
        return 1
    return before.cycle + 1 if request.regrade else before.cycle
