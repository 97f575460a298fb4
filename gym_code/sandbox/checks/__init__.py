"""The checks of the sandbox contract: small named functions over a `Lab`, collected by the decorator
`check`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from gym_code.sandbox.base import Backend, BoxSpec, Sandbox
from gym_code.types import Environment, ExecResult, File, Limits, StartTree, tree_digest

START: Mapping[str, File] = {
    ".gitignore": File(content=b"*.log\nbuild/\n!keep.log\n"),
    "README": File(content=b"start\n"),
    "pkg/mod.py": File(content=b"VALUE = 1\n"),
    "pkg/data.bin": File(content=bytes(range(256))),
    "run.sh": File(content=b"#!/bin/sh\necho ran\n", executable=True),
    "tracked.log": File(content=b"tracked though ignored\n"),
    "link": File(link="pkg/mod.py"),
}
"""The tree that the checks start from: an executable, a link, a binary file, ignore rules and a tracked
ignored file."""

LIMITS = Limits(
    exec_seconds=20.0,
    output_bytes=4096,
    memory_bytes=192 << 20,
    processes=40,
    disk_bytes=24 << 20,
)


class CheckFailedError(AssertionError):
    """A check found something else than the contract says."""


def expect(found: object, wanted: object, what: str) -> None:
    """Raise `CheckFailedError` unless both are equal."""
    if found != wanted:
        raise CheckFailedError(f"{what}: expected {wanted!r:.300}, found {found!r:.300}")


def expect_true(condition: bool, what: str) -> None:
    """Raise `CheckFailedError` unless it holds."""
    if not condition:
        raise CheckFailedError(what)


def expect_raises(kind: type[BaseException], call: Callable[[], object], what: str) -> None:
    """Raise `CheckFailedError` unless the call raises an error of this kind."""
    try:
        result = call()
    except kind:
        return
    except Exception as error:
        raise CheckFailedError(f"{what}: expected {kind.__name__}, raised {error!r}") from error
    raise CheckFailedError(f"{what}: expected {kind.__name__}, returned {result!r:.200}")


def start_tree(files: Mapping[str, File]) -> StartTree:
    """A start tree of files."""
    return StartTree(digest=tree_digest(files), files=lambda: files)


@dataclass(slots=True)
class Lab:
    """What a check works with: the backend, and boxes that are closed when the check ends."""

    backend: Backend
    boxes: list[Sandbox] = field(default_factory=list)

    def open(self, files: Mapping[str, File] | None = None, **limits: float) -> Sandbox:
        """A box over START, or over other files, with some limits changed."""
        spec = self.spec(files)
        box = self.backend.open(replace(spec, limits=replace(spec.limits, **limits)))  # type: ignore[arg-type]
        self.boxes.append(box)
        return box

    def spec(self, files: Mapping[str, File] | None = None) -> BoxSpec:
        """What `open` makes a box from."""
        tree = start_tree(START if files is None else files)
        return BoxSpec(start=tree, environment=Environment(), limits=LIMITS, workdir="/testbed")

    def fork(self, box: Sandbox, n: int) -> list[Sandbox]:
        """Forks that are closed when the check ends."""
        made = box.fork(n)
        self.boxes += made
        return made

    def close(self) -> None:
        """Close what the check opened."""
        for box in self.boxes:
            box.close()


def output(result: ExecResult) -> str:
    """What a command printed, stripped; `CheckFailedError` when it did not succeed."""
    if not result.ok:
        raise CheckFailedError(f"command failed: {result.cause} {result.exit_code} {result.stderr[-300:]!r}")
    return result.stdout.decode("utf-8", "replace").strip()


@dataclass(frozen=True, slots=True)
class Check:
    """One point of the contract. `needs` names capabilities: `processes`, `network_isolated` or an
    enforced limit."""

    name: str
    run: Callable[[Lab], None]
    needs: tuple[str, ...] = ()

    @property
    def what(self) -> str:
        """The point in one sentence."""
        return (self.run.__doc__ or "").strip()


CHECKS: dict[str, Check] = {}


def check(*needs: str) -> Callable[[Callable[[Lab], None]], Callable[[Lab], None]]:
    """Collect a function as a check."""

    def collect(run: Callable[[Lab], None]) -> Callable[[Lab], None]:
        CHECKS[run.__name__] = Check(run.__name__, run, needs)
        return run

    return collect
