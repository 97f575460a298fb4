"""Files, patches, digests, snapshots and forks: what every backend can do, the in-memory double too."""

from __future__ import annotations

import os

from gym_code.errors import SandboxClosed
from gym_code.gitrepo import base_commit
from gym_code.patch import apply_patch, with_changes
from gym_code.sandbox.checks import START, Lab, check, expect, expect_raises, expect_true
from gym_code.types import File


@check()
def law_1_base_commit_is_a_function_of_the_tree(lab: Lab) -> None:
    """Every box names the same base commit: the one computed from the bytes alone."""
    expect({lab.open().base_commit, lab.open().base_commit}, {base_commit(START)}, "base_commit")


@check()
def law_1_starts_are_identical(lab: Lab) -> None:
    """Two boxes of one tree begin with the same files and digest."""
    one, two = lab.open(), lab.open()
    for path, file in START.items():
        if file.link is None:
            expect(one.read(path), file.content, path)
            expect(two.read(path), file.content, path)
    expect(one.digest(), two.digest(), "digest")


@check()
def prepare_names_the_base_commit(lab: Lab) -> None:
    """`prepare` returns what the box will name."""
    expect(lab.backend.prepare(lab.spec()), base_commit(START), "prepare")


@check()
def read_returns_bytes(lab: Lab) -> None:
    """Content comes back byte for byte."""
    expect(lab.open().read("pkg/data.bin"), bytes(range(256)), "content")


@check()
def read_takes_absolute_paths(lab: Lab) -> None:
    """An absolute path and one relative to the workdir name the same file."""
    expect(lab.open().read("/testbed/README"), b"start\n", "content")


@check()
def read_can_be_bounded(lab: Lab) -> None:
    """`max_bytes` gives the beginning of the file."""
    expect(lab.open().read("pkg/data.bin", max_bytes=3), b"\0\1\2", "content")


@check()
def read_follows_links(lab: Lab) -> None:
    """A link inside the box is followed."""
    expect(lab.open().read("link"), b"VALUE = 1\n", "content")


@check()
def read_names_what_is_missing(lab: Lab) -> None:
    """A missing file raises FileNotFoundError."""
    box = lab.open()
    expect_raises(FileNotFoundError, lambda: box.read("none"), "read")


@check()
def read_refuses_directories(lab: Lab) -> None:
    """A directory raises IsADirectoryError."""
    box = lab.open()
    expect_raises(IsADirectoryError, lambda: box.read("pkg"), "read")


@check()
def write_creates_parents(lab: Lab) -> None:
    """Missing directories are made."""
    box = lab.open()
    box.write("a/b/c.txt", b"deep")
    expect(box.read("a/b/c.txt"), b"deep", "content")
    expect(box.list("a"), ("b/",), "list")


@check()
def write_replaces_whole_files(lab: Lab) -> None:
    """A shorter content leaves nothing of the longer one."""
    box = lab.open()
    box.write("README", b"x")
    expect(box.read("README"), b"x", "content")


@check()
def write_takes_any_bytes(lab: Lab) -> None:
    """Empty, invalid UTF-8 and NUL bytes survive."""
    box = lab.open()
    for content in (b"", b"\xff\xfe\0", b"\r\n"):
        box.write("any", content)
        expect(box.read("any"), content, "content")


@check()
def write_keeps_the_mode(lab: Lab) -> None:
    """A replaced executable stays executable; the patch shows only the content."""
    box = lab.open()
    box.write("run.sh", b"#!/bin/sh\necho other\n")
    expect_true(b"mode" not in box.diff(), "the patch changes a mode")


@check()
def write_sets_the_mode_when_told(lab: Lab) -> None:
    """`executable` is a change like any other."""
    box = lab.open()
    box.write("README", b"start\n", executable=True)
    box.write("run.sh", START["run.sh"].content, executable=False)
    patch = box.diff()
    expect((patch.count(b"new mode 100755"), patch.count(b"new mode 100644")), (1, 1), "modes in the patch")


