"""The system calls a box may not make, as a classic BPF program for `bwrap --seccomp`. No dependency.

Everything is allowed but what only escapes, spying and the supervisor's ruin need. `clone3` is answered
with ENOSYS because its flags lie in memory a filter cannot read: libc then falls back to `clone`, whose
flags are checked.
"""

from __future__ import annotations

import errno
import platform
import struct

_LD, _JEQ, _JGE, _JSET, _AND, _RET = 0x20, 0x15, 0x35, 0x45, 0x54, 0x06
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
_NR, _ARCH = 0, 4

_NAMESPACE_FLAGS = 0x7E020080
"""CLONE_NEWTIME, NEWNS, NEWCGROUP, NEWUTS, NEWIPC, NEWUSER, NEWPID, NEWNET."""
_FAMILIES = (1, 2, 10, 16)
"""AF_UNIX, AF_INET, AF_INET6, AF_NETLINK. AF_VSOCK and others know no network namespace."""
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_X86_64 = {
    "mount": 165, "umount2": 166, "pivot_root": 155, "chroot": 161, "unshare": 272, "setns": 308, "bpf": 321,
    "keyctl": 250, "add_key": 248, "request_key": 249, "ptrace": 101, "process_vm_readv": 310,
    "process_vm_writev": 311, "perf_event_open": 298, "userfaultfd": 323, "open_by_handle_at": 304,
    "name_to_handle_at": 303, "kexec_load": 246, "kexec_file_load": 320, "init_module": 175,
    "delete_module": 176,
    "finit_module": 313, "reboot": 169, "swapon": 167, "swapoff": 168, "acct": 163, "settimeofday": 164,
    "clock_settime": 227, "clock_adjtime": 305, "adjtimex": 159, "quotactl": 179, "syslog": 103, "kcmp": 312,
    "sethostname": 170, "setdomainname": 171, "vhangup": 153, "migrate_pages": 256, "move_pages": 279,
    "clone": 56, "socket": 41, "ioctl": 16, "prlimit64": 302, "setpriority": 141, "sched_setaffinity": 203,
    "sched_setscheduler": 144, "sched_setparam": 142, "sched_setattr": 314, "ioprio_set": 251,
    "memfd_create": 319, "shmget": 29, "msgget": 68, "semget": 64, "mq_open": 240,
}  # fmt: skip
_AARCH64 = {
    "mount": 40, "umount2": 39, "pivot_root": 41, "chroot": 51, "unshare": 97, "setns": 268, "bpf": 280,
    "keyctl": 219, "add_key": 217, "request_key": 218, "ptrace": 117, "process_vm_readv": 270,
    "process_vm_writev": 271, "perf_event_open": 241, "userfaultfd": 282, "open_by_handle_at": 265,
    "name_to_handle_at": 264, "kexec_load": 104, "kexec_file_load": 294, "init_module": 105,
    "delete_module": 106,
    "finit_module": 273, "reboot": 142, "swapon": 224, "swapoff": 225, "acct": 89, "settimeofday": 170,
    "clock_settime": 112, "clock_adjtime": 266, "adjtimex": 171, "quotactl": 60, "syslog": 116, "kcmp": 272,
    "sethostname": 161, "setdomainname": 162, "vhangup": 58, "migrate_pages": 238, "move_pages": 239,
    "clone": 220, "socket": 198, "ioctl": 29, "prlimit64": 261, "setpriority": 140, "sched_setaffinity": 122,
    "sched_setscheduler": 119, "sched_setparam": 118, "sched_setattr": 274, "ioprio_set": 30,
    "memfd_create": 279, "shmget": 194, "msgget": 186, "semget": 190, "mq_open": 180,
}  # fmt: skip
_COMMON = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430, "fsconfig": 431, "fsmount": 432, "fspick": 433, "pidfd_getfd": 438, "process_madvise": 440,
    "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447, "clone3": 435,
}  # fmt: skip
_TABLES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}

