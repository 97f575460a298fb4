"""Commands as real processes: limits, time-outs, survivors, the private channel."""

from __future__ import annotations

import time

from gym_code.sandbox.checks import Lab, check, expect, expect_true, output
from gym_code.types import Cause

COUNT_OTHERS = "set -- /proc/[0-9]*; echo $#"
"""Processes of the box as a command sees them: process 1 and the shell."""


@check("processes")
def exec_merges_the_environment(lab: Lab) -> None:
    """`env` adds to the fixed environment; the caller's own never comes in."""
    result = lab.open().exec('echo "$EXTRA $HOME $TMPDIR $TZ $PYTHONHASHSEED"', env={"EXTRA": "e"})
    expect(output(result), "e /home/agent /tmp UTC 0", "environment")


@check("processes")
def exec_uses_the_environments_python(lab: Lab) -> None:
    """`python` and `python3` are the environment's, of the asked version, with no package of the host."""
    box = lab.open()
    code = (
        "import sys; print(sys.version_info[:2], sys.prefix, len([p for p in sys.path if 'packages' in p]))"
    )
    for name in ("python", "python3", "/usr/bin/env python3"):
        expect(output(box.exec(f'{name} -c "{code}"')), "(3, 11) /opt/env 1", name)


@check("processes")
def exec_reports_signals(lab: Lab) -> None:
    """A command that kills itself was killed: 128 + the signal's number."""
    result = lab.open().exec("kill -SEGV $$")
    expect((result.cause, result.exit_code), (Cause.KILLED, 139), "result")


@check("processes")
def exec_keeps_streams_apart(lab: Lab) -> None:
    """stdout and stderr."""
    result = lab.open().exec("echo out; echo err >&2")
    expect((result.stdout, result.stderr), (b"out\n", b"err\n"), "streams")


@check("processes")
def exec_takes_invalid_utf8(lab: Lab) -> None:
    """Output is bytes."""
    expect(lab.open().exec(r"printf '\377\376\000'").stdout, b"\xff\xfe\0", "stdout")


@check("processes")
def the_repository_is_clean_git(lab: Lab) -> None:
    """Branch main, one commit, nothing to commit, no remote, no hook, a sound object store."""
    box = lab.open()
    text = (
        "git status --porcelain; git branch --show-current; git rev-list --all --count; git remote; git fsck"
    )
    expect(output(box.exec(text)), "main\n1", "git's view")
    expect(output(box.exec("git rev-parse HEAD")), box.base_commit, "HEAD")
    expect(output(box.exec("ls .git/hooks 2>/dev/null | wc -l")), "0", "hooks")


@check("processes")
def git_commits_are_reproducible(lab: Lab) -> None:
    """The same commit has the same id in every box, and changes nothing about the patch."""
    boxes = [lab.open(), lab.open()]
    for box in boxes:
        box.exec("echo x > new && git add new && git commit -qm work")
    expect(len({output(box.exec("git rev-parse HEAD")) for box in boxes}), 1, "commit ids")
    expect_true(b"b/new" in boxes[0].diff(), "a committed file is missing in the patch")
    expect(boxes[0].digest(), boxes[1].digest(), "digests")


@check("processes", "exec_seconds")
def a_timed_out_command_ends(lab: Lab) -> None:
    """Soon after its time, with what it had printed."""
    begin = time.monotonic()
    result = lab.open().exec("echo before; sleep 60", timeout=0.3)
    expect((result.cause, result.stdout), (Cause.TIMED_OUT, b"before\n"), "result")
    expect_true(time.monotonic() - begin < 5, "took long")


@check("processes", "exec_seconds")
def a_timeout_leaves_no_survivor(lab: Lab) -> None:
    """Neither setsid, nohup, double forks nor ignored signals help."""
    box = lab.open()
    text = "trap '' TERM HUP; setsid nohup sleep 61 & (setsid sh -c 'sleep 62 & sleep 63') & sleep 64"
    expect(box.exec(text, timeout=0.3).cause, Cause.TIMED_OUT, "cause")
    expect(output(box.exec(COUNT_OTHERS)), "2", "processes")


@check("processes")
def a_finished_command_leaves_no_survivor(lab: Lab) -> None:
    """Background processes end with the command that started them, even those that hold its output open."""
    box = lab.open()
    begin = time.monotonic()
    result = box.exec("setsid sleep 60 & sleep 61 & echo done")
    expect((result.cause, result.stdout), (Cause.EXITED, b"done\n"), "result")
    expect_true(time.monotonic() - begin < 5, "waited for a background process")
    expect(output(box.exec(COUNT_OTHERS)), "2", "processes")


@check("processes", "memory_bytes")
def law_3_a_memory_hog_is_blamed(lab: Lab) -> None:
    """A blown memory limit is `OUT_OF_MEMORY`, the box lives on and its files are as they were."""
    box = lab.open()
    box.write("kept", b"kept")
    result = box.exec(
        ["python3", "-c", "x = bytearray(400 << 20); x[::4096] = b'x' * len(x[::4096]); input()"]
    )
    expect(result.cause, Cause.OUT_OF_MEMORY, "cause")
    expect((box.read("kept"), output(box.exec("echo alive"))), (b"kept", "alive"), "afterwards")


@check("processes", "memory_bytes")
def law_3_memory_is_counted_over_all_processes(lab: Lab) -> None:
    """Many small hogs are one big one."""
    hog = "x = bytearray(40 << 20); x[::4096] = b'x' * len(x[::4096]); import time; time.sleep(30)"
    result = lab.open().exec(f'for i in 1 2 3 4 5 6 7 8; do python3 -c "{hog}" & done; wait')
    expect(result.cause, Cause.OUT_OF_MEMORY, "cause")