@check()
def write_follows_links(lab: Lab) -> None:
    """Writing through a link changes its target and keeps the link."""
    box = lab.open()
    box.write("link", b"VALUE = 2\n")
    expect(box.read("pkg/mod.py"), b"VALUE = 2\n", "target")
    expect_true(b"a/link" not in box.diff(), "the link was replaced")


@check()
def write_refuses_directories(lab: Lab) -> None:
    """Writing to a directory raises IsADirectoryError."""
    box = lab.open()
    expect_raises(IsADirectoryError, lambda: box.write("pkg", b""), "write")


@check()
def write_refuses_a_file_as_parent(lab: Lab) -> None:
    """A path below a file raises NotADirectoryError, and nothing changes."""
    box = lab.open()
    expect_raises(NotADirectoryError, lambda: box.write("README/x", b""), "write")
    expect(box.diff(), b"", "diff")


@check()
def list_is_sorted_and_marks_directories(lab: Lab) -> None:
    """Names in order, directories with a slash, `.git` among them."""
    names = (".git/", ".gitignore", "README", "link", "pkg/", "run.sh", "tracked.log")
    expect(lab.open().list(), names, "list")


@check()
def list_names_what_is_missing(lab: Lab) -> None:
    """A missing directory raises FileNotFoundError."""
    box = lab.open()
    expect_raises(FileNotFoundError, lambda: box.list("none"), "list")


@check()
def odd_names_survive(lab: Lab) -> None:
    """Spaces, quotes, newlines, Unicode and invalid UTF-8 in names, through list and patch."""
    box = lab.open({})
    names = ["a b", 'q"uote', "new\nline", "ü\u4e2d\U0001f40d", os.fsdecode(b"\xff\xfe"), "-dash", "tab\t"]
    for name in names:
        box.write(name, b"x\n")
    expect(set(box.list()) - {".git/"}, set(names), "list")
    expect(set(apply_patch({}, box.diff())), set(names), "names in the patch")


@check()
def diff_is_empty_at_first(lab: Lab) -> None:
    """Nothing changed, no patch."""
    expect(lab.open().diff(), b"", "diff")


@check()
def diff_applies_to_the_start(lab: Lab) -> None:
    """The patch carries every kind of change and makes the same tree from a clean start."""
    box = lab.open()
    box.write("pkg/mod.py", b"VALUE = 2\n")
    box.write("pkg/data.bin", b"\0\1other")
    box.write("new/file.txt", b"no newline at the end")
    box.write("new/tool", b"#!/bin/sh\n", executable=True)
    box.exec(["rm", "README"])
    after = with_changes(START, apply_patch(START, box.diff()))
    wanted = {name: file for name, file in START.items() if name != "README"} | {
        "pkg/mod.py": File(content=b"VALUE = 2\n"),
        "pkg/data.bin": File(content=b"\0\1other"),
        "new/file.txt": File(content=b"no newline at the end"),
        "new/tool": File(content=b"#!/bin/sh\n", executable=True),
    }
    expect(after, dict(sorted(wanted.items())), "tree after the patch")


@check()
def diff_leaves_ignored_files_out(lab: Lab) -> None:
    """New ignored files are not in the patch, tracked ones are, whatever the rules say."""
    box = lab.open()
    for name in ("debug.log", "build/out", "keep.log", "__pycache__/m.pyc", "tracked.log"):
        box.write(name, b"text\n")
    expect(set(apply_patch(START, box.diff())), {"keep.log", "tracked.log"}, "paths in the patch")


@check()
def diff_obeys_the_rules_of_the_start_tree_only(lab: Lab) -> None:
    """A changed .gitignore is a change, and decides nothing."""
    box = lab.open()
    box.write(".gitignore", b"*\n")
    box.write("new.txt", b"new\n")
    expect(set(apply_patch(START, box.diff())), {".gitignore", "new.txt"}, "paths in the patch")


@check()
def diff_never_holds_git_directories(lab: Lab) -> None:
    """Neither the repository's own `.git` nor a nested one is exported; files beside a nested one are."""
    box = lab.open()
    box.write("sub/.git/config", b"[core]\n")
    box.write("sub/file", b"x\n")
    box.write(".git/info/exclude", b"file\n")
    expect(set(apply_patch(START, box.diff())), {"sub/file"}, "paths in the patch")


