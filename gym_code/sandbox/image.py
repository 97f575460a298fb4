"""The root file system of a box, from its task's `Environment`: an interpreter and packages of its own.

`envs/<digest>` is a self-contained copy of a CPython of the asked version with the packages in it, mounted
read-only at /opt/env. The copy has no test suite, no site-packages of the host and no path of the host in
its libraries; byte code is compiled with unchecked hashes, so it is the same wherever it is built.
Interpreters are copied once (`bases/`) and shared by environments through hard links. An environment that
is an image is unpacked instead (`unpack.py`). Builds happen in a temporary directory under a lock, and a
rename ends them.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from gym_code.errors import EnvironmentBuildError
from gym_code.sandbox.layout import Home
from gym_code.sandbox.lease import owner_tag
from gym_code.types import Environment

RECIPE = "1"
"""Part of every base's name: raise it when what is built changes."""
RECEIPT = "gym-code.json"
"""In every environment's directory: what it was made from."""
PLACE = "/opt/env"
"""Where a box sees its environment."""
_LEFT_OUT = {
    "test", "tests", "idlelib", "lib2to3", "tkinter", "turtledemo", "turtle.py", "site-packages",
    "dist-packages", "__pycache__", "config", "LICENSE.txt",
}  # fmt: skip


def environment_directory(home: Home, environment: Environment) -> Path:
    """The directory of an environment, built if it is not there yet. Raises `EnvironmentBuildError`."""
    if environment.image is not None:
        from gym_code.sandbox.unpack import image_directory

        return image_directory(home, environment)
    final = home.envs / f"{RECIPE}-{environment.digest[:32]}"
    if final.is_dir():
        os.utime(final)
        return final
    base = interpreter(home, environment.python)
    with locked(final):
        if not final.is_dir():
            with building(final) as part:
                hard_link_tree(base, part)
                if environment.packages:
                    install(part, environment)
                write_receipt(part, environment)
    return final


def write_receipt(part: Path, environment: Environment) -> None:
    """Note what the environment was made from, for `gc` and for people."""
    receipt = {
        "python": environment.python,
        "packages": list(environment.packages),
        "digest": environment.digest,
    }
    (part / RECEIPT).write_text(json.dumps(receipt, indent=1) + "\n")


def environment_variables(path: Path) -> Mapping[str, str]:
    """What an environment that is an image sets for every command; nothing for any other."""
    found: dict[str, str] = json.loads((path / RECEIPT).read_text()).get("env", {})
    return found


def interpreter(home: Home, version: str) -> Path:
    """A bare copy of the interpreter of a version like `3.11`. Raises `EnvironmentBuildError` where
    there is none."""
    source, found = find_interpreter(version)
    final = home.bases / f"{RECIPE}-{found}"
    if final.is_dir():
        return final
    with locked(final):
        if not final.is_dir():
            with building(final) as part:
                copy_interpreter(source, version, part, home.uid)
    return final


def find_interpreter(version: str) -> tuple[Path, str]:
    """The prefix of a CPython of this minor version, and its full version with a tag for its place."""
    if version == f"{sys.version_info.major}.{sys.version_info.minor}":
        return Path(sys.base_prefix), _name(sys.version.split()[0], Path(sys.base_prefix))
    program = shutil.which(f"python{version}")
    if program is None:
        raise EnvironmentBuildError(
            f"no python{version} on PATH; install it (for example: apt install python{version})"
        )
    ask = [program, "-I", "-c", "import sys; print(sys.base_prefix); print(sys.version.split()[0])"]
    answer = subprocess.run(ask, capture_output=True, text=True, timeout=60, check=False)
    lines = answer.stdout.split("\n")
    if answer.returncode != 0 or not lines[1].startswith(version):
        raise EnvironmentBuildError(
            f"{program} does not answer as Python {version}: {answer.stdout}{answer.stderr}"
        )
    return Path(lines[0]), _name(lines[1], Path(lines[0]))


def _name(version: str, prefix: Path) -> str:
    return f"{version}-{str(prefix).strip('/').replace('/', '_')}"


def copy_interpreter(prefix: Path, version: str, target: Path, uid: int) -> None:
    """Copy program, shared library and standard library of one CPython below `target`."""
    lib = target / "lib" / f"python{version}"
    program = prefix / "bin" / f"python{version}"

    def leave_out(_: str, names: list[str]) -> set[str]:
        return {
            name for name in names if name in _LEFT_OUT or name.startswith(("config-", "_sysconfigdata"))
        } - {name for name in names if name.startswith("_sysconfigdata") and name.endswith(".py")}

    try:
        (target / "bin").mkdir(parents=True)
        shutil.copytree(prefix / "lib" / f"python{version}", lib, ignore=leave_out)
        shutil.copy2(program, target / "bin" / f"python{version}")
        for library in (prefix / "lib").glob(f"libpython{version}*.so*"):
            shutil.copy2(library, target / "lib" / library.name, follow_symlinks=False)
    except (OSError, shutil.Error) as error:
        raise EnvironmentBuildError(f"cannot copy the interpreter from {prefix}: {error}") from error
    for name in ("python", "python3"):
        (target / "bin" / name).symlink_to(f"python{version}")
    (lib / "site-packages").mkdir()
    # Debian's site module looks here instead.
    (target / "lib" / "python3").mkdir()
    (target / "lib" / "python3" / "dist-packages").symlink_to(f"../python{version}/site-packages")
    relocate(target / "bin" / f"python{version}", str(prefix / "lib"))
    # Process 1 of a box runs from a file that it cannot read: the kernel then closes its memory to
    # its equals.
    shutil.copy2(target / "bin" / f"python{version}", target / "bin" / "supervisor")
    compile_all(target, lib)
    # It belongs to the boxes' uid: else the kernel would keep the keeper, too, from entering a box.
    if uid != os.getuid():
        os.chown(target / "bin" / "supervisor", uid, uid)
    (target / "bin" / "supervisor").chmod(0o111)


