"""The Gymnasium ids, registered without importing Gymnasium before its user does.

Importing Gymnasium (and numpy) costs as much as `import gym_code` may take, so: where it is loaded already,
the ids are registered at once (which is also how `gymnasium.make("gym_code:RepoFix-v0")` comes by them);
where it is not, they are registered as soon as someone imports it.
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.abc import Loader
    from types import ModuleType

_KINDS = {"RepoFix-v0": "fix", "RepoBuild-v0": "build"}


def register_envs() -> None:
    """Register `RepoFix-v0` and `RepoBuild-v0` with Gymnasium. Idempotent; the envs load when one is made."""
    from gymnasium.envs.registration import register, registry

    for env_id, kind in _KINDS.items():
        if env_id not in registry:
            register(env_id, entry_point="gym_code.env:RepoEnv", kwargs={"kind": kind})


def register_envs_lazily() -> None:
    """Register the ids now if Gymnasium is loaded, else when it is first imported."""
    if "gymnasium" in sys.modules:
        register_envs()
    elif not any(isinstance(finder, _AfterGymnasium) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterGymnasium())


class _AfterGymnasium:
    """An import finder that steps aside on the first import of Gymnasium and registers after it."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != "gymnasium":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.loader is not None:
            _register_after(spec.loader)
        return spec


def _register_after(loader: Loader) -> None:
    execute = loader.exec_module

    def execute_and_register(module: ModuleType) -> None:
        execute(module)
        register_envs()

    loader.exec_module = execute_and_register  # type: ignore[method-assign]
