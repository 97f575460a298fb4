"""`gym-code evaluate`: predictions, or an agent that makes them, to verdicts and reports."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from gym_code.cli.episodes import AGENT_HELP, OPTION_HELP, from_checkout, parse_options
from gym_code.cli.terminal import NO, Json, SandboxName, aside, people, print_json
from gym_code.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.progress import TaskID

    from gym_code.evaluate.results import Evaluation
    from gym_code.evaluate.run import Progress as Graded
    from gym_code.evaluate.session import Request, Stage
    from gym_code.evaluate.store import Choice
    from gym_code.interop import Prediction

DATASET_HELP = (
    "A suite, a .json, .jsonl or .parquet file, a SWE-bench 5 task repository, or org/name[:split]."
)
PREDICTIONS_HELP = "A .json or .jsonl file, or gold; k files are k samples of each instance."
PANEL = "Agents"


@dataclass(frozen=True, slots=True, kw_only=True)
class Player:
    """The agent that makes the predictions, and how one of its samples is chosen."""

    agent: str
    model: str
    engine: str | None
    options: dict[str, Any]
    samples: int
    seed: int
    best_of: str
    limits: Sequence[str]
    totals: Sequence[str]
    jobs: int
    retries: int


def evaluate(
    dataset: Annotated[str, typer.Option("--dataset", "-d", help=DATASET_HELP)] = "",
    predictions: Annotated[
        list[str] | None, typer.Option("--predictions", "-p", help=PREDICTIONS_HELP)
    ] = None,
    jobs: Annotated[int, typer.Option("--jobs", "-j", min=1, help="Gradings, or episodes, at a time.")] = 4,
    out: Annotated[Path | None, typer.Option("--out", help="Run directory; default runs/eval/NAME.")] = None,
    name: Annotated[str, typer.Option("--name", help="Default: of the data set and the model.")] = "",
    instance: Annotated[
        list[str] | None, typer.Option("--instance", "-i", help="Only this one; may be repeated.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="Only the first so many.")] = None,
    grader: Annotated[
        str, typer.Option("--grader", help="auto, clean-box or official; default auto.", show_default=False)
    ] = "",
    sandbox: SandboxName = "auto",
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", min=0.1, help="Seconds for an instance's tests; default the task's."),
    ] = None,
    retries: Annotated[int, typer.Option("--retries", min=0, help="Of what a fault of ours broke.")] = 2,
    repeat: Annotated[
        int | None, typer.Option("--repeat", min=1, help="Verdicts for each patch: flakes; default 1.")
    ] = None,
    regrade: Annotated[
        bool, typer.Option("--regrade", help="Grade again what has verdicts; no agent plays.")
    ] = False,
    chosen: Annotated[
        Path | None, typer.Option("--chosen", help="Which sample was chosen for each instance.")
    ] = None,
    best_of: Annotated[
        str, typer.Option("--best-of", help="Choose one of the samples: visible, majority or first.")
    ] = "",
    disk_cap: Annotated[
        float | None, typer.Option("--disk-cap", min=0.0, help="GB that fetched images may take.")
    ] = None,
    images: Annotated[
        Path | None, typer.Option("--images", help="Directory of image archives, ID.tar.")
    ] = None,
    agent: Annotated[str, typer.Option("--agent", help=AGENT_HELP, rich_help_panel=PANEL)] = "",
    model: Annotated[
        str,
        typer.Option(
            "--model", help="tiny, a training run, a model directory or a hub id.", rich_help_panel=PANEL
        ),
    ] = "",
    engine: Annotated[
        str, typer.Option("--engine", help="vllm or torch, for --model.", rich_help_panel=PANEL)
    ] = "",
    option: Annotated[
        list[str] | None, typer.Option("--option", help=OPTION_HELP, rich_help_panel=PANEL)
    ] = None,
    samples: Annotated[
        int, typer.Option("--samples", "-n", min=1, help="Of each instance.", rich_help_panel=PANEL)
    ] = 1,
    seed: Annotated[int, typer.Option("--seed", rich_help_panel=PANEL)] = 0,
    agent_limit: Annotated[
        list[str] | None,
        typer.Option(
            "--agent-limit", help="Of an episode: turns=40, tokens, cost, seconds.", rich_help_panel=PANEL
        ),
    ] = None,
    total: Annotated[
        list[str] | None,
        typer.Option(
            "--total", help="Of the whole run: cost=20, tokens, seconds, turns.", rich_help_panel=PANEL
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Grade predictions, or let an agent make them first, and report (docs/evaluation.md).

    The same command goes on where an interrupted one stopped. Status 1 when something has no verdict.
    """
    from gym_code.evaluate.session import Request, report_run

    players = [text for text in (agent, model) if text]
    if len(players) + bool(predictions) > 1:
        raise ConfigError("one of --predictions, --agent and --model", expected="one", found=players)
    if not (predictions or players or out):
        raise ConfigError("nothing to grade", expected="--predictions, --agent, --model, or --out of a run")
    who = agent or model or Path((predictions or ["run"])[0]).stem
    name = name or (out.name if out else _slug(f"{Path(dataset.split(':')[0]).stem}-{who}"))
    request = Request(
        dataset=dataset,
        out=out or Path("runs/eval") / name,
        name=_slug(name),
        predictions=predictions or (),
        instances=instance or (),
        limit=limit,
        grader=grader or None,
        sandbox=sandbox,
        jobs=jobs,
        timeout=timeout,
        retries=retries,
        repeat=repeat,
        regrade=regrade,
        chosen=chosen,
        disk_cap=disk_cap,
        archives=images,
    )
    player = Player(
        agent=agent,
        model=model,
        engine=engine or None,
        options=parse_options(option or []),
        samples=samples,
        seed=seed,
        best_of=best_of,
        limits=agent_limit or (),
        totals=total or (),
        jobs=jobs,
        retries=retries,
    )
    evaluation = _carried_out(request, player)
    summary = report_run(request.out)
    if as_json:
        print_json(summary)
    else:
        for line in _headline(summary, request.out):
            people.print(line, markup=False, soft_wrap=True)
    if any(result.resolved is None for result in evaluation.results):
        raise typer.Exit(NO)


