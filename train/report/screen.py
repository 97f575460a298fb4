"""What a terminal shows while a run goes on; plain lines, one a step, where nobody looks at a terminal.

with Screen(config, console, done=0) as screen:
    screen.doing("held-out, before", 32, 240)
    screen.step(row)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from train.config import Config
from train.report.metrics import PARTS, WORK, Row, flat

LAST = 8
"""Steps in the table."""
WIDE = 60
"""Steps in the line of rewards."""
BAR = 40
"""Cells of the bar of time."""
BLOCKS = "▁▂▃▄▅▆▇█"
COLORS = ("blue", "dark_orange", "green", "magenta", "cyan", "yellow")
ESTIMATE_SECONDS = 3600.0
"""The time left is reckoned from the steps of the last hour: one may take minutes."""

COLUMNS = {
    "step": "step",
    "reward": "reward",
    "solve_rate": "solved",
    "entropy": "entropy",
    "approx_kl": "KL",
    "mismatch": "mismatch",
    "group_variance": "variance",
    "grad_norm": "grad",
    "seconds/tokens_per_second_rollout": "sampled/s",
    "seconds/tokens_per_second_train": "trained/s",
    "ratio_p99": "ratio p99",
    "clipped": "clipped",
}
"""Figures of the table, by their flat names, and their heads; as many as the terminal is wide."""
COLUMN_WIDTH = 11
COUNTERS = ("invalid", "dropped", "refilled")
"""Counted over the whole run; beside them stands the number of replicas that live."""


class Screen:
    """A live view of a run that begins with `done` steps made. Use as a context manager."""

    def __init__(self, config: Config, console: Console, *, done: int = 0) -> None:
        self._config, self._console = config, console
        self._rows: list[dict[str, float]] = []
        self._counts = dict.fromkeys(COUNTERS, 0.0)
        columns = (
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(),
        )  # fmt: skip
        self._progress = Progress(*columns, console=console, speed_estimate_period=ESTIMATE_SECONDS)
        self._steps = self._progress.add_task("training", total=config.steps, completed=done)
        self._others: dict[str, TaskID] = {}
        self._live: Live | None = None
        if console.is_terminal and not console.is_dumb_terminal:
            self._live = Live(get_renderable=self._view, console=console, refresh_per_second=2)

    def __enter__(self) -> Screen:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def doing(self, what: str, done: int, total: int) -> None:
        """So much of something that is no step is done: episodes of an evaluation, solutions played."""
        if what not in self._others:
            self._others[what] = self._progress.add_task(what, total=total)
        self._progress.update(self._others[what], completed=done, total=total)
        if self._live is None and done == total:
            self._console.print(f"{what}: {done} of {total}", highlight=False)

    def step(self, row: Row) -> None:
        """Show the row of a step that is done."""
        figures = flat(row)
        self._rows = [*self._rows[-WIDE + 1 :], figures]
        for name in COUNTERS:
            self._counts[name] += figures.get(name, 0.0)
        self._progress.update(self._steps, completed=row["step"] + 1)
        if self._live is None:
            self._console.print(plain_line(row, self._config.steps), soft_wrap=True, highlight=False)

    def _view(self) -> RenderableType:
        parts: list[RenderableType] = [self._progress]
        if self._rows:
            rewards = [figures["reward"] for figures in self._rows]
            facts = Table.grid(padding=(0, 2))
            facts.add_row("reward", Text(f"{sparkline(rewards)} {rewards[-1]:.2f}", style="blue"))
            facts.add_row("time", time_bar(_seconds(self._rows[-1], PARTS)))
            if work := _seconds(self._rows[-1], WORK):
                facts.add_row("rollouts", _told(work))
            facts.add_row("so far", self._counted())
            if "stage" in self._rows[-1]:
                facts.add_row("curriculum", self._stage())
            parts += [_table(self._rows[-LAST:], self._console.width // COLUMN_WIDTH), facts]
        title = f"{self._config.model}, {self._config.objective}, seed {self._config.seed}"
        return Panel(Group(*parts), title=Text(title), title_align="left", border_style="dim")

    def _counted(self) -> str:
        told = [f"{name} {int(count)}" for name, count in self._counts.items()]
        if "replicas" in self._rows[-1]:
            told.append(f"replicas {int(self._rows[-1]['replicas'])}")
        return "   ".join(told)

    def _stage(self) -> str:
        last = self._rows[-1]
        rate = f", solve rate {last['stage_solve_rate']:.2f}" if "stage_solve_rate" in last else ""
        return f"stage {int(last['stage'])}{rate}"


def sparkline(values: Sequence[float]) -> str:
    """Values between 0 and 1 as blocks, one a value.

    >>> sparkline([0.0, 0.5, 1.0])
    '▁▅█'
    """
    return "".join(BLOCKS[min(max(int(value * len(BLOCKS)), 0), len(BLOCKS) - 1)] for value in values)


def plain_line(row: Row, steps: int) -> str:
    """A step in one line, for logs."""
    figures = flat(row)
    told = [f"{head} {_shown(key, figures[key])}" for key, head in COLUMNS.items() if key in figures]
    lost = [f"{name} {int(figures[name])}" for name in COUNTERS if figures.get(name)]
    spent = _told(_seconds(figures, (*PARTS, *WORK)))
    return "  ".join([f"step {row['step'] + 1}/{steps}", *told[1:], *lost, spent])


def time_bar(parts: Mapping[str, float]) -> Text:
    """What part of a step each thing took, as a bar and in percent."""
    whole = sum(parts.values())
    bar, told = Text(), Text()
    if not whole:
        return bar
    for (name, seconds), color in zip(parts.items(), COLORS * len(parts), strict=False):
        bar.append("█" * round(BAR * seconds / whole), style=color)
        told.append(f"  {name} {seconds / whole:.0%}", style=color)
    return bar + told


def _seconds(figures: Mapping[str, float], parts: Sequence[str]) -> dict[str, float]:
    return {part: figures[f"seconds/{part}"] for part in parts if f"seconds/{part}" in figures}


def _told(seconds: Mapping[str, float]) -> str:
    return "  ".join(f"{part} {spent:.1f} s" for part, spent in seconds.items())


def _table(rows: Sequence[Mapping[str, float]], most: int) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 1))
    shown = [key for key in COLUMNS if any(key in figures for figures in rows)][:most]
    for key in shown:
        table.add_column(COLUMNS[key], justify="right")
    for figures in rows:
        table.add_row(*[_shown(key, figures[key]) if key in figures else "" for key in shown])
    return table


def _shown(key: str, value: float) -> str:
    if key == "step":
        return str(int(value) + 1)
    if key in ("reward", "solve_rate"):
        return f"{value:.3f}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}" if value >= 1 else f"{value:.2g}"
