"""How a box looks from inside: the command line of bubblewrap and the small `/etc`."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

from gym_code.errors import EnvironmentBuildError, InputError, SandboxUnavailable
from gym_code.sandbox import guest, runtime
from gym_code.sandbox.image import building, clean_environment, locked
from gym_code.sandbox.layout import Home

HOME, TMP = "/home/agent", "/tmp"
HOSTNAME = "gym"
AGENT_UID = 1000
PATH = "/opt/env/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"
GIT_CONFIG = (
    "[user]\n\tname = agent\n\temail = agent@localhost\n[init]\n\tdefaultBranch = main\n"
    "[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n"
)
_ETC = {
    "passwd": "root:x:0:0:root:/root:/bin/sh\nagent:x:1000:1000:agent:/home/agent:/bin/bash\n"
    "nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
    "group": "root:x:0:\nagent:x:1000:\nnogroup:x:65534:\n",
    "hostname": f"{HOSTNAME}\n",
    "hosts": f"127.0.0.1 localhost {HOSTNAME}\n::1 localhost\n",
    "nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
    "resolv.conf": "",
    "gitconfig": GIT_CONFIG,
}
_RESERVED = (
    "/usr",
    "/etc",
    "/proc",
    "/dev",
    "/opt",
    "/run",
    "/bin",
    "/sbin",
    "/lib",
    "/lib64",
    "/sys",
    "/var",
)
_INTERPRETER_NAMES = "python3*"
ROOTFS = "rootfs"
"""Below an environment's directory: the root file system, where it is an image."""
_OWN_FOLDERS = {"/proc", "/dev", "/sys", "/run", TMP, runtime.PLACE}
"""Not taken from an image."""

BASE_ENV = {
    "PATH": PATH,
    "HOME": HOME,
    "TMPDIR": TMP,
    "LANG": "C.UTF-8",
    "TZ": "UTC",
    "USER": "agent",
    "LOGNAME": "agent",
    "SHELL": "/bin/bash",
    "TERM": "dumb",
    "PAGER": "cat",
    "GIT_PAGER": "cat",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONHASHSEED": "0",
    # With fixed times an agent's commits have the same ids in every replay (law 10).
    "GIT_AUTHOR_DATE": "2000-01-02T00:00:00Z",
    "GIT_COMMITTER_DATE": "2000-01-02T00:00:00Z",
}
"""What every command finds; `PYTHONHASHSEED` and the like are part of identical starts."""


