"""bash: run a command in the box."""

from __future__ import annotations

from typing import TYPE_CHECKING

from gym_code.errors import ToolCallError
from gym_code.tools.spec import Tool, ToolContext
from gym_code.tools.text import decode, undecodable_note, with_note
from gym_code.types import JSON, Cause, ExecResult, Limits

if TYPE_CHECKING:
    from collections.abc import Mapping

COMMAND_BYTES = 100_000
"""Longest command: Linux takes at most 128 KiB in one argument."""

_SEAM_BYTES = 12  # where the middle is cut out of two streams, up to four characters are torn


def _bash(context: ToolContext, arguments: Mapping[str, JSON]) -> str:
    command, limits = arguments["command"], context.task.limits
    if "\0" in command:
        raise ToolCallError("the command holds a NUL character, which no command can.")
    if len(command.encode()) > COMMAND_BYTES:
        raise ToolCallError(f"the command is longer than {COMMAND_BYTES} bytes; write it to a file first.")
    timeout = min(float(arguments.get("timeout", limits.exec_seconds)), limits.exec_seconds)
    # One stream keeps the order in which lines were written; on the first line, so that line numbers stay.
    result = context.sandbox.exec(f"exec 2>&1; {command}", timeout=timeout)
    return _observation(result, timeout, limits)


def _observation(result: ExecResult, timeout: float, limits: Limits) -> str:
    data = result.stdout + result.stderr
    text, bad = decode(data)
    notes = []
    if result.truncated_bytes:
        notes.append(f"[{result.truncated_bytes} bytes from the middle of the output were left out]")
    if bad > (_SEAM_BYTES if result.truncated_bytes else 0):
        notes.append(undecodable_note(bad))
    if ended := _ended(result, timeout, limits):
        notes.append(ended)
    for note in notes:
        text = with_note(text, note)
    return text or "(no output)"


def _ended(result: ExecResult, timeout: float, limits: Limits) -> str:
    """How the command ended, where it did not simply succeed."""
    match result.cause:
        case Cause.EXITED:
            return f"[exit status {result.exit_code}]" if result.exit_code else ""
        case Cause.TIMED_OUT:
            return f"[timed out after {timeout:g} seconds; every process it started was ended]"
        case Cause.OUT_OF_MEMORY:
            return f"[ended: more than {limits.memory_bytes // 1024**2} MiB of memory were used]"
        case Cause.OUTPUT_LIMIT:
            return "[ended: too much output]"
        case Cause.KILLED:
            return "[ended by a signal]"


BASH = Tool(
    name="bash",
    description="Run a bash command in the repository. Every call starts a fresh shell, and processes do not "
    "outlive it. There is no network.",
    parameters={
        "type": "object",
        "properties": {
            "command": {"type": "string", "minLength": 1, "description": "The command."},
            "timeout": {
                "type": "number",
                "exclusiveMinimum": 0,
                "description": "Seconds after which it is ended; at most, and by default, the task's limit.",
            },
        },
        "required": ["command"],
        "additionalProperties": False,
    },
    run=_bash,
)
