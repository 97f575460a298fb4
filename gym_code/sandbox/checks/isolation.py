"""No network, no host, no way to the supervisor (law 7)."""

from __future__ import annotations

import os

from gym_code.sandbox.checks import Lab, check, expect, expect_raises, expect_true, output

PYTHON = "python3"


@check("processes", "network_isolated")
def law_7_no_network(lab: Lab) -> None:
    """The only interface is loopback; nothing outside can be reached."""
    box = lab.open()
    expect(output(box.exec("grep -c : /proc/net/dev")), "1", "interfaces")
    code = "import socket; s = socket.socket(); s.settimeout(2); s.connect(('1.1.1.1', 53))"
    expect_true(not box.exec([PYTHON, "-c", code]).ok, "a connection was made")


@check("processes", "network_isolated")
def law_7_loopback_works(lab: Lab) -> None:
    """A test may serve itself on localhost."""
    code = (
        "import socket; a = socket.create_server(('127.0.0.1', 0)); socket.create_connection(a.getsockname())"
    )
    expect(output(lab.open().exec([PYTHON, "-c", code + "; print('ok')"])), "ok", "loopback")


@check("processes")
def law_7_no_sockets_past_the_namespace(lab: Lab) -> None:
    """Address families that know no network namespace (vsock) are refused."""
    code = "import socket\ntry: socket.socket(40, 1)\nexcept OSError as e: print(e.errno)"
    expect(output(lab.open().exec([PYTHON, "-c", code])), "97", "errno of AF_VSOCK")


@check("processes")
def law_7_no_host_files(lab: Lab) -> None:
    """No home of the host, and nothing in the box's own places but what the task brings."""
    box = lab.open()
    expect(output(box.exec("ls /home")), "agent", "homes")
    expect(
        output(box.exec("ls -A /home/agent /tmp | grep -v : | tr -d '\\n'")),
        "",
        "files at the start",
    )
    here = os.path.realpath(__file__)
    expect_true(not box.exec(["cat", here]).ok, f"{here} can be read inside")


@check("processes")
def law_7_no_host_processes(lab: Lab) -> None:
    """The box sees its own processes only."""
    expect(output(lab.open().exec("set -- /proc/[0-9]*; echo $#")), "2", "processes")


@check("processes")
def law_7_no_host_environment(lab: Lab) -> None:
    """Variables of the caller do not come in."""
    os.environ["GYM_CODE_CANARY"] = "canary"
    try:
        expect_true("canary" not in output(lab.open().exec("env")), "the caller's environment is visible")
    finally:
        del os.environ["GYM_CODE_CANARY"]


@check("processes")
def the_agent_has_no_privilege(lab: Lab) -> None:
    """Ordinary uid, no capability, no new privileges."""
    box = lab.open()
    expect(output(box.exec("id -u; id -g; hostname")), "1000\n1000\ngym", "identity")
    status = output(box.exec("grep -E 'CapEff|CapBnd|NoNewPrivs' /proc/self/status"))
    numbers = [line.split()[1] for line in status.splitlines()]
    expect([numbers[0], numbers[-1]], ["0000000000000000", "1"], "effective capabilities, no_new_privs")


@check("processes")
def the_system_is_read_only(lab: Lab) -> None:
    """Only the repository, home, /tmp and /dev/shm can be written."""
    box = lab.open()
    places = "/ /usr /usr/bin /etc /opt/env /opt/env/bin /dev /run /var"
    text = f"for d in {places}; do touch $d/x 2>/dev/null && echo $d; done"
    expect(output(box.exec(text + "; touch ~/x /tmp/x /dev/shm/x x && echo ok")), "ok", "writable places")


@check("processes")
def the_supervisor_cannot_be_read_or_written(lab: Lab) -> None:
    """Memory, descriptors and maps of process 1 are closed to its equals."""
    box = lab.open()
    code = (
        "import os\n"
        "for name in ('mem', 'maps', 'environ', 'fd', 'root', 'auxv'):\n"
        "    try:\n"
        "        p = '/proc/1/' + name\n"
        "        mode = os.O_RDWR if name == 'mem' else os.O_RDONLY\n"
        "        os.listdir(p) if name in ('fd', 'root') else os.open(p, mode)\n"
        "        print('open', name)\n"
        "    except PermissionError: pass"
    )
    expect(output(box.exec([PYTHON, "-c", code])), "", "open entries of /proc/1")


@check("processes")
def the_supervisor_cannot_be_signalled(lab: Lab) -> None:
    """No signal to process 1, or to everyone, ends the box."""
    box = lab.open()
    box.exec("for s in KILL STOP SEGV ABRT INT TERM HUP USR1 PIPE CHLD CONT; do kill -$s 1; done")
    box.exec("kill -KILL -1")
    expect(output(box.exec("echo alive")), "alive", "afterwards")


@check("processes")
def the_supervisor_cannot_be_crippled(lab: Lab) -> None:
    """Neither limits, priority, affinity nor tracing of process 1 can be changed from inside."""
    code = (
        "import ctypes, os, resource\n"
        "tries = {\n"
        "  'prlimit': lambda: resource.prlimit(1, resource.RLIMIT_NOFILE, (0, 0)),\n"
        "  'nice': lambda: os.setpriority(os.PRIO_PROCESS, 1, 19),\n"
        "  'affinity': lambda: os.sched_setaffinity(1, {0}),\n"
        "  'scheduler': lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)),\n"
        "}\n"
        "for name, call in tries.items():\n"
        "    try: call(); print(name)\n"
        "    except PermissionError: pass\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.ptrace(16, 1, 0, 0) == 0: print('ptrace')"
    )
    expect(output(lab.open().exec([PYTHON, "-c", code])), "", "possible attacks")


