"""The page of a run as it stands: while it goes on, or after it was cut off.

    python -m train.report runs/NAME

A finished run has written it by itself.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from gym_code.errors import ConfigError, InputError
from train.config import load_config
from train.report.metrics import read_rows
from train.report.summary import write_page


def main(argv: Sequence[str] | None = None) -> int:
    """Write the page of a run; exit status 2 where there is no run to report."""
    parser = argparse.ArgumentParser(prog="train.report", description=main.__doc__)
    parser.add_argument("run", type=Path, help="a run's directory, runs/NAME")
    run = parser.parse_args(argv).run
    try:
        if not (run / "config.toml").is_file():
            raise ConfigError(
                "no run", where=str(run), expected="a directory with a config.toml", found="none"
            )
        finished = run / "summary.json"
        summary = json.loads(finished.read_bytes()) if finished.is_file() else None
        config = load_config(str(run / "config.toml"), {})
        print(write_page(run, config, read_rows(run / "metrics.jsonl"), summary))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
