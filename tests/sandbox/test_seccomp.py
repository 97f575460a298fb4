"""The filter, run by a small interpreter of BPF: every decision is written out, for both processors."""

from __future__ import annotations

import errno
import struct

import pytest

from gym_code.sandbox.seccomp import assemble, denied, supported

ALLOW, ERRNO = 0x7FFF0000, 0x00050000
X86, ARM, I386 = 0xC000003E, 0xC00000B7, 0x40000003


def decide(program: bytes, number: int, *arguments: int, arch: int = X86) -> str:
    """What the kernel would answer: `allow` or the name of the errno."""
    data = struct.pack("=IIQ6Q", number, arch, 0, *arguments, *[0] * (6 - len(arguments)))
    code = list(struct.iter_unpack("=HBBI", program))
    value, at = 0, 0
    while True:
        op, yes, no, k = code[at]
        at += 1
        if op == 0x20:
            (value,) = struct.unpack_from("=I", data, k)
        elif op == 0x06:
            return "allow" if k == ALLOW else errno.errorcode[k & ~ERRNO]
        else:
            holds = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[op]
            at += yes if holds else no


CASES = [
    ("read", 0, 63, (), "allow"),
    ("mount", 165, 40, (), "EPERM"),
    ("ptrace", 101, 117, (), "EPERM"),
    ("io_uring_setup", 425, 425, (), "EPERM"),
    ("clone3", 435, 435, (), "ENOSYS"),
    ("memfd_create", 319, 279, (), "ENOSYS"),
    ("shmget", 29, 194, (), "ENOSYS"),
    ("semget", 64, 190, (), "ENOSYS"),
    ("mq_open", 240, 180, (), "ENOSYS"),
    ("fork by clone", 56, 220, (0x1200011,), "allow"),
    ("thread", 56, 220, (0x3D0F00,), "allow"),
    ("new user namespace", 56, 220, (0x10000011,), "EPERM"),
    ("new network namespace", 56, 220, (0x40000011,), "EPERM"),
    ("socket unix", 41, 198, (1,), "allow"),
    ("socket inet6", 41, 198, (10,), "allow"),
    ("socket netlink", 41, 198, (16,), "allow"),
    ("socket vsock", 41, 198, (40,), "EAFNOSUPPORT"),
    ("socket alg", 41, 198, (38,), "EAFNOSUPPORT"),
    ("ioctl TCGETS", 16, 29, (0, 0x5401), "allow"),
    ("ioctl TIOCSTI", 16, 29, (0, 0x5412), "EPERM"),
    ("prlimit of itself", 302, 261, (0,), "allow"),
    ("prlimit of process 1", 302, 261, (1,), "EPERM"),
    ("setpriority of itself", 141, 140, (0, 0), "allow"),
    ("setpriority of process 1", 141, 140, (0, 1), "EPERM"),
    ("setpriority of all of a user", 141, 140, (2, 0), "EPERM"),
    ("ioprio_set of itself", 251, 30, (1, 0), "allow"),
    ("ioprio_set of process 1", 251, 30, (1, 1), "EPERM"),
    ("ioprio_set of all of a user", 251, 30, (3, 0), "EPERM"),
]


@pytest.mark.parametrize(
    ("name", "x86", "arm", "arguments", "wanted"), CASES, ids=[case[0] for case in CASES]
)
def test_decisions(name: str, x86: int, arm: int, arguments: tuple[int, ...], wanted: str) -> None:
    assert decide(assemble("x86_64"), x86, *arguments) == wanted
    assert decide(assemble("aarch64"), arm, *arguments, arch=ARM) == wanted


def test_other_instruction_sets_find_no_calls() -> None:
    assert decide(assemble("x86_64"), 21, arch=I386) == "ENOSYS"  # int 0x80: mount is 21 there
    assert decide(assemble("x86_64"), 0x40000000 + 165) == "ENOSYS"  # x32


def test_every_denied_call_is_denied() -> None:
    for machine, arch in (("x86_64", X86), ("aarch64", ARM)):
        program = assemble(machine)
        assert {decide(program, number, arch=arch) for number in denied(machine).values()} == {"EPERM"}
        assert len(program) // 8 < 4096  # the kernel's limit


def test_an_unknown_processor_has_no_table() -> None:
    assert not supported("riscv64")
    with pytest.raises(KeyError):
        assemble("riscv64")