def _headline(summary: Mapping[str, Any], out: Path) -> Iterator[str]:
    """What came of it, in a few lines."""
    counts = {name: count for name, count in summary["counts"].items() if count}
    yield f"attempts  {', '.join(f'{count} {name}' for name, count in counts.items())}"
    if (resolved := summary["resolved"]) is not None:
        rate = resolved["rate"]
        yield f"resolved  {_percent(rate)} of {rate['tasks']} instances"
    passes, best = summary["passes"], summary["best_of_n"]
    for found in passes[1:]:
        yield f"pass@{found['k']}    {_percent(found['any_right'])}"
    if best is not None and best["chosen"] is not None:
        yield f"best of {best['n']} {_percent(best['chosen'])} by {best['selector']}"
    yield f"report    {out / 'report.html'}"


def _percent(interval: Mapping[str, float]) -> str:
    low, high = interval["low"], interval["high"]
    return f"{interval['estimate']:.1%} [{low:.1%}, {high:.1%}]"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.") or "run"


def _carried_out(request: Request, player: Player) -> Evaluation:
    """Evaluate, showing how far it is and how long it may still take."""
    from gym_code.evaluate.session import evaluate as run_evaluation

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(),
        TextColumn("{task.fields[last]}"),
    )  # fmt: skip
    with Progress(*columns, console=aside) as progress:
        shown = _Shown(progress)
        return run_evaluation(
            request,
            play=(lambda stage: _play(player, stage, shown)) if player.agent or player.model else None,
            choose=(lambda stage, samples: _choose(player, stage, samples, shown))
            if player.best_of
            else None,
            on_progress=shown.graded,
            on_message=shown.message,
        )


class _Shown:
    """Progress bars, one a stage, on standard error."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bars: dict[str, TaskID] = {}

    def step(self, stage: str, done: int, total: int, last: str) -> None:
        """A stage has come so far."""
        if stage not in self._bars:
            self._bars[stage] = self._progress.add_task(stage, total=total, last="")
        self._progress.update(self._bars[stage], completed=done, total=total, last=escape(last[:100]))

    def graded(self, state: Graded) -> None:
        """A grading ended."""
        said = ""
        if state.last is not None:
            verdict = {True: "resolved", False: "unresolved", None: "no verdict"}[state.last.graded.resolved]
            said = f"{state.last.instance_id}: {verdict}"
        self.step("grading", state.done, state.total, said)

    def message(self, text: str) -> None:
        """A line above the bars."""
        self._progress.console.print(text, markup=False, soft_wrap=True)


def _play(player: Player, stage: Stage, shown: _Shown) -> list[str]:
    """The predictions files that the agent made."""
    predict = from_checkout("agents.predict")
    limits = predict.parse_limits(list(player.limits))
    if player.model:
        made = from_checkout("train.predict").model_player(
            player.model,
            stage.suite,
            stage.backend,
            engine=player.engine,
            jobs=player.jobs,
            options=player.options,
            limits=limits,
            directory=stage.out,
            hold=stage.images.use,
            report=lambda text: shown.step("loading", 0, 1, text),
        )
    else:
        made = predict.agent_player(
            player.agent,
            player.options,
            stage.suite,
            stage.backend,
            jobs=player.jobs,
            hold=stage.images.use,
        )
    with made:
        played = predict.predict(
            made,
            stage.suite,
            stage.ids,
            samples=player.samples,
            seed=player.seed,
            out=stage.out,
            limits=limits,
            totals=predict.parse_totals(list(player.totals)),
            retries=player.retries,
            arrange=stage.images.ordered,
            on_done=lambda done, total, what: shown.step("playing", done, total, what),
        )
    if played.unplayed:
        named = ", ".join(f"{name} sample {sample}" for name, sample in played.unplayed[:5])
        more = f" and {len(played.unplayed) - 5} more" if len(played.unplayed) > 5 else ""
        shown.message(f"not played, for the run's budget is used up: {named}{more}")
    return [str(path) for path in played.files]


def _choose(
    player: Player, stage: Stage, samples: Sequence[Mapping[str, Prediction]], shown: _Shown
) -> list[Choice]:
    """Which sample best-of-n takes of each instance."""
    from gym_code.evaluate.results import patch_of

    patches = {
        name: [patch_of(sample[name]) if name in sample else None for sample in samples] for name in stage.ids
    }
    return list(
        from_checkout("agents.best_of").choose(
            stage.suite,
            patches,
            player.best_of,
            stage.backend,
            jobs=player.jobs,
            cache=stage.out / "visible.jsonl",
            hold=stage.images.use,
            arrange=stage.images.ordered,
            on_done=lambda done, total: shown.step("choosing", done, total, ""),
        )
    )
