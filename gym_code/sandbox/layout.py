"""Where the embedded sandbox keeps its state, and as whom its boxes run."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from gym_code.errors import SandboxUnavailable

SANDBOX_UID = 58_713
"""The unprivileged uid and gid root drops to: high, fixed (layers belong to it), in no distribution's
range."""


def default_home() -> Path:
    """GYM_CODE_HOME, else /var/lib/gym-code for root, else gym-code below the user's cache directory."""
    if override := os.environ.get("GYM_CODE_HOME"):
        return Path(override).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/gym-code")
    cache = os.environ.get("XDG_CACHE_HOME")
    return (Path(cache) if cache else Path.home() / ".cache") / "gym-code"


@dataclass(frozen=True, slots=True)
class Home:
    """The state directory: layers, environments and leases."""

    root: Path
    uid: int
    """Who owns layers and runs boxes: SANDBOX_UID for root, else the user."""

    @property
    def layers(self) -> Path:
        """Start trees by digest."""
        return self.root / "layers"

    @property
    def envs(self) -> Path:
        """Environments by digest."""
        return self.root / "envs"

    @property
    def bases(self) -> Path:
        """Interpreters without packages, shared by environments through hard links."""
        return self.root / "bases"

    @property
    def leases(self) -> Path:
        """One file for every live backend."""
        return self.root / "leases"

    @property
    def boxes(self) -> Path:
        """What boxes write, by owner, where the kernel offers no tmpfs for it."""
        return self.root / "boxes"

    @property
    def mount(self) -> Path:
        """An empty directory: the keeper mounts its scratch space on it, in its own namespace only."""
        return self.root / "mnt"


def open_home(root: Path | None = None) -> Home:
    """The state directory, made if need be. Raises `SandboxUnavailable` where it cannot be used."""
    path = (root or default_home()).absolute()
    as_root = os.geteuid() == 0
    home = Home(path, SANDBOX_UID if as_root else os.getuid())
    try:
        for part in (path, home.layers, home.envs, home.bases, home.leases, home.boxes, home.mount):
            part.mkdir(parents=True, exist_ok=True)
            if as_root:
                part.chmod(0o755)
        if as_root:
            os.chown(home.boxes, home.uid, home.uid)
    except OSError as error:
        raise SandboxUnavailable(
            f"cannot make the state directory {path}: {error}; set GYM_CODE_HOME"
        ) from error
    if as_root:
        _check_reachable(path)
    return home


def _check_reachable(path: Path) -> None:
    """Root's boxes run as another uid, which must be able to walk to the state directory."""
    for parent in path.parents:
        if not parent.stat().st_mode & 0o001:
            raise SandboxUnavailable(
                f"the state directory {path} lies below {parent}, which uid {SANDBOX_UID} cannot enter; "
                f"chmod o+x {parent} or set GYM_CODE_HOME to another place"
            )