def relocate(program: Path, old: str) -> None:
    """Let the program find its shared library beside itself: rewrite its run path in place where it is
    the host's."""
    data = program.read_bytes()
    before, after = old.encode() + b"\0", b"$ORIGIN/../lib\0"
    if len(before) >= len(after) and data.count(b"\0" + before) == 1:
        program.write_bytes(data.replace(b"\0" + before, b"\0" + after.ljust(len(before), b"\0")))


def compile_all(target: Path, where: Path) -> None:
    """Byte code with unchecked hashes and the box's paths: independent of times and of the place it was
    built."""
    program = next((target / "bin").glob("python3.*"))
    command = [str(program), "-I", "-S", "-m", "compileall", "-q", "--invalidation-mode", "unchecked-hash"]
    command += ["-s", str(target), "-p", PLACE, "-x", r"/(bad|lib2to3|templates?)/", str(where)]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, env=clean_environment()
    )
    if "SyntaxError" not in result.stdout and result.returncode != 0:
        raise EnvironmentBuildError(f"cannot compile {where}: {result.stdout[-2000:]}{result.stderr[-2000:]}")


def clean_environment() -> dict[str, str]:
    """The caller's environment without what steers an interpreter (pip's own settings stay: they name
    its index)."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("PYTHON", "VIRTUAL_ENV", "__PY"))
    }


def install(part: Path, environment: Environment) -> None:
    """Install the packages with pip, run by the environment's own interpreter. Raises with pip's words."""
    for package in environment.packages:
        if package.startswith("-") or any(mark in package for mark in "\n\r"):
            raise EnvironmentBuildError(f"not a package requirement: {package!r}")
    program = next((part / "bin").glob("python3.*"))
    site = part / "lib" / program.name / "site-packages"
    pip = [*find_pip(), "--python", str(program), "install"]
    pip += [
        "--no-compile",
        "--no-input",
        "--quiet",
        "--no-warn-script-location",
        "--disable-pip-version-check",
    ]
    pip += ["--prefix", str(part), "--ignore-installed", *environment.packages]
    result = subprocess.run(
        pip, capture_output=True, text=True, timeout=1800, check=False, env=clean_environment()
    )
    if result.returncode != 0:
        wanted = ", ".join(environment.packages)
        raise EnvironmentBuildError(
            f"pip cannot install {wanted}: {(result.stderr or result.stdout)[-4000:].strip()}"
        )
    settle_debian(part, program.name, site)
    for script in (part / "bin").iterdir():
        rewrite_shebang(script, part)
    compile_all(part, site)


def find_pip() -> list[str]:
    """A pip to install with: ours, or the one that comes with the standard library."""
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip"]
    library = Path(sys.base_prefix, "lib", f"python{sys.version_info.major}.{sys.version_info.minor}")
    wheels = [
        *library.glob("ensurepip/_bundled/pip-*.whl"),
        *Path("/usr/share/python-wheels").glob("pip-*.whl"),
    ]
    if not wheels:
        raise EnvironmentBuildError(f"no pip for {sys.executable}; run: {sys.executable} -m ensurepip")
    return [sys.executable, str(wheels[0] / "pip")]


def settle_debian(part: Path, name: str, site: Path) -> None:
    """Debian's pip installs below local/: move it where the interpreter looks."""
    odd = part / "local"
    if odd.is_dir():
        for package in (odd / "lib" / name / "dist-packages").iterdir():
            shutil.move(str(package), str(site / package.name))
        if (odd / "bin").is_dir():
            for script in (odd / "bin").iterdir():
                shutil.move(str(script), str(part / "bin" / script.name))
        shutil.rmtree(odd)


def rewrite_shebang(script: Path, part: Path) -> None:
    """Console scripts name the interpreter by its place in the box."""
    if script.is_symlink() or script.name.startswith(("python3", "supervisor")):
        return
    data = script.read_bytes()
    if data.startswith(b"#!") and str(part).encode() in data.split(b"\n", 1)[0]:
        script.write_bytes(b"#!/opt/env/bin/python\n" + data.split(b"\n", 1)[1])


def hard_link_tree(source: Path, target: Path) -> None:
    """A second name for every file below `source`."""
    shutil.copytree(source, target, copy_function=os.link, symlinks=True, dirs_exist_ok=True)


@contextlib.contextmanager
def locked(final: Path) -> Iterator[None]:
    """One builder at a time for one directory, over all processes."""
    with open(final.with_name(f".{final.name}.lock"), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def building(final: Path) -> Iterator[Path]:
    """A temporary directory that takes the final name when all went well and disappears otherwise."""
    part = final.with_name(f".part-{owner_tag()}-{final.name}")
    try:
        part.mkdir()
        yield part
        part.chmod(0o755)
        part.rename(final)
    finally:
        shutil.rmtree(part, ignore_errors=True)
