"""What the grader starts in a box: stage files, fork, let a runner run tests, report on the private channel.

Standard library only, few imports: start-up is most of what a grading costs. What is sent runs on Python 3.6
(`runners/source.py` leaves out what is younger); this file is read by older ones too, so that it can say so.
Standard input holds a 32-byte key and a marshalled plan (it comes from the grader, so it may be trusted):

    workdir   bytes           where the tree lies
    deletes   [bytes]         paths to remove, relative to workdir
    writes    [(path, content, executable, link or None)]
    source    str             the runner: defines `prepare(plan)` and `run(state, indices, report)`
    ids       [str]           test ids; everything is reported by index into this list
    accepted  [[str]]         for each of them the outcomes that count as passed
    printed   bool            ids are as SWE-bench's log parsers read them, tests run as its harness does
    late      bool            the runner is started only in the child: its package may be the tree's own
    files     [str]           where to look for tests whose ids name no file
    modules   {id: (name, path)}   where unittest ids lie, as far as the grader knows
    paths     [str]           put in front of sys.path for the tests (behind it where `printed`)
    env       {str: str}      environment variables restored for the tests
    plugins   [str]           pytest plugins the task asks for
    rerun     bool            run a failed test once more, alone, in a process of its own: it can only show
                              that it still fails, for the first attempt may have left anything behind
    messages  int             most characters of a failure's message; 0: none
    canary    bool            also run a test that must fail, in every attempt

A frame is `MAC SPACE payload LF`. Payloads: `T attempt index outcome message-in-hex`, `C attempt outcome`
(canary), `F message-in-hex` (this program failed), `E wait-status` (all done). This process never imports or
runs anything of the tree; only its forked children do, and they end by `_exit`, so that nothing registered
for later can run.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 6):  # noqa: UP036 (the tests' interpreter, not ours)
    sys.exit("tests need Python 3.6 or later, and python3 is " + sys.version.split()[0] + " here")

ELSEWHERE = [entry for entry in sys.path if entry and not entry.startswith((sys.prefix, sys.base_prefix))]
"""Where `.pth` files point to, for the tests: a package that is installed as editable lies in the tree."""
sys.path = [entry for entry in sys.path if entry.startswith((sys.prefix, sys.base_prefix))]
sys.dont_write_bytecode = True

import gc  # noqa: E402
import marshal  # noqa: E402
import mmap  # noqa: E402
import os  # noqa: E402

try:
    from _blake2 import blake2b
except ImportError:
    from hashlib import blake2b

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

    Run = Callable[[Sequence[int], "Report"], None]

MAX_MESSAGE = 1400
"""Bytes of a message: as hex it fits a frame of 4096 bytes, which a pipe takes whole."""


class Channel:
    """Writes frames that only a holder of the key can make."""

    def __init__(self, descriptor: int, key: bytes) -> None:
        os.set_inheritable(descriptor, False)

        def emit(payload: bytes) -> None:
            mac = blake2b(payload, key=key, digest_size=16).hexdigest()
            os.write(descriptor, mac.encode() + b" " + payload + b"\n")

        self.emit: Callable[[bytes], None] = emit

    def failure(self, error: Exception) -> None:
        """Say why tests cannot be run."""
        self.emit(b"F " + to_hex("%s: %s" % (type(error).__name__, error)))  # noqa: UP031


class Report:
    """What a runner calls: `outcome(index, name, message)` for a test, `canary(name)`, `failure(error)`."""

    def __init__(self, channel: Channel, attempt: int, passed: mmap.mmap, plan: dict[str, Any]) -> None:
        self._channel, self._attempt, self._passed = channel, attempt, passed
        self._limit, self._accepted = plan["messages"], plan["accepted"]
        self.failure = channel.failure
        self.canary_wanted: bool = plan["canary"]

    def outcome(self, index: int, name: str, message: str = "") -> None:
        """Report how the test with this index ended."""
        self._passed[index] = name in self._accepted[index]
        values = self._attempt, index, name.encode(), to_hex(message[: self._limit])
        self._channel.emit(b"T %d %d %s %s" % values)

    def canary(self, name: str) -> None:
        """Report how the test that must fail ended."""
        self._channel.emit(b"C %d %s" % (self._attempt, name.encode()))


def to_hex(message: str) -> bytes:
    """A message as one word."""
    return message[:MAX_MESSAGE].encode("utf-8", "backslashreplace")[:MAX_MESSAGE].hex().encode() or b"-"


def stage(plan: dict[str, Any]) -> None:
    """Bring the tree to its state; nothing is written through a link."""
    os.chdir(plan["workdir"])
    for path in plan["deletes"]:
        remove(path)
        parent = os.path.dirname(path)
        while parent:
            try:
                os.rmdir(parent)
            except OSError:
                break
            parent = os.path.dirname(parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    for path, content, executable, link in plan["writes"]:
        parent = os.path.dirname(path)
        if parent:
            os.makedirs(parent, exist_ok=True)
        remove(path)
        if link is not None:
            os.symlink(link, path)
            continue
        with open(os.open(path, flags, 0o755 if executable else 0o644), "wb") as file:
            file.write(content)


def remove(path: bytes) -> None:
    """Unlink what may not be there."""
    try:  # noqa: SIM105 (contextlib costs an import)
        os.unlink(path)
    except FileNotFoundError:
        pass


def install_exits() -> None:
    """The builtins that `site` makes and programs use, where it was passed over to start sooner."""
    if "site" not in sys.modules:
        import builtins
        from _sitebuiltins import Quitter, _Helper

        end = "Ctrl-D (i.e. EOF)"
        made = {"exit": Quitter("exit", end), "quit": Quitter("quit", end), "help": _Helper()}
        vars(builtins).update(made)


def started(plan: dict[str, Any]) -> Run:
    """The runner, ready to run the tests with some indices."""
    runner: dict[str, Any] = {"__name__": "runner"}
    exec(compile(plan["source"], "<runner>", "exec"), runner)
    state = runner["prepare"](plan)
    return lambda indices, report: runner["run"](state, indices, report)


def started_late(plan: dict[str, Any], channel: Channel) -> Run:
    """The runner, started by whoever calls it."""

    def run(indices: Sequence[int], report: Report) -> None:
        try:
            ready = started(plan)
        except Exception as error:  # The boundary: a package that cannot be imported.
            channel.failure(error)
            return
        ready(indices, report)

    return run


def tests_path(plan: dict[str, Any]) -> list[str]:
    """Where the tests import from.

    SWE-bench's harness has the tree on no path of its own: there, nothing new in the tree stands in for an
    installed package, the one that runs tests least of all.
    """
    if plan["printed"]:
        return [*sys.path, *ELSEWHERE, *plan["paths"]]
    return [*plan["paths"], *sys.path, *ELSEWHERE]


def in_child(run: Run, plan: dict[str, Any], indices: Sequence[int], report: Report) -> int:
    """Run tests in a forked process; its wait status."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1]
    status = 1
    try:
        sys.path = tests_path(plan)
        os.environ.update(plan["env"])
        run(indices, report)
        status = 0
    finally:
        os._exit(status)


def main() -> None:
    """Read, stage, run, report."""
    data = sys.stdin.buffer.read()
    channel = Channel(int(os.environ.pop("GYM_CODE_CHANNEL")), data[:32])
    try:
        plan = marshal.loads(data[32:])
        stage(plan)
        null = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(null, descriptor)
        run = started_late(plan, channel) if plan["late"] else started(plan)
    except Exception as error:  # The boundary: what fails before the tests is a frame, not a lost process.
        channel.failure(error)
        return
    install_exits()
    if hasattr(gc, "freeze"):  # Python 3.7
        gc.freeze()  # A collection in a child would copy every page it shares with this process.
    passed = mmap.mmap(-1, len(plan["ids"]) + 1)
    everything = range(len(plan["ids"]))
    status = in_child(run, plan, everything, Report(channel, 1, passed, plan))
    for index in everything if plan["rerun"] else ():
        if not passed[index]:
            in_child(run, plan, [index], Report(channel, 2, passed, plan))
            if not passed[index]:
                break
    channel.emit(b"E %d" % status)


if __name__ == "__main__":
    main()
    os._exit(0)  # Taking the interpreter down in order costs as much as a test.
