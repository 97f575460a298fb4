"""The keeper: a small single-threaded process that owns the namespaces in which boxes are made.

It drops to the sandbox uid, makes a user and a mount namespace, and then serves its owner over one
SEQPACKET socket: `launch` starts a bubblewrap box, `activate` injects one overlay into it, `export` streams
what an overlay holds, `merge` flattens layers, `destroy` and `drop` give back. What agents write lies on a
size-limited tmpfs for each layer, mounted in the keeper's own namespace: the disk limit is the tmpfs's
size, nothing is mounted on the host, and all of it vanishes with the keeper, which ends when its owner
does. The keeper is process 1 of a process namespace, so the kernel lets nothing that it has started outlive
it, be it half started. Requests and replies are JSON objects; descriptors travel beside them.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import select
import signal
import socket
import sys
from typing import Any

from gym_code.sandbox import changes, mounts, removal, seccomp

PARTS = ("workspace", "tmp", "home")
"""Directories of every layer: they become the box's workdir, /tmp and home."""
STORAGE = "GYM_CODE_STORAGE"
"""Environment variable: `directory` keeps what boxes write on the disk even where a tmpfs would do."""
MESSAGE_BYTES = 1 << 17
LEAST_INODES = 4096
INODE_BYTES = 1 << 11
"""What the kernel needs for a file or directory beside its content, here and in the overlay; roughly."""

Trees = list[tuple[int, str]]
"""Descriptors of mounts, and where each goes in a box."""