@check()
def law_7_attributes_do_not_steer_the_patch(lab: Lab) -> None:
    """A tree's .gitattributes (filters, drivers, line ends, binary marks) changes no byte of other
    files' patches."""
    box, plain = lab.open(), lab.open()
    rules = b"* filter=evil diff=evil text eol=crlf -diff ident merge=evil export-ignore\n"
    box.write(".gitattributes", rules)
    box.write(".git/info/attributes", rules)
    for each in (box, plain):
        each.write("README", b"a\r\nb\n$Id$\n")
    expect_true(plain.diff() in box.diff(), "the same change gives another patch")


@check()
def a_rewritten_file_is_no_change(lab: Lab) -> None:
    """The same content again: the digest and the patch of an untouched box."""
    box, untouched = lab.open(), lab.open()
    box.write("README", b"other\n")
    box.write("README", b"start\n")
    expect((box.digest(), box.diff()), (untouched.digest(), b""), "digest and patch")


@check()
def digest_sees_content_mode_and_deletion(lab: Lab) -> None:
    """Five states, five digests."""
    boxes = [lab.open() for _ in range(5)]
    boxes[1].write("README", b"other\n")
    boxes[2].write("README", b"start\n", executable=True)
    boxes[3].exec(["rm", "README"])
    boxes[4].write("new", b"")
    expect(len({box.digest() for box in boxes}), 5, "different digests")


@check()
def equal_states_have_equal_digests(lab: Lab) -> None:
    """However a state came about."""
    one, two = lab.open(), lab.open()
    one.write("x", b"1")
    one.write("y", b"2")
    two.write("y", b"0")
    two.snapshot()
    two.write("y", b"2")
    two.write("x", b"1")
    two.write("z", b"gone soon")
    two.exec(["rm", "z"])
    expect(one.digest(), two.digest(), "digest")


@check()
def restore_goes_back(lab: Lab) -> None:
    """Changes, additions and deletions after a snapshot are undone; earlier ones stay."""
    box = lab.open()
    box.write("README", b"first\n")
    name = box.snapshot()
    before = box.digest()
    box.write("README", b"second\n")
    box.write("new", b"x")
    box.exec(["rm", "pkg/mod.py"])
    box.restore(name)
    expect((box.read("README"), box.digest()), (b"first\n", before), "state")
    expect(box.read("pkg/mod.py"), b"VALUE = 1\n", "deleted file")


@check()
def snapshots_can_be_restored_in_any_order(lab: Lab) -> None:
    """And more than once."""
    box = lab.open()
    names = []
    for value in (b"1", b"2", b"3"):
        box.write("v", value)
        names.append(box.snapshot())
    for index in (2, 0, 1, 0):
        box.restore(names[index])
        expect(box.read("v"), b"%d" % (index + 1), "value")


@check()
def restore_knows_its_snapshots(lab: Lab) -> None:
    """An unknown name raises KeyError."""
    box = lab.open()
    expect_raises(KeyError, lambda: box.restore("none"), "restore")


@check()
def many_snapshots_stay_cheap(lab: Lab) -> None:
    """Eighty snapshots deep, the state is whole (layers are flattened on the way)."""
    box = lab.open()
    box.exec(["rm", "README"])
    for number in range(80):
        box.write(f"n/{number}", b"%d" % number)
        box.snapshot()
    expect(len(box.list("n")), 80, "files")
    expect_raises(FileNotFoundError, lambda: box.read("README"), "the file deleted first")
    expect(len(apply_patch(START, box.diff())), 81, "paths in the patch")


@check()
def law_1_forks_begin_from_the_same_state(lab: Lab) -> None:
    """Forks see the parent's changes and have its digest; the parent lives on."""
    box = lab.open()
    box.write("README", b"forked\n")
    box.exec(["rm", "run.sh"])
    forks = lab.fork(box, 3)
    expect({fork.digest() for fork in forks}, {box.digest()}, "digests")
    expect([fork.read("README") for fork in forks], [b"forked\n"] * 3, "content")
    expect({fork.diff() for fork in forks}, {box.diff()}, "patches")


