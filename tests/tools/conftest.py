"""Boxes with a toy task in them: in memory for what needs no process, real ones for what does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hands import Hand

from gym_code.sandbox import open_backend

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gym_code.sandbox.base import Backend


@pytest.fixture(scope="session")
def namespace() -> Iterator[Backend]:
    backend = open_backend("namespace")
    yield backend
    backend.close()


@pytest.fixture
def memory() -> Iterator[Hand]:
    backend = open_backend("memory")
    yield Hand(backend)
    backend.close()


@pytest.fixture
def real(namespace: Backend) -> Iterator[Hand]:
    hand = Hand(namespace)
    yield hand
    hand.box.close()
