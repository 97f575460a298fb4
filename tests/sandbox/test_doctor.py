"""The doctor names what is missing and the command that mends it; backends are found by name."""

from __future__ import annotations

import io

import pytest

from gym_code.errors import ConfigError, SandboxUnavailable
from gym_code.sandbox import bwrap, dockerd, doctor, open_backend
from gym_code.sandbox.base import Backend, Sandbox
from gym_code.sandbox.checks import START, start_tree
from gym_code.sandbox.memory import MemoryBackend

APPARMOR = "kernel.apparmor_restrict_unprivileged_userns"


@pytest.mark.sandbox
def test_a_machine_that_runs_boxes_is_well() -> None:
    findings = doctor.diagnose()
    assert [finding for finding in findings if finding.required and not finding.ok] == []
    assert findings[-1].name == "a box"
    assert "ran Python" in findings[-1].detail


def test_a_missing_bubblewrap_is_mended_by_one_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gym_code.sandbox.bwrap.shutil.which", lambda *args, **options: None)
    (found,) = [finding for finding in doctor.diagnose() if finding.name == "bubblewrap"]
    assert (found.ok, found.mend) == (False, "apt-get install bubblewrap")
    with pytest.raises(SandboxUnavailable, match="apt-get install bubblewrap"):
        open_backend("namespace").capabilities()


def test_apparmor_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {APPARMOR: "1", "user.max_user_namespaces": "0"}
    monkeypatch.setattr(doctor, "_sysctl", values.get)
    mends = {finding.name: finding.mend for finding in doctor._namespaces() if not finding.ok}
    assert mends == {
        APPARMOR: f"sysctl -w {APPARMOR}=0",
        "user.max_user_namespaces": "sysctl -w user.max_user_namespaces=65536",
    }


@pytest.mark.parametrize(("system", "word"), [("darwin", "lima"), ("win32", "wsl")])
def test_other_systems_are_told_what_to_do(monkeypatch: pytest.MonkeyPatch, system: str, word: str) -> None:
    monkeypatch.setattr("sys.platform", system)
    (found,) = doctor.diagnose()
    assert not found.ok
    assert word in found.mend


def test_backends_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_backend("memory").name == "memory"
    assert open_backend("namespace").name == "namespace"
    assert open_backend("docker").name == "docker"
    monkeypatch.setenv("GYM_CODE_SANDBOX", "memory")
    assert open_backend("auto").name == "memory"
    with pytest.raises(ConfigError, match="namespace"):
        open_backend("nonesuch")


@pytest.mark.sandbox
def test_auto_takes_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """The embedded sandbox, else Docker; where neither works both reasons are told."""
    monkeypatch.delenv("GYM_CODE_SANDBOX", raising=False)
    backend = open_backend()
    assert backend.name == "namespace"
    backend.close()
    monkeypatch.setattr(bwrap, "find_bwrap", lambda: _raise("no bubblewrap"))
    monkeypatch.setattr(dockerd, "connect", lambda: _raise("no daemon"))
    with pytest.raises(SandboxUnavailable, match="no bubblewrap; and no daemon"):
        open_backend()
    monkeypatch.setattr(dockerd, "connect", io.BytesIO)  # something to close
    assert open_backend().name == "docker"


def _raise(words: str) -> str:
    raise SandboxUnavailable(words)


def test_the_protocols_are_held() -> None:
    from gym_code.sandbox.base import BoxSpec

    with MemoryBackend() as backend:
        assert isinstance(backend, Backend)
        assert isinstance(backend.open(BoxSpec(start=start_tree(START))), Sandbox)
