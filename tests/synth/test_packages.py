"""The list of real packages, and that what is fetched is what the list says."""

import hashlib
import os
import subprocess

import pytest

from gym_code.errors import InputError
from gym_code.synth import sources
from gym_code.synth.layout import find_layout
from gym_code.synth.packages import chosen, described, is_real, real_packages

GOOD = """
[[package]]
name = "a-b"
version = "1.0"
sha256 = "{}"
layout = "src"
tests = "beside"
runner = "pytest"
""".format("0" * 64)


def test_the_list_covers_the_layouts_and_the_runners():
    listed = real_packages()
    assert {package.layout for package in listed} == {"src", "flat", "module"}
    assert {package.tests for package in listed} == {"beside", "inside"}
    assert {package.runner for package in listed} == {"pytest", "unittest"}


def test_some_of_the_list_are_chosen_by_name():
    listed = real_packages()
    assert is_real("real")
    assert not is_real("path:real")
    assert chosen("real", listed) == listed
    assert [p.name for p in chosen("real:toolz, cachetools", listed)] == ["cachetools", "toolz"]
    with pytest.raises(InputError, match=r"real:toolz,leftpad: not in the list .*found leftpad"):
        chosen("real:toolz,leftpad", listed)
    with pytest.raises(InputError, match="found nothing"):
        chosen("real:", listed)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ('layout = "src"', 'layout = "round"', "package 1: layout: wrong value .*expected src or flat"),
        ('version = "1.0"\n', "", "package 1: wrong fields"),
        ('name = "a-b"', 'name = "--help"', "package 1: name: wrong value"),
        ('"' + "0" * 64 + '"', '"00"', "package 1: sha256: wrong value"),
        ('version = "1.0"', "version = 1.0", "package 1: version: wrong value"),
        (GOOD, GOOD + GOOD, "listed twice .*found a-b"),
        (GOOD, "", "no packages"),
        (GOOD, "[package]\nname = 1", "no packages"),
        (GOOD, "[[package", "not TOML"),
    ],
)
def test_a_list_that_is_wrong_says_where(tmp_path, old, new, problem):
    path = tmp_path / "packages.toml"
    path.write_text(GOOD)
    assert real_packages(path)[0].source == "pypi:a-b==1.0#sha256=" + "0" * 64
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(InputError, match=problem):
        real_packages(path)


def test_a_missing_list_says_so(tmp_path):
    with pytest.raises(InputError, match="no list of packages"):
        real_packages(tmp_path / "none.toml")


def test_an_sdist_with_another_hash_is_refused(monkeypatch, tmp_path):
    """The fetcher is a script run apart: here it finds an archive that is not the pinned one."""
    archive = tmp_path / "a-1.tar.gz"
    archive.write_bytes(b"not what was pinned")
    done = subprocess.CompletedProcess([], 0, stdout=f"{archive}\n", stderr="")
    monkeypatch.setattr(sources.subprocess, "run", lambda *args, **options: done)
    found = hashlib.sha256(b"not what was pinned").hexdigest()
    with pytest.raises(InputError) as caught:
        sources.open_source("pypi:a==1#sha256=" + "0" * 64)
    assert str(caught.value) == (
        "pypi:a==1: the sdist is not the one that is pinned "
        f"(expected sha256 {'0' * 64}, found sha256 {found})"
    )
    with pytest.raises(InputError, match="not a readable archive"):
        sources.open_source(f"pypi:a==1#sha256={found}")


def test_every_listed_package_is_as_the_list_says():
    for package in real_packages():
        try:
            source = sources.open_source(package.source)
        except InputError as error:
            if os.environ.get("CI") == "true" or "is not the one" in str(error):
                raise
            pytest.skip(f"no package index answers: {error}")
        assert (source.name, source.version) == (package.name, package.version)
        assert source.origin == f"pypi:{package.name}=={package.version}"
        said = {"layout": package.layout, "tests": package.tests, "runner": package.runner}
        assert described(find_layout(source.files)) == said, package.name