@check("processes")
def system_calls_that_escape_are_refused(lab: Lab) -> None:
    """mount, unshare, a new user namespace by clone, setns, keyctl, bpf, io_uring and perf."""
    box = lab.open()
    code = (
        "import ctypes, platform\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "if libc.unshare(0x10000000) == 0: print('unshare')\n"
        "if libc.mount(b'none', b'/tmp', b'tmpfs', 0, 0) == 0: print('mount')\n"
        "if libc.setns(0, 0) == 0: print('setns')\n"
        "calls = {'io_uring_setup': 425, 'open_tree': 428, 'fsopen': 430, 'pidfd_getfd': 438}\n"
        "for name, number in calls.items():\n"
        "    libc.syscall(number, 0, 0, 0, 0)\n"
        "    if ctypes.get_errno() != 1: print(name, ctypes.get_errno())\n"
        "nr = {'x86_64': 56, 'aarch64': 220}[platform.machine()]\n"
        "if libc.syscall(nr, 0x10000000 | 17, 0, 0, 0, 0) != -1: print('clone'); "
    )
    expect(output(box.exec([PYTHON, "-c", code])), "", "possible calls")


@check("processes")
def ordinary_programs_work_under_the_filter(lab: Lab) -> None:
    """Threads, subprocesses, multiprocessing, sockets, git and temporary files."""
    box = lab.open()
    code = (
        "import subprocess, tempfile, threading, multiprocessing as m, os\n"
        "if __name__ == '__main__':\n"
        "    t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
        "    print(subprocess.run(['echo', 'sub'], capture_output=True, text=True).stdout.strip())\n"
        "    with m.Pool(2) as pool: print(pool.map(abs, [-1, -2]))\n"
        "    with tempfile.TemporaryDirectory() as d: print(os.path.dirname(d))\n"
    )
    box.write("/tmp/work.py", code.encode())
    expect(output(box.exec([PYTHON, "/tmp/work.py"])), "thread\nsub\n[1, 2]\n/tmp", "output")


@check("processes")
def read_and_write_stay_inside(lab: Lab) -> None:
    """Links out of the tree, to /proc or to devices lead to the box's own files or to an error."""
    box = lab.open()
    box.exec(
        "ln -s /etc/passwd out; ln -s /proc/self/mem mem; ln -s /proc/1/environ env; ln -s / all; mkfifo pipe"
    )
    box.exec("ln -s /dev/zero zero; ln -s ../../../../etc/hostname up")
    expect(box.read("up").rstrip(), b"gym", "the box's own hostname")
    expect_true(b"agent" in box.read("out"), "the box's own passwd")
    for name in ("mem", "env", "pipe", "zero"):
        expect_raises(OSError, lambda name=name: box.read(name), f"read {name}")  # type: ignore[misc]
        expect_raises(OSError, lambda name=name: box.write(name, b"x"), f"write {name}")  # type: ignore[misc]
    expect_raises(OSError, lambda: box.write("all/etc/passwd", b"x"), "write to /etc")
    expect(output(box.exec("echo alive")), "alive", "afterwards")


@check("processes")
def law_7_hostile_git_configuration_does_nothing(lab: Lab) -> None:
    """Hooks, filters, fsmonitor, external diffs and aliases of the tree run no program when the host
    exports."""
    box = lab.open()
    trap = "touch /tmp/trap; printf tr%s apped"
    box.write("trap.sh", f"#!/bin/sh\n{trap}\n".encode(), executable=True)
    box.write(".gitattributes", b"* filter=t diff=t\n")
    keys = [
        "core.fsmonitor",
        "core.hooksPath",
        "filter.t.clean",
        "filter.t.smudge",
        "diff.t.command",
        "diff.external",
    ]
    keys += ["diff.t.textconv", "core.pager", "core.editor", "core.sshCommand", "core.attributesFile"]
    for key in keys:
        box.exec(["git", "config", key, "/testbed/trap.sh"])
    box.exec(
        "cp trap.sh .git/hooks 2>/dev/null; mkdir -p .git/hooks; cp trap.sh .git/hooks/post-index- change"
    )
    box.write("README", b"changed\n")
    patch = box.diff()
    expect_true(b"-start\n+changed\n" in patch and b"trapped" not in patch, "the patch was steered")
    expect_raises(FileNotFoundError, lambda: box.read("/tmp/trap"), "the trap")


@check("processes")
def odd_files_do_not_stop_the_patch(lab: Lab) -> None:
    """Pipes, sockets, unreadable files and directories, sparse giants, loops of links: exported or left
    out, never fatal."""
    box = lab.open()
    box.exec(
        "mkfifo pipe; echo secret > locked; chmod 000 locked; mkdir shut; echo in > shut/f; chmod 000 shut"
    )
    box.exec(
        "ln -s loop loop; truncate -s 100G giant; rm README; mkdir README; echo f > README/f; ln -s /etc etc"
    )
    patch = box.diff()
    for name in (b"b/locked", b"b/shut/f", b"b/loop", b"b/README/f", b"b/etc"):
        expect_true(name in patch, f"{name!r} is not in the patch")
    for name in (b"b/pipe", b"b/giant"):
        expect_true(name not in patch, f"{name!r} is in the patch")
    expect(box.digest(), box.digest(), "digest")
