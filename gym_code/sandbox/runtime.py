"""The guest runtime: a Python of its own that runs our supervisor in a box, whatever its image holds.

    lib/ld.so                 the dynamic loader: programs start through it, so no file of the image is used
    lib/*.so*                 the shared libraries of the interpreter and of its modules
    lib/pythonX.Y/            the part of the standard library that supervisor and keeper need
    lib/gym_code/             the keeper and the supervisor with what they import
    bin/python3  guest.pyc    the interpreter; the supervisor, compiled

`command()` says how it is started. Standard library only, Python 3.9 or later, and no import of gym_code:
while an image is built this file runs as a script (`runtime.py TARGET SOURCES`) inside the base image.
"""

from __future__ import annotations

import ast
import hashlib
import os
import py_compile
import shutil
import stat
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

PLACE = "/gym-code"
"""Where a box sees the runtime."""
ROOTS = ("gym_code.sandbox.guest", "gym_code.sandbox.container_keeper")
"""What is run from it; what these import of gym_code and of the standard library comes along."""
EXTRAS = (
    "_posixsubprocess", "_signal", "array", "base64", "codecs", "ctypes", "encodings.ascii",
    "encodings.idna", "encodings.latin_1", "encodings.utf_8", "hashlib", "io", "linecache", "locale",
    "select", "shutil", "site", "socket", "subprocess", "tempfile", "threading", "traceback", "warnings",
)  # fmt: skip
"""Modules that the standard library imports late, or that somebody who mends a box wants."""
_ALIASES = {"os.path", "_frozen_importlib", "_frozen_importlib_external"}
"""Second names of modules."""


class RuntimeProblem(Exception):
    """The runtime cannot be collected here; says why."""


def command(place: str, *words: str) -> list[str]:
    """The command line that runs Python with `words` from a runtime at `place`."""
    loader = [f"{place}/lib/ld.so", "--library-path", f"{place}/lib"]
    return [*loader, f"{place}/bin/python3", "-I", "-S", "-B", *words]


def guest_command(place: str = PLACE) -> list[str]:
    """The command line of the supervisor; its arguments follow."""
    return command(place, f"{place}/guest.pyc")


