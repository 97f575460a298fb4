"""`gym-code train`: hands over to the trainer of a checkout."""

from __future__ import annotations

from typing import Any

import typer

from gym_code.cli.episodes import from_checkout

PASS_ON: dict[str, Any] = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Every option, `--help` too, is the trainer's."""


def train(context: typer.Context) -> None:
    """Train a policy; all options are those of `python -m train.grpo` (try `gym-code train --help`)."""
    status = from_checkout("train.grpo").main(context.args)
    raise typer.Exit(status or 0)
