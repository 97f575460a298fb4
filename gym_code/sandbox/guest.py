"""The supervisor inside a box: process 1, standard library only, in one file that is copied into the box.

It speaks over inherited descriptors: one stream socket, or one to read from and one to write to (standard
input and output of a container). A frame is a u32 length and then fields, each a u32 length and bytes
(big-endian). Requests: `exec`, `read`, `write`, `list`, `limits`, `filter`, `kills`, `ping`; the reply is
`ok` and fields, or `err`, an errno and a text. It trusts its owner and nothing else: agent code has the same
uid, so the file it is started from is not readable (that makes the process non-dumpable: /proc/1/mem and
ptrace are closed), signals to process 1 have no effect, and no file is opened for an agent that is not a
regular file outside /proc.
"""

from __future__ import annotations

import errno
import os
import resource
import select
import stat
import struct
import sys
import time

FLOOD_BYTES = 256 << 20
"""A command that writes more than this is ended: no reader wants it, and draining it costs a core."""
CHANNEL_BYTES = 16 << 20
READ_BYTES = 256 << 20
"""The largest file `read` returns: a sparse file can claim any size."""
POLL_SECONDS = 0.02
OOM_COUNTERS = ("/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control")
"""Where a container sees how many of its processes the kernel killed for memory (version 2, version 1)."""
PAGE = os.sysconf("SC_PAGESIZE")

Fields = list[bytes]


def pack(fields: Fields) -> bytes:
    """Fields as one frame."""
    body = b"".join([part for value in fields for part in (struct.pack(">I", len(value)), value)])
    return struct.pack(">I", len(body)) + body


def unpack(body: bytes) -> Fields:
    """The fields of a frame's body. Raises ValueError when it is torn."""
    fields, at = [], 0
    while at < len(body):
        if at + 4 > len(body):
            raise ValueError("torn frame")
        (size,) = struct.unpack_from(">I", body, at)
        at += 4
        if at + size > len(body):
            raise ValueError("torn frame")
        fields.append(body[at : at + size])
        at += size
    return fields


def read_exactly(fd: int, size: int) -> bytes:
    """`size` bytes, or fewer at the end of the stream."""
    parts: list[bytes] = []
    while size:
        part = os.read(fd, min(size, 1 << 20))
        if not part:
            break
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def write_all(fd: int, data: bytes) -> None:
    """Write everything."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[: 1 << 20]) :]


class Gone(BaseException):
    """The owner closed its end."""


def receive(fd: int) -> Fields:
    """The next request. Raises `Gone` at the end of the stream."""
    head = read_exactly(fd, 4)
    if len(head) < 4:
        raise Gone
    (size,) = struct.unpack(">I", head)
    body = read_exactly(fd, size)
    if len(body) < size:
        raise Gone
    return unpack(body)


class Output:
    """What a command writes to one stream: the head, a sliding tail, and how much was seen."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.head = bytearray()
        self.tail = bytearray()
        self.seen = 0

    def feed(self, data: bytes, room: int) -> int:
        """Take data; `room` is what may still go to the head. Returns how much did."""
        self.seen += len(data)
        taken = 0
        if room > 0 and not self.tail:
            taken = min(room, len(data))
            self.head += data[:taken]
            data = data[taken:]
        if data:
            self.tail += data
            if len(self.tail) > 2 * self.limit + 65536:
                del self.tail[: len(self.tail) - self.limit]
        return taken

    def text(self, keep: int) -> tuple[bytes, int]:
        """Head and at most `keep` bytes of tail, with a line in between that counts what is missing."""
        head = bytes(self.head)
        if len(head) + len(self.tail) == self.seen and len(self.tail) <= keep:
            return head + self.tail, 0
        missing = self.seen - len(head) - keep
        # The mark takes room from the tail, which makes the number in it larger, perhaps by a digit.
        mark = b"\n[%d bytes left out]\n" % (missing + 40)
        if keep < 2 * len(mark):
            return head + self.tail[len(self.tail) - keep :], missing
        keep -= len(mark)
        missing = self.seen - len(head) - keep
        mark = b"\n[%d bytes left out]" % missing + b"\n" * (
            len(mark) - len(b"\n[%d bytes left out]" % missing)
        )
        return head + mark + self.tail[len(self.tail) - keep :], missing