def sources(root: Path) -> tuple[str, ...]:
    """The files of gym_code that belong to a runtime, relative to `root`, the directory that holds it."""
    found: dict[str, None] = {}
    waiting = list(ROOTS)
    while waiting:
        name = waiting.pop()
        path = name.replace(".", "/") + ".py"
        if path in found or not (root / path).is_file():
            continue  # `from package import name`: the name is no module of its own
        found[path] = None
        for node in ast.walk(ast.parse((root / path).read_bytes())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gym_code"):
                module = str(node.module)
                waiting += [module, *(f"{module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names if alias.name.startswith("gym_code.")]
    return tuple(sorted(found))


def identity(root: Path) -> str:
    """A digest (24 hex digits) of what a runtime is made from, besides the interpreter."""
    sha = hashlib.sha256(Path(__file__).read_bytes())
    for name in sources(root):
        data = (root / name).read_bytes()
        sha.update(f"{name} {len(data)} ".encode() + data)
    return sha.hexdigest()[:24]


def interpreter_identity() -> str:
    """Names the running interpreter: two with one name give the same runtime."""
    text = f"{sys.version}\n{sys.base_prefix}\n{sysconfig.get_platform()}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def collect(target: Path, root: Path) -> None:
    """Write a runtime of the running interpreter into the empty directory `target`.

    root: the directory that holds gym_code. Raises `RuntimeProblem`, OSError.
    """
    program = Path(sys._base_executable if hasattr(sys, "_base_executable") else sys.executable).resolve()
    loader = _loader(program)
    if loader is None:
        raise RuntimeProblem(f"{program} is not linked dynamically: its runtime cannot be collected")
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    library = target / "lib" / version
    (library / "lib-dynload").mkdir(parents=True)
    (target / "bin").mkdir()
    shutil.copyfile(program, target / "bin" / "python3")
    shutil.copyfile(loader, target / "lib" / "ld.so")
    extensions = _copy_library(program, root, library)
    for shared in _needed(loader, [program, *extensions]):
        if not (target / "lib" / shared.name).exists():
            shutil.copyfile(shared, target / "lib" / shared.name)
    for name in sources(root):
        (target / "lib" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(root / name, target / "lib" / name)
    for package in ("gym_code", "gym_code/sandbox"):
        # Bare: the real ones import what only the host needs.
        (target / "lib" / package / "__init__.py").write_bytes(b"")
    _compile_all(target, target / "lib" / "gym_code" / "sandbox" / "guest.py")
    _settle(target)


def _loader(program: Path) -> Path | None:
    """The dynamic loader that a program names (PT_INTERP), or None."""
    data = program.read_bytes()
    if data[:6] != b"\x7fELF\x02\x01":
        raise RuntimeProblem(f"{program} is no 64-bit little-endian program")
    (start,) = struct.unpack_from("<Q", data, 32)
    size, count = struct.unpack_from("<HH", data, 54)
    for at in range(start, start + size * count, size):
        kind, _, offset, _, _, length = struct.unpack_from("<IIQQQQ", data, at)
        if kind == 3:
            return Path(os.fsdecode(data[offset : offset + length].rstrip(b"\0")))
    return None


def _needed(loader: Path, files: list[Path]) -> list[Path]:
    """The shared libraries that programs and modules load, found by the loader itself."""
    found: dict[str, Path] = {}
    for file in files:
        answer = subprocess.run(
            [str(loader), "--list", str(file)], capture_output=True, text=True, timeout=60, check=False
        )
        if answer.returncode:
            raise RuntimeProblem(f"cannot list the libraries of {file}: {answer.stderr.strip()}")
        for line in answer.stdout.splitlines():
            name, arrow, rest = line.strip().partition(" => ")
            place = rest.rpartition(" (")[0]
            if not arrow or not place.startswith("/"):
                if "not found" in rest:
                    raise RuntimeProblem(f"{file} needs {name}, which is not found")
                continue
            found.setdefault(Path(name).name, Path(place))
    # Under the name that is asked for, which is often a link.
    return [place.with_name(name) if place.name != name else place for name, place in sorted(found.items())]


def _copy_library(program: Path, root: Path, library: Path) -> list[Path]:
    """Copy the modules that are needed; the extension modules among them, where they were found."""
    extensions = []
    for name, file in _modules(program, root):
        if file.suffix == ".py":
            parts = name.split(".")
            place = library.joinpath(*parts[:-1], f"{parts[-1]}.py")
            if file.name == "__init__.py":
                place = library.joinpath(*parts, "__init__.py")
        else:
            place = library / "lib-dynload" / file.name
            extensions.append(file)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, place)
    return extensions


def _modules(program: Path, root: Path) -> list[tuple[str, Path]]:
    """Names and files of the standard modules that our sources and `EXTRAS` load in a bare interpreter."""
    wanted = set(EXTRAS)
    for source in sources(root):
        for node in ast.walk(ast.parse((root / source).read_bytes())):
            if isinstance(node, ast.Import):
                wanted |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                wanted.add(node.module)
    code = (
        "import importlib, sys\n"
        "for name in sys.argv[1:]: importlib.import_module(name)\n"
        "for name, module in sorted(sys.modules.items()):\n"
        "    file = getattr(module, '__file__', None)\n"
        "    if file and name != '__main__': print(name, file, sep='\\t')"
    )
    names = sorted(name for name in wanted if name.partition(".")[0] not in ("gym_code", "__future__"))
    command = [str(program), "-I", "-S", "-B", "-c", code, *names]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if answer.returncode:
        raise RuntimeProblem(f"{program} cannot import what a runtime needs: {answer.stderr.strip()[-1000:]}")
    rows = (line.split("\t") for line in answer.stdout.splitlines())
    found = {row[0]: Path(row[1]) for row in rows}
    for name, file in list(found.items()):
        if file.suffix == ".pyc":
            raise RuntimeProblem(f"{name} is there only as byte code")
    # Frozen modules (since 3.11) have files too: the start-up looks for os.py to find the library.
    for name in ("os", "stat", "posixpath", "genericpath", "_collections_abc", "__future__"):
        found.setdefault(name, Path(os.__file__).with_name(f"{name}.py"))
    return sorted((name, file) for name, file in found.items() if name not in _ALIASES)


def _compile_all(target: Path, guest: Path) -> None:
    """Byte code with unchecked hashes: independent of times, and never looked up in the sources again."""
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    for file in sorted(target.rglob("*.py")):
        shown = f"{PLACE}/{file.relative_to(target)}"
        py_compile.compile(str(file), dfile=shown, doraise=True, invalidation_mode=mode)
    py_compile.compile(
        str(guest), str(target / "guest.pyc"), dfile="guest.py", doraise=True, invalidation_mode=mode
    )


def _settle(target: Path) -> None:
    """The same modes and times everywhere."""
    for path in sorted(target.rglob("*"), reverse=True):
        runs = path.is_dir() or path.parent.name == "bin" or path.name == "ld.so"
        path.chmod(0o755 if runs else 0o644)
        os.utime(path, (0, 0))
    target.chmod(stat.S_IMODE(0o755))


if __name__ == "__main__":
    collect(Path(sys.argv[1]), Path(sys.argv[2]))
