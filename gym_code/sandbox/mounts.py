"""The mount calls that Python lacks, through ctypes. Only the keeper, in its own namespaces, uses them."""

from __future__ import annotations

import ctypes
import os
import signal

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REC, MS_PRIVATE = 2, 4, 8, 0x4000, 1 << 18
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
NS_GET_USERNS = 0xB701
_SYS_OPEN_TREE, _SYS_MOVE_MOUNT = 428, 429
_AT_FDCWD = -100
_OPEN_TREE_CLONE, _OPEN_TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_MOUNT_F_EMPTY_PATH = 4
_ADDR_NO_RANDOMIZE = 0x0040000

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def unshare(flags: int) -> None:
    """unshare(2)."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(fd: int, kind: int) -> None:
    """setns(2)."""
    _check(_libc.setns(ctypes.c_int(fd), ctypes.c_int(kind)), "setns")


def set_dumpable() -> None:
    """Let our own uid map be written after a change of uid."""
    _check(_libc.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0), "prctl")


def die_with_parent() -> None:
    """Get SIGKILL when the process that made us ends; one that has ended already is not noticed."""
    _check(_libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0), "prctl")


def mount(source: str, target: str, kind: str, flags: int, data: str = "") -> None:
    """mount(2)."""
    args = (source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    _check(_libc.mount(*args), f"mount {kind} on {target}")


def umount(target: str) -> None:
    """Detach a mount; it goes when its last user does."""
    _check(_libc.umount2(target.encode(), MNT_DETACH), f"umount {target}")


def open_tree(path: str) -> int:
    """A descriptor of a private copy of the mount at (or below) a path."""
    args = (ctypes.c_long(_SYS_OPEN_TREE), ctypes.c_int(_AT_FDCWD), path.encode())
    return _check(
        _libc.syscall(*args, ctypes.c_uint(_OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC)), f"open_tree {path}"
    )


def move_mount(fd: int, target: str) -> None:
    """Attach such a descriptor."""
    args = (ctypes.c_long(_SYS_MOVE_MOUNT), ctypes.c_int(fd), b"", ctypes.c_int(_AT_FDCWD), target.encode())
    _check(_libc.syscall(*args, ctypes.c_uint(_MOVE_MOUNT_F_EMPTY_PATH)), f"move_mount {target}")


def fix_addresses() -> None:
    """Let the programs we become lie at the same addresses each time: what prints one can be replayed.

    Inherited over fork and exec. Where it is refused (by the filter of a container, say) nothing happens:
    addresses differ then.
    """
    _libc.personality(ctypes.c_ulong(_ADDR_NO_RANDOMIZE))
