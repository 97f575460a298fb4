"""What this machine can do for the sandbox, what is missing, and the command that mends it."""

from __future__ import annotations

import platform
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from gym_code.errors import SandboxError
from gym_code.sandbox import bwrap, seccomp
from gym_code.sandbox.base import BoxSpec
from gym_code.sandbox.cgroups import find_groups
from gym_code.sandbox.dockerd import connect, translated
from gym_code.sandbox.layout import default_home, open_home
from gym_code.sandbox.link import KeeperLink
from gym_code.types import Environment, StartTree, tree_digest

LEAST_FREE_BYTES = 2 << 30
_OLDEST_GIT = (2, 25)
_NEWEST_PYTHON = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing looked at. `required`: without it the backend `namespace` does not run."""

    name: str
    ok: bool
    detail: str
    mend: str = ""
    """The exact command (or the one sentence) that mends it; empty when there is nothing to mend."""
    required: bool = True


def diagnose() -> list[Finding]:
    """Look at everything, in the order in which things build on each other."""
    if sys.platform != "linux":
        return [_wrong_system()]
    findings = [
        _kernel(),
        _bubblewrap(),
        *_namespaces(),
        _git(),
        _home(),
        _pythons(),
        _groups(),
        _seccomp(),
        _docker(),
    ]
    broken = any(finding.required and not finding.ok for finding in findings)
    tests: list[Callable[[], Finding]] = [] if broken else [_overlay, _box]
    return findings + [test() for test in tests]


def _wrong_system() -> Finding:
    words = {
        "darwin": "run gym-code in a Linux virtual machine: brew install lima && limactl start && lima",
        "win32": "run gym-code inside WSL 2: wsl --install",
    }
    return Finding(
        name="operating system",
        ok=False,
        detail=f"{platform.system()}: boxes are made of Linux namespaces",
        mend=words.get(sys.platform, "use Linux"),
    )


def _kernel() -> Finding:
    release = platform.release()
    numbers = tuple(int(part) for part in release.split("-")[0].split(".")[:2] if part.isdigit())
    ok = numbers >= (5, 11)
    detail = f"Linux {release} on {platform.machine()}"
    if ok and numbers < (6, 6):
        detail += "; disk quotas need 6.6"
    return Finding(
        name="kernel", ok=ok, detail=detail, mend="" if ok else "boot a kernel >= 5.11, better >= 6.6"
    )


def _bubblewrap() -> Finding:
    try:
        program = bwrap.find_bwrap()
    except SandboxError as error:
        return Finding(name="bubblewrap", ok=False, detail=str(error), mend="apt-get install bubblewrap")
    version = _output([program, "--version"])
    return Finding(name="bubblewrap", ok=bool(version), detail=version or f"{program} does not run")


def _namespaces() -> list[Finding]:
    findings = []
    switches = {
        "kernel.unprivileged_userns_clone": ("1", "sysctl -w kernel.unprivileged_userns_clone=1"),
        "kernel.apparmor_restrict_unprivileged_userns": (
            "0",
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    }
    for name, (wanted, mend) in switches.items():
        found = _sysctl(name)
        if found is not None and found != wanted:
            findings.append(Finding(name=name, ok=False, detail=f"is {found}, must be {wanted}", mend=mend))
    most = _sysctl("user.max_user_namespaces")
    if most is not None and int(most) < 4096:
        mend = "sysctl -w user.max_user_namespaces=65536"
        findings.append(
            Finding(name="user.max_user_namespaces", ok=int(most) > 16, detail=f"is {most}", mend=mend)
        )
    findings.append(_user_namespaces())
    return findings


def _user_namespaces() -> Finding:
    name = "user namespaces"
    if shutil.which("unshare") is None:
        return Finding(name=name, ok=True, detail="not tried: there is no program `unshare` (util-linux)")
    works = subprocess.run(["unshare", "-U", "true"], capture_output=True, text=True, check=False)
    if works.returncode == 0:
        return Finding(name=name, ok=True, detail="can be made")
    mend = "in a container, start it with --privileged"
    return Finding(name=name, ok=False, detail=works.stderr.strip(), mend=mend)


def _git() -> Finding:
    text = _output(["git", "--version"])
    numbers = tuple(int(part) for part in text.removeprefix("git version ").split(".")[:2] if part.isdigit())
    ok = numbers >= _OLDEST_GIT
    return Finding(name="git", ok=ok, detail=text or "not found", mend="" if ok else "apt-get install git")


def _home() -> Finding:
    try:
        home = open_home()
    except SandboxError as error:
        return Finding(
            name="state directory",
            ok=False,
            detail=str(error),
            mend=f"export GYM_CODE_HOME=/a/writable/directory (now {default_home()})",
        )
    free = shutil.disk_usage(home.root).free
    return Finding(
        name="state directory",
        ok=free >= LEAST_FREE_BYTES,
        detail=f"{home.root}, {free / 2**30:.1f} GiB free, boxes run as uid {home.uid}",
        mend="" if free >= LEAST_FREE_BYTES else "gym-code gc",
    )


def _pythons() -> Finding:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    found = [f"3.{minor}" for minor in range(9, _NEWEST_PYTHON + 1) if shutil.which(f"python3.{minor}")]
    return Finding(
        name="interpreters",
        ok=True,
        detail=f"environments can ask for Python {', '.join(dict.fromkeys([own, *found]))}",
        required=False,
    )


def _groups() -> Finding:
    groups, where = find_groups()
    return Finding(
        name="memory control groups",
        ok=groups is not None,
        detail=where if groups else f"{where}: memory is limited by the watchdog alone",
        required=False,
    )


def _seccomp() -> Finding:
    ok = seccomp.supported()
    detail = "filter available" if ok else f"no table of system calls for {platform.machine()}"
    return Finding(name="seccomp", ok=ok, detail=detail, required=False)


def _docker() -> Finding:
    try:
        client = connect()
        with translated("look at the Docker daemon"):
            about = client.version()
    except SandboxError as error:
        return Finding(name="docker daemon", ok=False, detail=str(error), required=False)
    detail = f"{about['Version']} on Linux {about['KernelVersion']} ({about['Arch']}): --sandbox docker works"
    return Finding(name="docker daemon", ok=True, detail=detail, required=False)


def _overlay() -> Finding:
    try:
        KeeperLink(open_home()).close()
    except SandboxError as error:
        return Finding(
            name="overlay in a user namespace", ok=False, detail=str(error), mend="boot a kernel >= 5.11"
        )
    return Finding(name="overlay in a user namespace", ok=True, detail="mounted one over a tmpfs")


def _box() -> Finding:
    from gym_code.sandbox.namespace import NamespaceBackend

    start = StartTree(digest=tree_digest({}), files=dict)
    try:
        with (
            NamespaceBackend(spare=0) as backend,
            backend.open(BoxSpec(start=start, environment=Environment())) as box,
        ):
            result = box.exec(["python3", "-c", "print(6 * 7)"])
    except SandboxError as error:
        return Finding(name="a box", ok=False, detail=str(error), mend="the lines above say what is missing")
    ok = result.ok and result.stdout == b"42\n"
    detail = (
        f"ran Python in one in {result.seconds * 1000:.0f} ms"
        if ok
        else result.stderr.decode("utf-8", "replace")
    )
    return replace(Finding(name="a box", ok=ok, detail=detail))


def _sysctl(name: str) -> str | None:
    try:
        return Path("/proc/sys", *name.split(".")).read_text().strip()
    except OSError:
        return None


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
