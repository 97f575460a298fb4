"""The package `swebench`, asked in tests for what it makes of the same things (extra `swebench`)."""

from __future__ import annotations

import importlib
import importlib.util
import os
from typing import Any

import pytest


def module(name: str) -> Any:
    """A module of swebench. Without the package the test is skipped, or fails where CI=true."""
    if importlib.util.find_spec("swebench") is None:
        if os.environ.get("CI") == "true":
            raise RuntimeError("CI lacks an oracle: pip install -e '.[swebench]'")
        pytest.skip("swebench is not installed (pip install -e '.[swebench]')", allow_module_level=True)
    return importlib.import_module(name)
