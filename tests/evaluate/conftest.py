"""What evaluation tests share: a small suite."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gym_code.task import load_suite

if TYPE_CHECKING:
    from gym_code.task import Suite

PROCEDURAL = "procedural:seed=7,count=6"


@pytest.fixture(scope="session")
def suite() -> Suite:
    return load_suite(PROCEDURAL)