def find_bwrap() -> str:
    """The program. Raises `SandboxUnavailable` with the command that mends it."""
    path = shutil.which("bwrap", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/local/bin")
    if path is None:
        raise SandboxUnavailable("bubblewrap (bwrap) is not installed; run: apt-get install bubblewrap")
    return path


def check_workdir(workdir: str) -> str:
    """A normal absolute path where a box can have its repository. Raises `InputError`."""
    path = os.path.normpath(workdir)
    taken = path in ("/", TMP, "/home", HOME) or path.startswith((TMP + "/", "/home/"))
    taken = taken or any(path == name or path.startswith(name + "/") for name in _RESERVED)
    if not path.startswith("/") or taken:
        raise InputError(
            "workdir cannot be there", expected="a directory of its own, like /testbed", found=workdir
        )
    return path


def skeleton(home: Home, environment: Path) -> Path:
    """The directory with `etc`, the stand-in interpreter and the compiled supervisor, made once for
    each version. An environment that is an image gets the guest runtime: it need not hold a Python."""
    if (environment / ROOTFS).is_dir():
        return _image_skeleton(home)
    source = Path(guest.__file__).read_bytes()
    python = next((environment / "bin").glob("python3.*"))
    wrapper = '#!/bin/sh\nexec /opt/env/bin/python3 "$@"\n'
    identity = repr((sorted(_ETC.items()), wrapper, python.name)).encode() + source
    final = home.bases / f"skeleton-{hashlib.sha256(identity).hexdigest()[:24]}"
    if final.is_dir():
        return final
    with locked(final):
        if not final.is_dir():
            with building(final) as part:
                for folder in ("etc", "empty", "supervisor"):
                    (part / folder).mkdir(mode=0o755)
                for name, text in _ETC.items():
                    (part / "etc" / name).write_text(text)
                (part / "etc" / "alternatives").mkdir()
                (part / "python").write_text(wrapper)
                (part / "python").chmod(0o755)
                _compile_guest(python, source, part / "supervisor" / "guest.pyc")
    return final


def _image_skeleton(home: Home) -> Path:
    """The directory with the guest runtime and the files of `etc` that are a box's own."""
    root = Path(runtime.__file__).resolve().parents[2]
    etc = {name: _ETC[name] for name in ("hostname", "hosts", "resolv.conf")}
    identity = f"{runtime.identity(root)}{runtime.interpreter_identity()}{sorted(etc.items())}"
    final = home.bases / f"runtime-{hashlib.sha256(identity.encode()).hexdigest()[:24]}"
    if final.is_dir():
        return final
    with locked(final):
        if not final.is_dir():
            with building(final) as part:
                for folder in ("etc", "runtime"):
                    (part / folder).mkdir(mode=0o755)
                for name, text in etc.items():
                    (part / "etc" / name).write_text(text)
                try:
                    runtime.collect(part / "runtime", root)
                except (runtime.RuntimeProblem, OSError, subprocess.SubprocessError) as error:
                    raise EnvironmentBuildError(f"cannot collect the guest runtime: {error}") from error
    return final


def _compile_guest(python: Path, source: bytes, target: Path) -> None:
    """Byte code saves each box the 8 ms of compiling its supervisor."""
    script = target.with_suffix(".py")
    script.write_bytes(source)
    code = (
        "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], 'guest.py', doraise=True,"
        " invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)"
    )
    command = [str(python), "-I", "-S", "-c", code, str(script), str(target)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=clean_environment())
    if result.returncode != 0:
        raise EnvironmentBuildError(f"cannot compile the supervisor: {result.stderr.strip()}")
    script.unlink()


def command(bwrap: str, environment: Path, bones: Path, workdir: str) -> list[str]:
    """The whole command line; `{SECCOMP}`, `{INFO}` and `{CONTROL}` stand for descriptors the keeper
    fills in."""
    words = [bwrap, "--unshare-user", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts"]
    words += ["--unshare-cgroup-try", "--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL"]
    words += ["--uid", str(AGENT_UID), "--gid", str(AGENT_UID), "--hostname", HOSTNAME, "--clearenv"]
    words += ["--info-fd", "{INFO}", "--seccomp", "{SECCOMP}"]
    if (environment / ROOTFS).is_dir():
        return words + _image_root(environment / ROOTFS, bones, workdir)
    words += ["--ro-bind", "/usr", "/usr"]
    empty = str(bones / "empty")
    for folder in masked_folders():
        words += ["--ro-bind", empty, folder]
    for program in masked_programs():
        words += ["--ro-bind", str(bones / "python"), program]
    for name in ("bin", "sbin", "lib", "lib32", "lib64", "libx32"):
        link = Path("/") / name
        if link.is_symlink():
            words += ["--symlink", os.readlink(link), str(link)]
        elif link.is_dir():
            words += ["--ro-bind", str(link), str(link)]
    words += ["--ro-bind", str(bones / "etc"), "/etc"]
    if Path("/etc/alternatives").is_dir():
        words += ["--ro-bind", "/etc/alternatives", "/etc/alternatives"]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for folder in (workdir, TMP, HOME, "/opt", "/run", "/var"):
        words += ["--dir", folder]
    words += ["--symlink", TMP, "/var/tmp", "--ro-bind", str(environment), "/opt/env"]
    words += ["--ro-bind", str(bones / "supervisor"), "/run/gym-code"]
    words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--"]
    return [*words, "/opt/env/bin/supervisor", "-I", "-S", "-B", "/run/gym-code/guest.pyc", "{CONTROL}"]


def _image_root(rootfs: Path, bones: Path, workdir: str) -> list[str]:
    """The rest of the command line where the root file system is an image's, read-only."""
    words = _image_tree(rootfs, "/", {workdir, HOME})
    for path in sorted((bones / "etc").iterdir()):
        words += ["--ro-bind", str(path), f"/etc/{path.name}"]
    words += ["--proc", "/proc", "--dev", "/dev"]
    for folder in (workdir, TMP, HOME, "/run"):
        words += ["--dir", folder]
    words += ["--ro-bind", str(bones / "runtime"), runtime.PLACE]
    words += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/", "--"]
    return [*words, *runtime.guest_command(), "{CONTROL}"]


def _image_tree(rootfs: Path, place: str, needed: set[str]) -> list[str]:
    """Bind a directory of an image, entry by entry where mount points that it lacks must be made below it.

    needed: the mount points, absolute. A link or a file in the way of one is left out.
    """
    words = []
    for path in sorted((rootfs / place.lstrip("/")).iterdir()):
        name = f"{place.rstrip('/')}/{path.name}"
        below = {point for point in needed if point == name or point.startswith(name + "/")}
        if name in _OWN_FOLDERS or (below and (path.is_symlink() or not path.is_dir())):
            continue
        if path.is_symlink():
            words += ["--symlink", os.readlink(path), name]
        elif any(not _is_folder(rootfs, point) for point in below):
            words += ["--dir", name, *_image_tree(rootfs, name, below)]
        else:
            words += ["--ro-bind", str(path), name]
    return words


def _is_folder(rootfs: Path, place: str) -> bool:
    """Whether an image has a directory at an absolute path, reached through no link."""
    path = rootfs
    for part in place.strip("/").split("/"):
        path /= part
        if path.is_symlink() or not path.is_dir():
            return False
    return True


def masked_folders() -> list[str]:
    """Parts of the host's /usr that depend on what somebody installed by hand: a box sees them empty."""
    found = ["/usr/local"]
    found += sorted(str(path) for path in Path("/usr/lib").glob("python3*/dist-packages"))
    return [path for path in found if Path(path).is_dir()]


def masked_programs() -> list[str]:
    """The host's interpreters: `#!/usr/bin/python3` means the environment's."""
    programs = Path("/usr/bin").glob(_INTERPRETER_NAMES)
    return sorted(str(path) for path in programs if not path.is_symlink() and "config" not in path.name)