def share_out(out: Output, err: Output, limit: int) -> tuple[bytes, bytes, int]:
    """Both streams within `limit` bytes together, and how many bytes of them are missing."""
    room = limit - len(out.head) - len(err.head)
    if len(out.tail) + len(err.tail) <= room:
        keep_out, keep_err = len(out.tail), len(err.tail)
    else:
        keep_err = min(len(err.tail), max(room // 2, room - len(out.tail)))
        keep_out = min(len(out.tail), room - keep_err)
    (stdout, missing_out), (stderr, missing_err) = out.text(keep_out), err.text(keep_err)
    return stdout, stderr, missing_out + missing_err


class Limits:
    """What the owner allows the agent's processes."""

    def __init__(self) -> None:
        self.memory = 0
        self.processes = 0
        self.cpu = 0

    def apply(self) -> None:
        """In the child, before exec. Hard limits, so that they cannot be raised again."""
        # 1, not 0: with 0 the kernel would still feed a core dump to a handler of the host.
        pairs = [
            (resource.RLIMIT_CORE, 1),
            (resource.RLIMIT_NOFILE, 4096),
            (resource.RLIMIT_MEMLOCK, 1 << 16),
        ]
        if self.processes:
            pairs.append((resource.RLIMIT_NPROC, self.processes + 1))
        if self.cpu:
            pairs.append((resource.RLIMIT_CPU, self.cpu))
        if self.memory:
            # Not the limit itself (address space is not memory) but a wall behind the watchdog.
            pairs.append((resource.RLIMIT_DATA, 4 * self.memory + (1 << 30)))
        for what, value in pairs:
            hard = resource.getrlimit(what)[1]
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(what, (value, value))


def resident(name: str) -> int:
    """Bytes resident for a process, by its name in /proc; 0 when it is gone."""
    try:
        with open(f"/proc/{name}/statm", "rb") as file:
            row = file.read().split()
    except OSError:
        return 0
    return int(row[1]) * PAGE if len(row) > 2 else 0


def memory_used() -> int:
    """Bytes resident for the agent's processes; what they share is counted once for each: an upper bound."""
    return sum(resident(name) for name in os.listdir("/proc") if name.isdigit() and name != "1")


def proportional_memory() -> int:
    """Bytes of anonymous and shared memory, each page counted once, without mapped programs (slower).

    A process that hides its maps (it is not dumpable) counts with all that is resident for it.
    """
    total = 0
    for name in os.listdir("/proc"):
        if name.isdigit() and name != "1":
            try:
                with open(f"/proc/{name}/smaps_rollup", "rb") as file:
                    rows = file.read().splitlines()
            except OSError:
                total += resident(name)
                continue
            total += sum(
                int(row.split()[1]) << 10 for row in rows if row.startswith((b"Pss_Anon:", b"Pss_Shmem:"))
            )
    return total


def end_everything() -> None:
    """Kill every other process of the box and reap it. Forks in flight see the pending signal and fail."""
    while True:
        try:  # noqa: SIM105 -- contextlib costs a tenth of our start-up
            os.kill(-1, 9)
        except ProcessLookupError:
            pass
        try:
            while True:
                os.waitpid(-1, 0)
        except ChildProcessError:
            pass
        try:
            os.kill(-1, 0)
        except ProcessLookupError:
            return
        time.sleep(0.001)


class Run:
    """One command, from fork to the last survivor's end."""

    def __init__(self, owner: int, limits: Limits, request: Fields) -> None:
        self.owner, self.limits = owner, limits
        timeout, output, channel, cwd, argc = request[:5]
        self.timeout, self.output_limit = float(timeout), int(output)
        self.cwd = cwd
        self.argv = request[5 : 5 + int(argc)]
        rest = request[5 + int(argc) :]
        self.env = dict(zip(rest[0:-1:2], rest[1:-1:2], strict=False))
        self.stdin = memoryview(rest[-1])
        self.out, self.err = Output(self.output_limit), Output(self.output_limit)
        self.room = self.output_limit // 2
        self.with_channel = channel == b"1"
        self.channel = bytearray()
        self.status: int | None = None
        self.cause = b"exited"
        self.pid = 0

    def go(self) -> Fields:
        """Run it; the fields of the reply."""
        begin = time.monotonic()
        pipes = self.start()
        try:
            self.watch(pipes, begin + self.timeout)
            end_everything_and(self)
            self.drain(pipes)
        finally:
            for fd in pipes:
                os.close(fd)
        seconds = time.monotonic() - begin
        out, err, missing = share_out(self.out, self.err, self.output_limit)
        code = os.waitstatus_to_exitcode(self.status) if self.status is not None else -9
        if code < 0:
            if self.cause == b"exited":
                self.cause = b"killed"
            code = 128 - code
        return [
            b"ok",
            b"%d" % code,
            b"%.6f" % seconds,
            self.cause,
            b"%d" % missing,
            out,
            err,
            bytes(self.channel),
        ]

    def start(self) -> dict[int, str]:
        """Fork and exec; our ends of the pipes."""
        out_r, out_w = os.pipe2(os.O_CLOEXEC)
        err_r, err_w = os.pipe2(os.O_CLOEXEC)
        pipes, theirs = {out_r: "out", err_r: "err"}, [out_w, err_w]
        chan_w = -1
        if self.with_channel:
            chan_r, chan_w = os.pipe2(os.O_CLOEXEC)
            pipes[chan_r] = "channel"
            theirs.append(chan_w)
        if self.stdin:
            in_r, in_w = os.pipe2(os.O_CLOEXEC)
            os.set_blocking(in_w, False)
            pipes[in_w] = "in"
        else:
            in_r = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        theirs.append(in_r)
        self.pid = os.fork()
        if self.pid == 0:
            self.become(in_r, out_w, err_w, chan_w)
        for fd in theirs:
            os.close(fd)
        for fd in pipes:
            os.set_blocking(fd, False)
        return pipes

    def become(self, in_r: int, out_w: int, err_w: int, chan_w: int) -> None:
        """In the child: never returns."""
        try:
            os.setsid()
            os.dup2(in_r, 0)
            os.dup2(out_w, 1)
            os.dup2(err_w, 2)
            if chan_w >= 0:
                # One fixed number: twin and real runs must look alike.
                spare = os.dup(chan_w)
                os.dup2(spare, 3)
                self.env[b"GYM_CODE_CHANNEL"] = b"3"
            os.closerange(4 if chan_w >= 0 else 3, 256)
            os.umask(0o022)
            self.limits.apply()
            volunteer()
            os.chdir(self.cwd)
            restore_signals()
            search = [self.argv[0]]
            if b"/" not in self.argv[0]:
                search = [d + b"/" + self.argv[0] for d in self.env.get(b"PATH", b"").split(b":") if d]
            problem: OSError = FileNotFoundError(errno.ENOENT, "no such command")
            for path in search:
                try:
                    os.execve(path, self.argv, self.env)
                except (FileNotFoundError, NotADirectoryError):
                    continue
                except OSError as error:
                    problem = error
            raise problem
        except OSError as error:
            what = os.fsdecode(error.filename or self.argv[0])
            os.write(2, f"{what}: {error.strerror}\n".encode("utf-8", "replace"))
            os._exit(127 if isinstance(error, FileNotFoundError) else 126)
        finally:
            os._exit(125)

    def watch(self, pipes: dict[int, str], deadline: float) -> None:
        """Move bytes until the command ends, or end it at a limit."""
        poll = select.poll()
        for fd, kind in pipes.items():
            poll.register(fd, select.POLLOUT if kind == "in" else select.POLLIN)
        poll.register(self.owner, select.POLLIN)
        pidfd = os.pidfd_open(self.pid)
        poll.register(pidfd, select.POLLIN)
        check = time.monotonic() + POLL_SECONDS
        try:
            while True:
                now = time.monotonic()
                if now >= deadline:
                    self.cause = b"timed out"
                    return
                events = poll.poll(max(0.0, min(deadline, check) - now) * 1000 + 1)
                for fd, _ in events:
                    if fd == self.owner:
                        raise Gone
                    if fd == pidfd:
                        self.status = os.waitpid(self.pid, 0)[1]
                        return
                    if not self.move(fd, pipes[fd]):
                        poll.unregister(fd)
                if self.out.seen + self.err.seen > FLOOD_BYTES:
                    self.cause = b"output limit"
                    return
                if time.monotonic() >= check:
                    self.reap_orphans()
                    if self.over_memory():
                        self.cause = b"out of memory"
                        return
                    check = time.monotonic() + POLL_SECONDS
        finally:
            os.close(pidfd)

    def reap_orphans(self) -> None:
        """Zombies of processes whose parent ended count against the process limit."""
        while True:
            try:
                found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if found is None or found.si_pid == self.pid:
                return
            os.waitpid(found.si_pid, 0)

    def over_memory(self) -> bool:
        """Whether the agent's processes together hold more than they may."""
        limit = self.limits.memory
        return bool(limit) and memory_used() > limit and proportional_memory() > limit

    def move(self, fd: int, kind: str) -> bool:
        """Serve one ready pipe; False when it is done."""
        if kind == "in":
            try:
                self.stdin = self.stdin[os.write(fd, self.stdin[: 1 << 16]) :]
            except BlockingIOError:
                return True
            except BrokenPipeError:
                self.stdin = self.stdin[:0]
            if not self.stdin:
                # Closing is what tells the reader; the number stays reserved until the run is over.
                os.dup2(_null(), fd)
                return False
            return True
        try:
            data = os.read(fd, 1 << 16)
        except BlockingIOError:
            return True
        if kind == "channel":
            self.channel += data[: CHANNEL_BYTES - len(self.channel)]
        else:
            self.room -= (self.out if kind == "out" else self.err).feed(data, self.room)
        return bool(data)

    def drain(self, pipes: dict[int, str]) -> None:
        """What dead writers left in the pipes."""
        for fd, kind in pipes.items():
            if kind == "in":
                continue
            while self.move(fd, kind):
                if not select.select([fd], [], [], 0)[0]:
                    break


def end_everything_and(run: Run) -> None:
    """Kill all; take the status of the command itself if it is among the dead."""
    if run.status is None:
        try:  # noqa: SIM105 -- contextlib costs a tenth of our start-up
            os.kill(-1, 9)
        except ProcessLookupError:
            pass
        run.status = os.waitpid(run.pid, 0)[1]
    end_everything()


_NULL: list[int] = []


def _null() -> int:
    if not _NULL:
        _NULL.append(os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC))
    return _NULL[0]


def volunteer() -> None:
    """In the child: the kernel, out of memory, takes us before process 1."""
    try:
        fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return
    try:
        os.write(fd, b"500")
    except OSError:
        pass
    finally:
        os.close(fd)


def restore_signals() -> None:
    """We ignore SIGINT, and Python SIGPIPE and SIGXFSZ; commands expect the defaults."""
    # The C module: `signal` drags in `enum`, which costs a third of our start-up.
    import _signal  # type: ignore[import-not-found]

    for number in (_signal.SIGINT, _signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)


def regular(path: bytes) -> int:
    """Open a regular file for reading. /proc is refused: our own entries there are not the agent's."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    try:
        info = os.fstat(fd)
        if stat.S_ISDIR(info.st_mode):
            raise IsADirectoryError(errno.EISDIR, "is a directory")
        if not stat.S_ISREG(info.st_mode) or info.st_dev == os.stat("/proc").st_dev:
            raise PermissionError(errno.EACCES, "not a regular file")
    except BaseException:
        os.close(fd)
        raise
    return fd


def serve_read(path: bytes, limit: int) -> Fields:
    """At most `limit` bytes of a file (negative: all of it)."""
    fd = regular(path)
    try:
        if limit < 0 and os.fstat(fd).st_size > READ_BYTES:
            raise OSError(errno.EFBIG, f"larger than {READ_BYTES} bytes; pass max_bytes")
        return [b"ok", read_exactly(fd, READ_BYTES if limit < 0 else min(limit, READ_BYTES))]
    finally:
        os.close(fd)


def serve_write(path: bytes, mode: bytes, content: bytes) -> Fields:
    """Replace a file whole: a new one beside it, then a rename. Links are followed first."""
    path = os.path.realpath(path)
    parent = os.path.dirname(path)
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, "is a directory")
    try:
        os.makedirs(parent, exist_ok=True)
    except FileExistsError:
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR)) from None
    if os.stat(parent).st_dev in (os.stat("/proc").st_dev, os.stat("/dev").st_dev):
        raise PermissionError(errno.EACCES, "not a place for files")
    bits = 0o644
    try:
        found = os.lstat(path)
        if not stat.S_ISREG(found.st_mode):
            raise PermissionError(errno.EACCES, "not a regular file")
        bits = stat.S_IMODE(found.st_mode)
    except FileNotFoundError:
        pass
    if mode != b"-":
        bits = bits | 0o111 if mode == b"1" else bits & ~0o111
    # A fresh name: what the agent may have put under a known one (a pipe) would block us.
    part = parent + b"/.gym-code-" + os.urandom(16).hex().encode()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(part, flags, 0o600)
    try:
        write_all(fd, content)
        os.fchmod(fd, bits)
        os.rename(part, path)
    except OSError:
        os.unlink(part)
        raise
    finally:
        os.close(fd)
    return [b"ok"]


def serve_list(path: bytes) -> Fields:
    """Names in a directory, directories with a slash (also links to directories keep none)."""
    with os.scandir(path) as rows:
        names = [row.name + b"/" if row.is_dir(follow_symlinks=False) else row.name for row in rows]
    return [b"ok", *sorted(names)]


def answer(owner: int, limits: Limits, request: Fields) -> Fields:
    """Carry out one request."""
    op, rest = request[0], request[1:]
    try:
        if op == b"exec":
            return Run(owner, limits, rest).go()
        if op == b"read":
            return serve_read(rest[0], int(rest[1]))
        if op == b"write":
            return serve_write(rest[0], rest[1], rest[2])
        if op == b"list":
            return serve_list(rest[0])
        if op == b"limits":
            limits.memory, limits.processes, limits.cpu = (int(value) for value in rest)
            return [b"ok"]
        if op == b"filter":
            install_filter(rest[0])
            return [b"ok"]
        if op == b"kills":
            return [b"ok", b"%d" % kills()]
        if op == b"ping":
            return [b"ok", b"%d" % os.getpid()]
    except OSError as error:
        return [b"err", b"%d" % (error.errno or errno.EIO), (error.strerror or str(error)).encode()]
    except (
        RecursionError
    ):  # of `realpath` and `makedirs`: both can be driven by the agent, and must not end us
        return [b"err", b"%d" % errno.ELOOP, b"too many levels of directories or symbolic links"]
    return [b"err", b"%d" % errno.ENOSYS, b"unknown request"]


def kills() -> int:
    """How many processes of our control group the kernel killed for memory; 0 where that cannot be seen."""
    for path in OOM_COUNTERS:
        try:
            with open(path, "rb") as file:
                rows = file.read().splitlines()
        except OSError:
            continue
        for row in rows:
            if row.startswith(b"oom_kill "):
                return int(row.split()[1])
    return 0


def install_filter(program: bytes) -> None:
    """Refuse system calls from now on, to us and to all that we start (an array of `struct sock_filter`)."""
    import ctypes

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("code", ctypes.c_void_p)]

    code = ctypes.create_string_buffer(program, len(program))
    what = Program(len(program) // 8, ctypes.cast(code, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, mode_filter = 38, 22, 2
    for call in ((no_new_privileges, 1, 0, 0, 0), (set_seccomp, mode_filter, ctypes.byref(what), 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "cannot install the filter of system calls")


def hide() -> None:
    """Make sure that the agent, which has our uid, cannot open our memory."""
    if os.stat("/proc/self/mem").st_uid != os.getuid():
        return  # started from a file we may not read: the kernel made us non-dumpable already
    import ctypes

    if ctypes.CDLL(None).prctl(4, 0, 0, 0, 0) != 0:
        os._exit(70)


def main() -> None:
    """Serve until the owner goes away: `guest.py IN [OUT]`."""
    import _signal

    _signal.signal(_signal.SIGINT, _signal.SIG_IGN)  # the one signal that Python would heed as process 1
    owner, out = int(sys.argv[1]), int(sys.argv[-1])
    os.set_inheritable(owner, False)
    os.set_inheritable(out, False)
    hide()
    limits = Limits()
    try:
        write_all(out, pack([b"ready"]))
        while True:
            write_all(out, pack(answer(owner, limits, receive(owner))))
    except (Gone, BrokenPipeError, ConnectionResetError):
        os._exit(0)


if __name__ == "__main__":
    main()
