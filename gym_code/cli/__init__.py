"""The command `gym-code`.

Exit status: 0 done, or the answer is yes; 1 the answer is no; 2 bad usage or input, or nothing here can give
an answer. With `--json` a command prints JSON on standard output and nothing else there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from gym_code.cli import compare, convert, episodes, evaluate, images, machine, tasks, training
from gym_code.cli.terminal import report_error
from gym_code.errors import GymCodeError

if TYPE_CHECKING:
    from collections.abc import Sequence

app = typer.Typer(
    name="gym-code",
    help="A reinforcement-learning gym for coding agents.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command()(machine.doctor)
tasks.app.command("import")(convert.import_tasks)
tasks.app.command("export")(convert.export_tasks)
app.add_typer(tasks.app, name="tasks")
app.add_typer(images.app, name="images")
app.command()(episodes.run)
app.command()(episodes.grade)
app.command()(episodes.replay)
app.command()(evaluate.evaluate)
app.command()(compare.compare)
app.command()(machine.gc)
app.command()(machine.bench)
app.command(context_settings=training.PASS_ON)(training.train)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (default: of this process) and exit."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(arguments)
    except (GymCodeError, OSError, RecursionError, ValueError, OverflowError) as error:
        # What no room foresaw of a machine (a full disk) or of outside data is one line too, no traceback.
        report_error(error, as_json="--json" in arguments)
        sys.exit(2)
