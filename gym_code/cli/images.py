"""`gym-code images list`, `build` and `gc`."""

from __future__ import annotations

import re
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from gym_code.cli.terminal import Json, aside, people, print_json
from gym_code.errors import InputError

if TYPE_CHECKING:
    from gym_code.types import Environment

app = typer.Typer(help="Images on a Docker daemon: see, build and remove them.", no_args_is_help=True)

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List our images, with what each takes beyond the one it is built on."""
    from gym_code.sandbox.dockerd import connect
    from gym_code.sandbox.image_gc import list_images, total_bytes

    found = list_images(connect())
    if as_json:
        print_json({"bytes": total_bytes(found), "images": [asdict(info) for info in found]})
        return
    table = Table("image", "size", "last used", "in use", "made from", box=None)
    for info in found:
        hours = (time.time() - info.last_used) / 3600
        ago = f"{hours:.1f} h ago" if hours < 48 else f"{hours / 24:.0f} days ago"
        row = [info.name, size(info.bytes), ago, "yes" if info.in_use else "", info.made_from]
        table.add_row(*row)
    if found:
        people.print(table)
    people.print(f"{len(found)} images, {size(total_bytes(found))}", markup=False)


@app.command()
def build(
    suite: Annotated[str, typer.Option("--suite", help="Build every environment of a suite.")] = "",
    python: Annotated[str, typer.Option("--python", help="A Python version, like 3.11.")] = "",
    package: Annotated[list[str] | None, typer.Option("--package", help="A requirement; repeat it.")] = None,
    as_json: Json = False,
) -> None:
    """Build the images that boxes need: the guest runtime, and environments where any are named."""
    from gym_code.sandbox.dockerd import connect
    from gym_code.sandbox.images import environment_image, guest_image

    wanted = environments(suite, python, package or [])
    client = connect()

    def tell(line: str) -> None:
        aside.print(line, markup=False, soft_wrap=True)

    rows = []
    begin = time.monotonic()
    guest = guest_image(client, tell)
    rows.append({"image": guest, "id": "", "seconds": round(time.monotonic() - begin, 2)})
    for environment in wanted:
        begin = time.monotonic()
        image = environment_image(client, environment, tell)
        rows.append({"image": image.name, "id": image.id, "seconds": round(time.monotonic() - begin, 2)})
    if as_json:
        print_json(rows)
        return
    for row in rows:
        people.print(f"{row['seconds']:>8.2f} s  {row['image']}", markup=False, soft_wrap=True)


def environments(suite: str, python: str, packages: list[str]) -> list[Environment]:
    """The environments that options ask for, each once. Raises `InputError`."""
    from gym_code.task import load_suite
    from gym_code.types import Environment

    if suite and (python or packages):
        raise InputError("--suite goes without --python and --package")
    if suite:
        loaded = load_suite(suite)
        found = [loaded.task(task_id).environment for task_id in loaded.ids()]
        return list({environment.digest: environment for environment in found}.values())
    if not python and not packages:
        return []
    version = python or Environment().python
    if not re.fullmatch(r"3\.\d+", version):
        raise InputError("bad --python", expected="a version like 3.11", found=version)
    return [Environment(python=version, packages=tuple(sorted(packages)))]


@app.command()
def gc(
    cap: Annotated[str, typer.Option("--cap", help="What our images may take together, like 20G.")] = "20G",
    everything: Annotated[
        bool, typer.Option("--all", help="All that no container uses, the bases too.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go; remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Remove old guest runtimes, and what was used longest ago until the rest is under the cap."""
    from gym_code.sandbox.dockerd import connect
    from gym_code.sandbox.image_gc import SPARED_SECONDS, gc_images, list_images, total_bytes

    most = 0 if everything else parse_size(cap)
    client = connect()
    older_than = 0.0 if everything else SPARED_SECONDS
    removed = gc_images(client, cap_bytes=most, older_than=older_than, bases=everything, dry_run=dry_run)
    left = total_bytes(info for info in list_images(client) if info not in removed)
    if as_json:
        print_json({"removed": [asdict(info) for info in removed], "left_bytes": left, "dry_run": dry_run})
        return
    for info in removed:
        people.print(f"{size(info.bytes):>10}  {info.name}  {info.made_from}", markup=False, soft_wrap=True)
    freed = f"{len(removed)} images, {size(total_bytes(removed))}"
    people.print(f"{freed} {'would go' if dry_run else 'removed'}; {size(left)} of ours left", markup=False)


def parse_size(text: str) -> int:
    """Bytes of a size like `20G` (powers of 1024). Raises `InputError`."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE)
    if match is None:
        raise InputError("bad --cap", expected="a size like 20G", found=text)
    return int(float(match[1]) * _UNITS[match[2].upper()])


def size(count: float) -> str:
    """Bytes for people."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:.1f} GiB"