@check("processes", "memory_bytes")
def law_3_shared_memory_counts(lab: Lab) -> None:
    """Shared anonymous mappings and memory files are memory, too."""
    hog = "import mmap; m = mmap.mmap(-1, 400 << 20); m[::4096] = b'x' * len(m[::4096]); input()"
    expect(lab.open().exec(["python3", "-c", hog]).cause, Cause.OUT_OF_MEMORY, "cause")
    code = "import os\nfd = os.memfd_create('x')\nwhile True: os.write(fd, bytes(1 << 20))"
    expect_true(not lab.open().exec(["python3", "-c", code], timeout=10).ok, "memory without an owner")


@check("processes", "processes")
def law_3_a_fork_bomb_is_contained(lab: Lab) -> None:
    """It meets the process limit, ends with its command, and the box lives on."""
    box = lab.open()
    box.exec("bomb() { bomb | bomb & }; bomb; sleep 0.5", timeout=3)
    expect(output(box.exec("echo alive")), "alive", "afterwards")
    expect(output(box.exec(COUNT_OTHERS)), "2", "processes")


@check("processes", "output_bytes")
def law_3_a_flood_ends_cleanly(lab: Lab) -> None:
    """A gigabyte of output is bounded, counted, and no fault of ours."""
    box = lab.open()
    result = box.exec("head -c 1073741824 /dev/zero | tr '\\0' x; echo end >&2", timeout=60)
    expect_true(result.cause in (Cause.OUTPUT_LIMIT, Cause.EXITED), f"cause {result.cause}")
    expect_true(len(result.stdout) + len(result.stderr) <= 4096, "more than output_bytes")
    expect_true(result.truncated_bytes > 100 << 20, "not counted")
    expect(output(box.exec("echo alive")), "alive", "afterwards")


@check("processes", "disk_bytes")
def law_3_a_full_disk_is_the_agents(lab: Lab) -> None:
    """Writes beyond the quota fail with ENOSPC in the command; room is there again after deleting."""
    box = lab.open()
    result = box.exec("head -c 100M /dev/zero > big")
    expect_true(
        result.exit_code != 0 and b"No space left" in result.stderr, f"{result.exit_code} {result.stderr!r}"
    )
    expect(output(box.exec("rm big; echo x > small; cat small")), "x", "afterwards")


@check("processes", "disk_bytes")
def write_reports_a_full_disk(lab: Lab) -> None:
    """`write` raises ENOSPC and leaves the old file whole."""
    box = lab.open()
    box.write("file", b"old")
    try:
        box.write("file", b"x" * (40 << 20))
    except OSError as error:
        expect(error.errno, 28, "errno")
    else:
        expect_true(False, "no error")
    expect(box.read("file"), b"old", "content")
    names = ("file", ".git/", ".gitignore", "README", "link", "pkg/", "run.sh", "tracked.log")
    expect(box.list(), tuple(sorted(names)), "files (no litter)")


@check("processes", "cpu_seconds")
def law_3_cpu_time_is_limited(lab: Lab) -> None:
    """A busy loop is killed after its CPU seconds."""
    result = lab.open(cpu_seconds=1).exec("while :; do :; done", timeout=15)
    expect(result.cause, Cause.KILLED, "cause")


@check("processes")
def law_5_the_channel_is_private(lab: Lab) -> None:
    """What is written to the descriptor named in GYM_CODE_CHANNEL comes back apart from the console."""
    result = lab.open().exec(
        'echo console; echo "secret $GYM_CODE_CHANNEL" >&$GYM_CODE_CHANNEL', channel=True
    )
    expect(result.stdout, b"console\n", "stdout")
    expect_true(result.channel.startswith(b"secret "), f"channel {result.channel!r}")


@check("processes")
def law_5_no_channel_unless_asked(lab: Lab) -> None:
    """Without `channel` a command has three descriptors and no variable."""
    result = lab.open().exec("echo ${GYM_CODE_CHANNEL-none}; ls /proc/self/fd")
    expect(output(result), "none\n0\n1\n2\n3", "descriptors of `ls`, which itself opens the last")


@check("processes")
def law_5_the_channel_is_bounded(lab: Lab) -> None:
    """At most 16 MiB come back, and the command ends by itself."""
    result = lab.open().exec("head -c 20000000 /dev/zero >&$GYM_CODE_CHANNEL", channel=True)
    expect((result.exit_code, len(result.channel)), (0, 16 << 20), "exit code and bytes")


@check("processes")
def snapshots_end_processes_only(lab: Lab) -> None:
    """A snapshot after real work holds exactly the files; new commands see them, old directories stay
    usable."""
    box = lab.open()
    box.exec("mkdir d; echo 1 > d/f; ln -s f d/l; chmod 600 d/f")
    name = box.snapshot()
    box.exec("rm -r d; mkdir d; echo 2 > d/g")
    expect(output(box.exec("ls d")), "g", "after the change")
    box.restore(name)
    expect(output(box.exec("ls d; cat d/l; stat -c %a d/f")), "f\nl\n1\n600", "after restore")


@check("processes")
def a_replaced_directory_hides_the_old_one(lab: Lab) -> None:
    """Deleting a directory of the start tree and making it anew leaves none of its old files, anywhere."""
    box = lab.open()
    box.exec("rm -r pkg; mkdir pkg; echo n > pkg/new")
    (fork,) = lab.fork(box, 1)
    expect((box.list("pkg"), fork.list("pkg")), (("new",), ("new",)), "list")
    expect(box.diff().count(b"deleted file"), 2, "deletions in the patch")
