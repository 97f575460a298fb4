"""Every error the library raises on purpose, in one tree.

    GymCodeError
    ├── InputError                  what the caller gave is wrong (exit status 2)
    │   ├── TaskError               a task directory, suite or reference
    │   ├── RecordError             a trajectory file or line
    │   ├── PatchError              a diff that cannot be read or does not apply
    │   └── ConfigError             a configuration file or option
    ├── ToolCallError               a malformed tool call; shown to the agent, never raised out of an env
    └── SandboxError                the sandbox itself failed: a fault of ours, never of the agent (law 3)
        ├── SandboxUnavailable      this machine cannot run the backend; the message says what mends it
        ├── SandboxClosed           the box was closed or its owner went away
        └── EnvironmentBuildError   a task environment could not be materialised

A failing *command* is no error: it is an `ExecResult`. What the agent's code causes scores 0.
"""

from __future__ import annotations


class GymCodeError(Exception):
    """Base of all errors raised by gym-code."""


class InputError(GymCodeError):
    """Outside data is wrong: says where, what was expected and what was found.

    >>> print(InputError("must be positive", where="task.yaml: gym.limits.turns", expected="int", found="-3"))
    task.yaml: gym.limits.turns: must be positive (expected int, found -3)
    """

    def __init__(
        self, message: str, *, where: str = "", expected: str | None = None, found: object = None
    ) -> None:
        self.message, self.where, self.expected, self.found = message, where, expected, found
        text = f"{where}: {message}" if where else message
        if expected is not None:
            text += f" (expected {expected}, found {found})"
        super().__init__(text)


class TaskError(InputError):
    """A task directory, a suite or a reference to one is wrong."""


class RecordError(InputError):
    """A trajectory file holds something that is no valid record."""


class PatchError(InputError):
    """A diff cannot be read, is unsafe or does not apply."""


class ConfigError(InputError):
    """A configuration file or option is wrong."""


class ToolCallError(GymCodeError):
    """A tool call that cannot be carried out; its text is what the agent reads."""


class SandboxError(GymCodeError):
    """The sandbox failed, not the command inside it."""


class SandboxUnavailable(SandboxError):
    """The backend cannot run here; the message names what is missing and the command that mends it."""


class SandboxClosed(SandboxError):
    """The sandbox was used after it was closed, or its supervisor is gone."""


class EnvironmentBuildError(SandboxError):
    """A task environment (interpreter and packages) could not be built."""