_BY_ARGUMENT = (
    "clone", "socket", "ioctl", "prlimit64", "setpriority", "sched_setaffinity",
    "sched_setscheduler",
    "sched_setparam", "sched_setattr", "ioprio_set",
)  # fmt: skip
_MISSING = ("clone3", "memfd_create", "shmget", "msgget", "semget", "mq_open")
"""Answered with ENOSYS. All but the first make memory that belongs to no process, which no watchdog sees."""
_SELF_ONLY = ("prlimit64", "sched_setaffinity", "sched_setscheduler", "sched_setparam", "sched_setattr")
"""The agent may use these on itself (pid 0) only: on pid 1 they would cripple the supervisor."""


def supported(machine: str | None = None) -> bool:
    """Whether there is a table for this processor."""
    return (machine or platform.machine()) in _TABLES


def denied(machine: str | None = None) -> dict[str, int]:
    """Name and number of every call that is refused whatever its arguments."""
    numbers = {**_TABLES[machine or platform.machine()][1], **_COMMON}
    return {name: number for name, number in numbers.items() if name not in _BY_ARGUMENT + _MISSING}


def assemble(machine: str | None = None) -> bytes:
    """The program, as an array of `struct sock_filter`. KeyError for a processor without a table."""
    machine = machine or platform.machine()
    arch, table = _TABLES[machine]
    numbers = {**table, **_COMMON}
    code = [_op(_LD, _ARCH), _op(_JEQ, arch, 1, 0), _fail(errno.ENOSYS), _op(_LD, _NR)]
    if machine == "x86_64":
        code += [_op(_JGE, 0x40000000, 0, 1), _fail(errno.ENOSYS)]  # the x32 variants of the same calls
    for number in sorted(denied(machine).values()):
        code += [_op(_JEQ, number, 0, 1), _fail(errno.EPERM)]
    for name in _MISSING:
        code += [_op(_JEQ, numbers[name], 0, 1), _fail(errno.ENOSYS)]
    code += _when(numbers["clone"], [_arg(0), _op(_JSET, _NAMESPACE_FLAGS, 0, 1), _fail(errno.EPERM)])
    family = [_arg(0)]
    for index, value in enumerate(_FAMILIES):
        family.append(_op(_JEQ, value, len(_FAMILIES) - index, 0))
    code += _when(numbers["socket"], [*family, _fail(errno.EAFNOSUPPORT)])
    ioctl = [_arg(1), _op(_JEQ, _TIOCSTI, 1, 0), _op(_JEQ, _TIOCLINUX, 0, 1), _fail(errno.EPERM)]
    code += _when(numbers["ioctl"], ioctl)
    for name in _SELF_ONLY:
        code += _when(numbers[name], [_arg(0), _op(_JEQ, 0, 1, 0), _fail(errno.EPERM)])
    for name, process in (("setpriority", 0), ("ioprio_set", 1)):  # neither groups nor all of a user
        kind = [_arg(0), _op(_JEQ, process, 1, 0), _fail(errno.EPERM)]
        code += _when(numbers[name], [*kind, _arg(1), _op(_JEQ, 0, 1, 0), _fail(errno.EPERM)])
    return b"".join([*code, _op(_RET, _ALLOW)])


def _op(code: int, value: int, yes: int = 0, no: int = 0) -> bytes:
    return struct.pack("=HBBI", code, yes, no, value)


def _fail(number: int) -> bytes:
    return _op(_RET, _ERRNO | number)


def _arg(index: int) -> bytes:
    return _op(_LD, 16 + 8 * index)  # the low half, little-endian


def _when(number: int, body: list[bytes]) -> list[bytes]:
    """`body` ends by refusing or by falling off its end, which allows."""
    return [_op(_JEQ, number, 0, len(body) + 1), *body, _op(_RET, _ALLOW)]
