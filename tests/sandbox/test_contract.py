"""Every check of the public contract, on every backend, as root and as an ordinary user."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gym_code.sandbox.contract import CHECKS, CheckResult, check_backend, run_check
from gym_code.sandbox.docker import DockerBackend
from gym_code.sandbox.memory import MemoryBackend, MemorySandbox
from gym_code.sandbox.namespace import NamespaceBackend


def held(result: CheckResult) -> None:
    if result.status == "skipped":
        pytest.skip(result.reason)
    assert result.status == "passed", result.reason


@pytest.mark.parametrize("name", CHECKS)
def test_memory(memory: MemoryBackend, name: str) -> None:
    held(run_check(memory, CHECKS[name]))


@pytest.mark.sandbox
@pytest.mark.parametrize("name", CHECKS)
def test_namespace(namespace: NamespaceBackend, name: str) -> None:
    held(run_check(namespace, CHECKS[name]))


@pytest.mark.sandbox
@pytest.mark.parametrize("name", CHECKS)
def test_namespace_as_an_ordinary_user(user_results: Mapping[str, Mapping[str, str]], name: str) -> None:
    result = user_results[name]
    assert result["status"] == "passed", result["reason"]


@pytest.mark.docker
@pytest.mark.parametrize("name", CHECKS)
def test_docker(docker: DockerBackend, name: str) -> None:
    held(run_check(docker, CHECKS[name]))


@pytest.mark.docker
@pytest.mark.parametrize("name", CHECKS)
def test_docker_as_a_member_of_its_group(
    docker_user_results: Mapping[str, Mapping[str, str]], name: str
) -> None:
    result = docker_user_results[name]
    assert result["status"] == "passed", result["reason"]


def test_every_check_says_what_it_checks() -> None:
    assert len(CHECKS) >= 40
    assert all(check.what for check in CHECKS.values())


@pytest.mark.parametrize(
    ("method", "failing"),
    [
        ("digest", "digest_sees_content_mode_and_deletion"),
        ("diff", "diff_applies_to_the_start"),
        ("restore", "restore_goes_back"),
        ("write", "write_replaces_whole_files"),
    ],
)
def test_the_kit_catches_a_backend_that_does_nothing(
    monkeypatch: pytest.MonkeyPatch, memory: MemoryBackend, method: str, failing: str
) -> None:
    empty = {"digest": "same", "diff": b""}.get(method)
    monkeypatch.setattr(MemorySandbox, method, lambda self, *args, **options: empty)
    (result,) = check_backend(memory, [failing])
    assert result.status == "failed"
    assert result.reason
