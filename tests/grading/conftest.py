"""One real backend for the tests of grading."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from gym_code.sandbox import open_backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gym_code.sandbox.base import Backend


@pytest.fixture(scope="session")
def backend() -> Iterator[Backend]:
    made = open_backend("namespace")
    yield made
    made.close()
