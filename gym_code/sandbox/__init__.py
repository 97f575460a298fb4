"""Isolated boxes that hold a copy of a task; every backend passes one contract."""

from __future__ import annotations

from gym_code.sandbox.base import Backend, BoxSpec, Capabilities, Sandbox
from gym_code.sandbox.select import open_backend

__all__ = ["Backend", "BoxSpec", "Capabilities", "Sandbox", "open_backend"]
