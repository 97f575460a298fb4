"""Where figures go besides JSON lines: TensorBoard where it is installed, Weights & Biases where asked for.

Both count steps done: 0 is the policy as it began. A resumed run goes on in its directory and under its id.
"""

from __future__ import annotations

import importlib.util
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from gym_code.errors import ConfigError
from train.checkpoint import write_whole

WANDB_ID = "wandb-id"
"""The file in a run's directory that holds the id under which Weights & Biases knows the run."""


class Sink(Protocol):
    """Takes figures by name, `group/name` where several belong together."""

    def write(self, steps: int, figures: Mapping[str, float]) -> None:
        """Take the figures that hold after so many steps."""

    def close(self, *, failed: bool) -> None:
        """Write what is still held; `failed`: the run ends by an error."""


class TensorBoard:
    """Event files that `tensorboard --logdir` reads."""

    def __init__(self, directory: Path, done: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # Figures of steps after `done` are of a run that was killed: TensorBoard forgets them.
        self._writer = SummaryWriter(str(directory), purge_step=done + 1)

    def write(self, steps: int, figures: Mapping[str, float]) -> None:
        """One scalar a figure; on disk when it returns."""
        for name, value in figures.items():
            self._writer.add_scalar(name, value, steps)
        self._writer.flush()

    def close(self, *, failed: bool) -> None:
        """Close the file."""
        self._writer.close()


class WeightsAndBiases:
    """A run on a Weights & Biases server, or beside the others on disk where `WANDB_MODE=offline`.

    What a server was told it keeps: of steps played again after a crash it shows the first time.
    """

    def __init__(self, project: str, run: Path, config: Mapping[str, Any]) -> None:
        require_wandb()
        import wandb

        if not (run / WANDB_ID).is_file():
            write_whole(run / WANDB_ID, secrets.token_hex(8).encode())
        try:
            self._run = wandb.init(
                project=project,
                name=run.name,
                id=(run / WANDB_ID).read_text(),
                resume="allow",
                dir=str(run),
                config=dict(config),
                settings=wandb.Settings(silent=True, console="off"),
            )
        except wandb.errors.Error as error:
            raise ConfigError(f"Weights & Biases refuses the run: {error}", where="--wandb") from error

    def write(self, steps: int, figures: Mapping[str, float]) -> None:
        """One point of every figure."""
        self._run.log(dict(figures), step=steps)

    def close(self, *, failed: bool) -> None:
        """Send what is left and say how the run ended."""
        self._run.finish(exit_code=int(failed))


def require_wandb() -> None:
    """Raise `ConfigError` where Weights & Biases is not installed, or would ask for a login."""
    if importlib.util.find_spec("wandb") is None:
        raise ConfigError(
            "Weights & Biases is not installed",
            where="--wandb",
            expected="the package wandb (pip install -e '.[wandb]')",
            found="nothing",
        )
    import wandb

    if wandb.setup().settings.mode == "online" and not wandb.login(prompt=False):
        raise ConfigError(
            "not logged in to Weights & Biases",
            where="--wandb",
            expected="`wandb login`, WANDB_API_KEY, or WANDB_MODE=offline",
            found="no key",
        )


def open_sinks(run: Path, config: Mapping[str, Any], *, done: int, wandb: str | None) -> list[Sink]:
    """The sinks of a run that has done so many steps. `wandb` names a project, or is None.

    Raises `ConfigError` where Weights & Biases is wanted and cannot be had.
    """
    sinks: list[Sink] = [] if wandb is None else [WeightsAndBiases(wandb, run, config)]
    if importlib.util.find_spec("tensorboard") is not None:
        sinks.append(TensorBoard(run / "tensorboard", done))
    return sinks
