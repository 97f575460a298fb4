import io
import tarfile

import pytest
from git import Actor, Repo
from synth_toy import TOY

from gym_code.errors import InputError
from gym_code.synth.layout import find_layout
from gym_code.synth.sources import open_source, read_archive, scrub
from gym_code.types import File


def archive(*members: tuple[str, bytes, bytes]) -> bytes:
    """A gzipped tar of (name, content, type) members; the content of a link is its target."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content, kind in members:
            info = tarfile.TarInfo(name)
            info.type = kind
            if kind == tarfile.REGTYPE:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
            else:
                info.linkname = content.decode()
                tar.addfile(info)
    return buffer.getvalue()


def put(folder, files):
    for path, file in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(file.content)


def test_an_archive_loses_its_top_directory():
    files = read_archive(
        "a.tar.gz",
        archive(("a-1/m.py", b"x\n", tarfile.REGTYPE), ("a-1/link.py", b"m.py", tarfile.SYMTYPE)),
    )
    assert files == {"m.py": File(content=b"x\n"), "link.py": File(link="m.py")}


@pytest.mark.parametrize(
    ("member", "problem"),
    [
        (("../evil.py", b"", tarfile.REGTYPE), "unsafe path"),
        (("/etc/evil", b"", tarfile.REGTYPE), "unsafe path"),
        (("a/l", b"../../etc/passwd", tarfile.SYMTYPE), "leaves the tree"),
        (("a/l", b"/etc/passwd", tarfile.SYMTYPE), "leaves the tree"),
        (("a/dev", b"", tarfile.CHRTYPE), "special file"),
    ],
)
def test_law_7_a_hostile_archive_is_refused(member, problem):
    with pytest.raises(InputError, match=problem):
        read_archive("a.tar.gz", archive(member))


def test_leftovers_are_scrubbed_and_real_packages_named_build_are_not():
    paths = [
        *(
            "a/__init__.py",
            "a/__pycache__/x.cpython-311.pyc",
            ".mypy_cache/a.json",
            "build/lib/a/__init__.py2",
        ),
        *(
            "a.egg-info/PKG-INFO",
            "PKG-INFO",
            "src/build/__init__.py",
            "src/build/x.py",
            "a/old.py.orig",
            "a/m.so",
        ),
        *("docs/_build/index.html", "dist/a.tar.gz"),
    ]
    kept, gone = scrub({path: File() for path in paths})
    assert sorted(kept) == ["a/__init__.py", "src/build/__init__.py", "src/build/x.py"]
    assert len(gone) == 9


def test_a_directory_and_a_git_repository_give_the_same_source(tmp_path):
    put(tmp_path, TOY)
    put(tmp_path, {"shapes/old.py.orig": File(content=b"old")})
    plain = open_source(f"path:{tmp_path}")
    repo = Repo.init(tmp_path)
    (tmp_path / ".git/hooks/post-checkout").write_text("#!/bin/sh\ntouch /tmp/never\n")
    repo.index.add(list(TOY))
    repo.index.commit(
        "one", author=Actor("a", "a@example.invalid"), committer=Actor("a", "a@example.invalid")
    )
    cloned = open_source(f"git:{tmp_path}")
    assert dict(plain.files) == dict(cloned.files) == dict(TOY)
    assert (plain.name, plain.version, plain.licence) == ("toy-shapes", "1.2", "MIT")
    assert plain.scrubbed == ("shapes/old.py.orig",)
    repo.close()


@pytest.mark.parametrize(
    "reference", ["cachetools", "pypi:cachetools", "path:/no/such/place", "pypi:--help==1"]
)
def test_a_reference_that_names_nothing_says_so(reference):
    with pytest.raises(InputError) as caught:
        open_source(reference)
    assert reference in str(caught.value)


def test_layouts_flat_src_single_and_inside():
    test = File(content=b"def test_a():\n    pass\n")
    flat = find_layout({"pkg/__init__.py": File(), "setup.py": File(), "tests/test_a.py": test})
    src = find_layout({"src/pkg/__init__.py": File(), "src/pkg/m.py": File(), "tests/test_a.py": test})
    single = find_layout({"pkg.py": File(), "test_pkg.py": test})
    inside = find_layout({"pkg/__init__.py": File(), "pkg/tests/test_a.py": test})
    assert (flat.root, flat.modules, flat.sources) == ("", ("pkg",), ("pkg/__init__.py",))
    assert (src.root, src.sources) == ("src", ("src/pkg/__init__.py", "src/pkg/m.py"))
    assert [src.module(p) for p in src.sources] == ["pkg", "pkg.m"]
    assert (single.modules, single.tests) == (("pkg",), ("test_pkg.py",))
    assert (inside.sources, inside.tests) == (("pkg/__init__.py",), ("pkg/tests/test_a.py",))


def test_a_suite_of_test_cases_alone_runs_under_unittest():
    case = File(
        content=b"import unittest\nclass T(unittest.TestCase):\n    def test_a(self):\n        pass\n"
    )
    files = {"pkg.py": File(), "tests/test_a.py": case}
    assert find_layout(files).runner == "unittest"
    assert find_layout({**files, "tox.ini": File(content=b"deps = pytest")}).runner == "pytest"


def test_a_repository_without_tests_is_refused():
    with pytest.raises(InputError, match=r"no tests in it \(expected files named test_"):
        find_layout({"pkg/__init__.py": File()})