@check()
def forks_are_independent(lab: Lab) -> None:
    """No write of one is seen by another, or by the parent."""
    box = lab.open()
    box.write("v", b"0")
    one, two = lab.fork(box, 2)
    one.write("v", b"1")
    box.write("v", b"2")
    expect((box.read("v"), one.read("v"), two.read("v")), (b"2", b"1", b"0"), "values")


@check()
def a_fork_outlives_its_parent(lab: Lab) -> None:
    """Closing the parent leaves its forks whole."""
    box = lab.open()
    box.write("v", b"0")
    (fork,) = lab.fork(box, 1)
    box.close()
    expect(fork.read("v"), b"0", "value")
    fork.write("v", b"1")
    expect_true(b"+1" in fork.diff(), "the fork's patch lacks its change")


@check()
def boxes_are_independent(lab: Lab) -> None:
    """Two boxes of one tree share nothing that can be written."""
    one, two = lab.open(), lab.open()
    one.write("README", b"mine\n")
    one.write("/tmp/x", b"mine\n")
    expect(two.read("README"), b"start\n", "the other's file")
    expect_raises(FileNotFoundError, lambda: two.read("/tmp/x"), "the other's /tmp")


@check()
def closing_is_final_and_idempotent(lab: Lab) -> None:
    """A second close does nothing; everything else raises SandboxClosed."""
    box = lab.open()
    box.close()
    box.close()
    for call in (lambda: box.exec("true"), lambda: box.read("README"), box.digest, box.diff, box.snapshot):
        expect_raises(SandboxClosed, call, "use after close")


@check()
def exec_runs_words_and_shell_text(lab: Lab) -> None:
    """A sequence is run as it stands, a string by a shell."""
    box = lab.open()
    expect(box.exec(["echo", "a  b", "$HOME"]).stdout, b"a  b $HOME\n", "words")
    expect(box.exec("echo one && echo two").stdout, b"one\ntwo\n", "shell")


@check()
def exec_reports_the_exit_code(lab: Lab) -> None:
    """A failing command is a result, not an exception."""
    box = lab.open()
    expect([box.exec(text).exit_code for text in ("true", "false", "exit 7")], [0, 1, 7], "exit codes")


@check()
def exec_starts_in_the_workdir(lab: Lab) -> None:
    """Or where `cwd` says, relative to it."""
    box = lab.open()
    expect(box.exec(["pwd"]).stdout, b"/testbed\n", "default")
    expect(box.exec(["pwd"], cwd="pkg").stdout, b"/testbed/pkg\n", "relative")
    expect(box.exec(["pwd"], cwd="/tmp").stdout, b"/tmp\n", "absolute")


@check()
def exec_reports_an_unknown_command(lab: Lab) -> None:
    """Exit code 127, as in a shell."""
    expect(lab.open().exec(["no-such-command"]).exit_code, 127, "exit code")


@check()
def exec_changes_files(lab: Lab) -> None:
    """What a command writes is read, and exported."""
    box = lab.open()
    box.exec("echo new > made.txt")
    expect(box.read("made.txt"), b"new\n", "content")
    expect_true(b"made.txt" in box.diff(), "the patch lacks it")


@check()
def exec_feeds_stdin(lab: Lab) -> None:
    """stdin comes byte for byte, and ends."""
    data = bytes(range(256)) * 8
    expect(lab.open().exec(["cat"], stdin=data).stdout, data, "stdout")


@check()
def exec_bounds_output(lab: Lab) -> None:
    """Head and tail are kept, together within the limit, and the middle is counted."""
    data = b"head" + b"." * 100_000 + b"tail"
    result = lab.open().exec(["cat"], stdin=data, output_bytes=1000)
    expect_true(len(result.stdout) <= 1000, "more than output_bytes")
    expect_true(result.stdout.startswith(b"head") and result.stdout.endswith(b"tail"), "head or tail missing")
    expect_true(len(data) - 1000 <= result.truncated_bytes < len(data), "truncated_bytes is wrong")