class Keeper:
    """State: running boxes, mounted layers, and the scratch space."""

    def __init__(self, channel: socket.socket, scratch: str, disk: str) -> None:
        self.channel = channel
        self.boxes: dict[int, Box] = {}
        self.count = 0
        self.filter = seccomp.assemble() if seccomp.supported() else b""
        self.clean = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        mounts.unshare(mounts.CLONE_NEWNS)
        mounts.mount("tmpfs", scratch, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "size=16m,mode=700")
        os.chdir(scratch)
        os.mkdir("merged")
        self.directory = ""
        self.problem = "" if os.environ.get(STORAGE) == "directory" else self.probe()
        if self.problem or os.environ.get(STORAGE) == "directory":
            # Before Linux 6.6 a tmpfs has no user attributes: then a directory of the disk, without a quota.
            os.mkdir(disk)
            self.directory = disk
            self.problem = self.probe()

    def probe(self) -> str:
        """Try one overlay on a tmpfs; the problem in words where it does not work, else nothing."""
        try:
            layer = self.new_layer(1 << 20)
            base = self.new_layer(1 << 20)
            for part in PARTS:
                os.mkdir(f"{base}/upper/{part}")
            os.symlink(f"{base}/upper", "0")
            self.overlay(layer, 1)
            os.rmdir("merged/tmp")
            os.mkdir("merged/tmp")  # needs an extended attribute to be opaque
            mounts.umount("merged")
            self.drop([layer, base])
        except OSError as error:
            return str(error)
        finally:
            if os.path.lexists("0"):
                os.unlink("0")
        return ""

    def serve(self, owner: int) -> None:
        """Until the owner (a pid descriptor) goes away."""
        self.reply({"ready": True, "problem": self.problem, "quota": not self.directory})
        poll = select.poll()
        poll.register(self.channel, select.POLLIN)
        poll.register(owner, select.POLLIN)
        while True:
            if any(fd == owner for fd, _ in poll.poll()):
                return  # a process it forked may still hold our socket open
            data, fds, _, _ = socket.recv_fds(self.channel, MESSAGE_BYTES, 4)
            if not data:
                return
            try:
                self.dispatch(json.loads(data), fds)
            except OSError as error:
                self.reply({"error": str(error), "errno": error.errno})
            except Exception as error:  # the boundary: one bad request must not end all boxes
                self.reply({"error": f"{type(error).__name__}: {error}", "errno": errno.EIO})
            finally:
                for fd in fds:
                    os.close(fd)

    def dispatch(self, request: dict[str, Any], fds: list[int]) -> None:
        """Carry out one request and reply."""
        op = request["op"]
        if op == "launch":
            self.launch(request["argv"], held=request["held"])
        elif op == "activate":
            size, inodes = self.used(request["layers"])
            held = size + inodes * INODE_BYTES
            self.reply({"layer": self.activate(request), "held": held})
        elif op == "export":
            self.export(request)
        elif op == "merge":
            self.reply({"layer": self.merge(request["layers"])})
        elif op == "destroy":
            self.destroy(request["box"])
            self.reply({})
        elif op == "drop":
            self.drop(request["layers"])
            self.reply({})

    def reply(self, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        """Send one message."""
        socket.send_fds(self.channel, [json.dumps(message).encode()], list(fds))

    def launch(self, argv: list[str], *, held: bool) -> None:
        """Start bubblewrap; `{SECCOMP}`, `{INFO}` and `{CONTROL}` in argv stand for descriptors.

        The reply's descriptors: the socket to the supervisor; a pipe, for if `held` the box begins when the
        owner has written to it; and the process.
        """
        ours, theirs = socket.socketpair()
        info_r, info_w = os.pipe2(os.O_CLOEXEC)
        go_r, go_w = os.pipe2(os.O_CLOEXEC)
        filter_r, filter_w = os.pipe2(os.O_CLOEXEC)
        os.write(filter_w, self.filter)
        os.close(filter_w)
        pid = os.fork()
        if pid == 0:
            try:
                os.close(go_w)
                if held and not os.read(go_r, 1):
                    os._exit(0)  # the owner is gone
                mounts.setns(self.clean, mounts.CLONE_NEWNS)
                # Fixed numbers: they show in the box's process list, and all boxes must look alike.
                fds = {"{SECCOMP}": filter_r, "{INFO}": info_w, "{CONTROL}": theirs.fileno()}
                numbers = {word: str(os.dup2(fd, 900 + at)) for at, (word, fd) in enumerate(fds.items())}
                words = [numbers.get(word, word) for word in argv]
                if not self.filter:
                    at = words.index("--seccomp")
                    del words[at : at + 2]
                os.dup2(os.open("/dev/null", os.O_RDWR), 0)
                mounts.fix_addresses()
                os.execv(words[0], words)
            except OSError as error:
                os.write(2, f"cannot start bubblewrap: {error}\n".encode())
            finally:
                os._exit(127)
        os.close(info_w)
        os.close(filter_r)
        os.close(go_r)
        theirs.close()
        self.count += 1
        self.boxes[self.count] = Box(pid, info_r)
        process = os.pidfd_open(pid)  # the number is another one for the owner
        self.reply({"box": self.count}, (ours.fileno(), go_w, process))
        os.close(process)
        os.close(go_w)
        ours.close()

    def new_layer(self, size: int, inodes: int = 0) -> str:
        """A tmpfs with `upper` and `work` on it; its name below the scratch space.

        inodes: as many at least; they grow with the size in any case.
        """
        self.count += 1
        name = f"l{self.count}"
        if self.directory:
            return self.new_directory(name)
        os.mkdir(name)
        options = f"size={size},nr_inodes={max(LEAST_INODES, size >> 13, inodes)},mode=700"
        mounts.mount("tmpfs", name, "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, options)
        self.fill(name)
        return name

    def new_directory(self, name: str) -> str:
        """The same in a directory of the disk; the scratch space holds a link to it."""
        os.mkdir(f"{self.directory}/{name}", 0o700)
        os.symlink(f"{self.directory}/{name}", name)
        self.fill(name)
        # /dev/shm is memory in any case.
        mounts.mount(
            "tmpfs", f"{name}/shm", "tmpfs", mounts.MS_NOSUID | mounts.MS_NODEV, "size=256m,mode=1777"
        )
        return name

    def fill(self, name: str) -> None:
        """The directories of a new layer."""
        for part in ("upper", "work", "shm"):
            os.mkdir(f"{name}/{part}")
        os.chmod(f"{name}/upper", 0o755)
        os.chmod(f"{name}/shm", 0o1777)

    def overlay(self, layer: str, depth: int) -> None:
        """Mount it on `merged`; lowers are the links named 0, 1, ...: short, and the same in every
        box's mount table."""
        lowers = ":".join(str(index) for index in range(depth))
        data = f"lowerdir={lowers},upperdir=u/upper,workdir=u/work,userxattr,volatile"
        os.symlink(layer, "u")
        try:
            mounts.mount("overlay", "merged", "overlay", mounts.MS_NOSUID | mounts.MS_NODEV, data)
        finally:
            os.unlink("u")

    def activate(self, request: dict[str, Any]) -> str:
        """Give a box a new overlay over the layers and the base; instead of the one it has, if any."""
        lowers = [f"{name}/upper" for name in request["layers"]] + [request["base"]]
        layer = self.new_layer(request["bytes"])
        trees: Trees = []
        try:
            for index, path in enumerate(lowers):
                os.symlink(path, str(index))
            self.overlay(layer, len(lowers))
            try:
                for part, target in zip(PARTS, request["targets"], strict=True):
                    trees.append((mounts.open_tree(f"merged/{part}"), target))
                trees.append((mounts.open_tree(f"{layer}/shm"), "/dev/shm"))
            finally:
                mounts.umount("merged")
            self.inject(request, trees)
        except OSError:
            self.drop([layer])
            raise
        finally:
            for fd, _ in trees:
                os.close(fd)
            for index in range(len(lowers)):
                if os.path.lexists(str(index)):
                    os.unlink(str(index))
        return layer

    def inject(self, request: dict[str, Any], trees: Trees) -> None:
        """Attach the mounts inside the box that the request names."""
        view = os.open(f"/proc/{self.boxes[request['box']].child()}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        owner = fcntl.ioctl(view, mounts.NS_GET_USERNS)
        try:
            move_in((owner, view), trees, detach=request["detach"])
        finally:
            os.close(owner)
            os.close(view)

    def export(self, request: dict[str, Any]) -> None:
        """Hand over a pipe on which a child writes the change set."""
        reader = self.changes(request)
        self.reply({}, (reader,))
        os.close(reader)

    def changes(self, request: dict[str, Any]) -> int:
        """The read end of a pipe on which a child writes the change set (see `changes.stream`)."""
        reader, writer = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(request["seconds"])
                uppers = [f"{name}/upper" for name in reversed(request["layers"])]
                changes.stream(writer, uppers, request["base"], request["part"], content=request["content"])
            except OSError as error:
                os.write(2, f"cannot export: {error}\n".encode())
            finally:
                os._exit(0)
        os.close(writer)
        return reader

    def used(self, layers: list[str]) -> tuple[int, int]:
        """Bytes and inodes that layers hold in memory; none where they lie on a disk."""
        found = [os.statvfs(name) for name in layers if not self.directory]
        size = sum((row.f_blocks - row.f_bfree) * row.f_bsize for row in found)
        return size, sum(row.f_files - row.f_ffree for row in found)

    def merge(self, layers: list[str]) -> str:
        """One layer that says what several (top first) say together, as large as that takes."""
        size, inodes = self.used(layers)
        # A directory that hides others gets an attribute, which counts as an inode.
        target = self.new_layer(size + (1 << 20), 2 * inodes + LEAST_INODES)
        try:
            for name in reversed(layers):
                changes.apply_layer(f"{name}/upper", f"{target}/upper")
        except OSError:
            self.drop([target])
            raise
        return target

    def destroy(self, number: int) -> None:
        """End a box: its process 1 dies, and with it everything inside; bubblewrap reaps it and ends."""
        box = self.boxes.pop(number)
        try:
            os.kill(box.child(), signal.SIGKILL)
        except OSError:  # it never came up, or is gone already
            os.kill(box.pid, signal.SIGKILL)
        os.waitpid(box.pid, 0)
        os.close(box.info)
        self.reap()

    def reap(self) -> None:
        """Orphans come to us, as process 1, and the children that exported."""
        alive = {box.pid for box in self.boxes.values()}
        with contextlib.suppress(ChildProcessError):
            while found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if found.si_pid in alive:
                    return  # a box that died by itself: `destroy` reaps it
                os.waitpid(found.si_pid, 0)

    def drop(self, layers: list[str]) -> None:
        """Forget layers; their memory returns when the last box over them is gone."""
        for name in layers:
            if self.directory:
                mounts.umount(f"{name}/shm")
                os.unlink(name)
                removal.remove(f"{self.directory}/{name}")
            else:
                mounts.umount(name)
                os.rmdir(name)


def move_in(namespaces: tuple[int, ...], trees: Trees, *, detach: bool) -> None:
    """Enter the namespaces of a box (a user namespace first, if any) in a child, for there is no way back,
    and attach the mounts; `detach`: instead of those that are there."""
    pid = os.fork()
    if pid == 0:
        status = errno.EIO
        try:
            for fd in namespaces[:-1]:
                mounts.setns(fd, mounts.CLONE_NEWUSER)
            mounts.setns(namespaces[-1], mounts.CLONE_NEWNS)
            if detach:
                for _, target in reversed(trees):
                    mounts.umount(target)
            for fd, target in trees:
                mounts.move_mount(fd, target)
            status = 0
        except OSError as error:
            os.write(2, f"cannot enter the box: {error}\n".encode())
            status = error.errno or errno.EIO
        finally:
            os._exit(status)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status:
        raise OSError(status, f"injecting the overlay: {os.strerror(status)}")


class Box:
    """A running bubblewrap and the pipe on which it tells its child's pid."""

    def __init__(self, pid: int, info: int) -> None:
        self.pid, self.info, self.inner = pid, info, 0

    def child(self) -> int:
        """The pid of the box's process 1, as we see it. Raises OSError when bubblewrap failed."""
        if not self.inner:
            text = b""
            while b"}" not in text:
                if not select.select([self.info], [], [], 10.0)[0]:
                    raise OSError(errno.ETIMEDOUT, "bubblewrap does not start")
                part = os.read(self.info, 4096)
                if not part:
                    raise OSError(errno.ECHILD, "bubblewrap ended at once")
                text += part
            self.inner = int(json.loads(text)["child-pid"])
        return self.inner


def enter_namespaces(uid: int) -> None:
    """Drop to the uid, then own user, mount and process namespaces in which it is root; nothing propagates
    to the host. We come back as process 1 of the latter.

    The process that was called stays outside and ends with us, as we do with it. That no process of the
    namespace outlives us is the kernel's doing: bubblewrap's own care (`--die-with-parent`) begins only when
    it is half way through its start, and what it has started by then would wait for ever.
    """
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        mounts.set_dumpable()  # or the map below cannot be written
    gid = os.getgid()
    mounts.unshare(mounts.CLONE_NEWUSER | mounts.CLONE_NEWNS | mounts.CLONE_NEWPID)
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)
    mounts.mount("none", "/", "none", mounts.MS_REC | mounts.MS_PRIVATE)
    outside = os.pidfd_open(os.getpid())
    if pid := os.fork():
        os._exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) & 0xFF)
    mounts.die_with_parent()
    if select.select([outside], [], [], 0)[0]:
        os._exit(1)
    os.close(outside)
    # Numbers of processes are those of the new namespace, for us and for bubblewrap.
    mounts.mount("proc", "/proc", "proc", mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC)


def main() -> None:
    """`keeper FD UID HOME TAG`; the reason of a failed start goes to the owner."""
    fd, uid, home, tag = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], f"{sys.argv[4]}-{os.getpid()}"
    channel = socket.socket(fileno=fd)
    owner = os.pidfd_open(os.getppid())
    channel.set_inheritable(False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is the owner's to handle
    os.setsid()
    os.umask(0o022)
    try:
        enter_namespaces(uid)
        keeper = Keeper(channel, os.path.join(home, "mnt"), os.path.join(home, "boxes", tag))
    except OSError as error:
        channel.send(json.dumps({"error": str(error), "errno": error.errno}).encode())
        return
    with contextlib.suppress(ConnectionError):  # the owner has hung up between a request and its reply
        keeper.serve(owner)
    if keeper.directory:
        keeper.drop(os.listdir(keeper.directory))
        os.rmdir(keeper.directory)
