"""From bytes to what the agent reads: decoding, cutting to a budget, and the errors of a path."""

from __future__ import annotations

import contextlib
import difflib
import errno
import posixpath
from typing import TYPE_CHECKING

from gym_code.errors import ToolCallError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from gym_code.sandbox.base import Sandbox

READ_BYTES = 16 * 1024**2
"""Most bytes of one file that a tool takes out of the box: the agent must not fill the host."""

_PATH_BYTES = 4096  # PATH_MAX of Linux
_SIBLINGS = 2000


def decode(data: bytes) -> tuple[str, int]:
    """Text of UTF-8 bytes and how many bytes were none; those are shown as U+FFFD."""
    try:
        return data.decode(), 0
    except UnicodeDecodeError:
        good = len(data.decode("utf-8", "ignore").encode())
        return data.decode("utf-8", "replace"), len(data) - good


def undecodable_note(count: int) -> str:
    """The line that tells of bytes shown as U+FFFD."""
    return f"[{count} {'byte is' if count == 1 else 'bytes are'} not UTF-8, shown as \ufffd]"


def split_lines(text: str) -> list[str]:
    """The lines, ends kept. Only a line feed ends one (`str.splitlines` also takes form feeds and U+2028)."""
    head, last = text.split("\n")[:-1], text.rpartition("\n")[2]
    return [line + "\n" for line in head] + ([last] if last else [])


def with_note(text: str, note: str) -> str:
    """A text and, on a line of its own, a note."""
    return f"{text}{'' if not text or text.endswith(chr(10)) else chr(10)}{note}"


def clip(text: str, max_bytes: int) -> str:
    """The longest beginning of a text that takes at most `max_bytes` in UTF-8."""
    data = text.encode("utf-8", "replace")
    return text if len(data) <= max_bytes else data[: max(max_bytes, 0)].decode("utf-8", "ignore")


def one_line(text: str, max_chars: int) -> str:
    """A text on one line, runs of white space as one blank, cut with dots at `max_chars`."""
    line = " ".join(text[: max_chars * 8].split())
    return line if len(line) <= max_chars else line[: max_chars - 3].rstrip() + "..."


def valid_unicode(text: str) -> str:
    """A text that encodes: half surrogate pairs become their escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def check_path(path: str) -> None:
    """Refuse what no file system takes; raises `ToolCallError`."""
    if "\0" in path:
        raise ToolCallError("the path holds a NUL character, which no file name can.")
    if len(path.encode()) > _PATH_BYTES:
        raise ToolCallError(f"the path is longer than {_PATH_BYTES} bytes.")


@contextlib.contextmanager
def path_errors(sandbox: Sandbox, path: str) -> Iterator[None]:
    """Turn what the operating system says of a path into a `ToolCallError` that explains."""
    check_path(path)
    try:
        yield
    except FileNotFoundError as error:
        raise ToolCallError(f"{path} does not exist{_nearest(sandbox, path)}") from error
    except IsADirectoryError as error:
        raise ToolCallError(f"{path} is a directory.") from error
    except NotADirectoryError as error:
        raise ToolCallError(f"{path}: a part of the path is a file, not a directory.") from error
    except PermissionError as error:
        raise ToolCallError(f"{path}: permission denied.") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise ToolCallError(f"{path}: no space left, the disk quota is used up.") from error
        raise ToolCallError(f"{path}: {error.strerror or 'cannot be used'}.") from error


def _nearest(sandbox: Sandbox, path: str) -> str:
    """The end of the sentence, with `did you mean X?` where a name beside the path is near."""
    folder, name = posixpath.split(path.rstrip("/"))
    try:
        names = sandbox.list(folder or ("/" if path.startswith("/") else "."))[:_SIBLINGS]
    except OSError:
        return "."
    if name in names:
        return ": it is a symbolic link to nothing."
    near = difflib.get_close_matches(name[:80], [name.rstrip("/") for name in names], n=1)
    return f"; did you mean {posixpath.join(folder, near[0])}?" if near else "."
