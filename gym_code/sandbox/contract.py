"""The public conformance kit: what every sandbox backend must do, as checks that anyone can run.

>>> from gym_code.sandbox.contract import check_backend
>>> for result in check_backend(MyBackend()):            # doctest: +SKIP
...     print(result)

A check that needs a capability which the backend does not claim is skipped with the reason. `CHECKS`
holds them by name.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from gym_code.sandbox.base import Backend, Capabilities
from gym_code.sandbox.checks import CHECKS, Check, CheckFailedError, Lab, files, isolation, processes

__all__ = ["CHECKS", "Check", "CheckFailedError", "CheckResult", "check_backend", "run_check"]

_ROOMS = (files, processes, isolation)
"""Importing them collects their checks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """How one check went. `reason` says what was found, or what is missing."""

    name: str
    what: str
    status: Literal["passed", "failed", "skipped"]
    reason: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.status:8}{self.name}" + (f": {self.reason}" if self.reason else "")


def check_backend(backend: Backend, names: Iterable[str] | None = None) -> list[CheckResult]:
    """Run the checks (all, or some by name) on a backend; KeyError for an unknown name."""
    return [run_check(backend, CHECKS[name]) for name in (CHECKS if names is None else names)]


def run_check(backend: Backend, check: Check) -> CheckResult:
    """Run one check in boxes of its own."""
    missing = _missing(backend.capabilities(), check)
    if missing:
        reason = f"the backend does not claim {missing}"
        return CheckResult(name=check.name, what=check.what, status="skipped", reason=reason)
    begin = time.monotonic()
    lab = Lab(backend)
    status: Literal["passed", "failed"] = "passed"
    reason = ""
    try:
        check.run(lab)
    except Exception as error:  # the boundary that turns a third party's crash into a result
        status, reason = "failed", str(error) if isinstance(error, CheckFailedError) else repr(error)
    finally:
        lab.close()
    return CheckResult(
        name=check.name, what=check.what, status=status, reason=reason, seconds=time.monotonic() - begin
    )


def _missing(found: Capabilities, check: Check) -> str:
    for need in check.needs:
        flags = {"processes": found.processes, "network_isolated": found.network_isolated}
        if not flags.get(need, need in found.limits_enforced):
            return need
    return ""
