"""Images of instances: where they come from, that each comes once, and that the disk does not fill up."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from registry import Registry, packed

from gym_code.errors import ConfigError, EnvironmentBuildError
from gym_code.evaluate.cases import Case
from gym_code.evaluate.images import Images, collect, disk
from gym_code.interop import import_rows
from gym_code.sandbox.base import BoxSpec
from gym_code.sandbox.docker import DockerBackend
from gym_code.sandbox.namespace import NamespaceBackend
from gym_code.sandbox.unpack import Archive
from gym_code.suite import DirectorySuite

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.docker

NAME = f"gym-code-test/instance-{os.getpid()}"
GYM_CODE = Path(sys.executable).with_name("gym-code")
MEGABYTE = 1_000_000
RECIPE = f"FROM scratch\nLABEL run={os.getpid()}\nCOPY problem_statement.md /testbed/about.md\n"
"""Made by nobody before: what the daemon had already is not ours to remove."""
PATCH = """\
diff --git a/area.py b/area.py
--- a/area.py
+++ b/area.py
@@ -1 +1 @@
-area = 1
+area = 2
"""


def docker(*words: str, stdin: bytes | None = None) -> str:
    return subprocess.run(["docker", *words], input=stdin, check=True, capture_output=True).stdout.decode()


def image_names() -> set[str]:
    return {
        line for line in docker("images", "--format", "{{.Repository}}:{{.Tag}}").splitlines() if NAME in line
    }


def all_images() -> set[str]:
    return set(docker("images", "-aq", "--no-trunc").split())


def noise(count: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(count)


def import_image(name: str, size: int = 1000, seed: int = 0) -> None:
    """An image with a tree at /testbed and `size` bytes that no other seed has."""
    files = {"testbed/area.py": b"area = 1\n", "filler": noise(size, seed)}
    docker("import", "-", name, stdin=packed(files))


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A state directory of the test's own, and a daemon without images of these tests, before and after."""
    with tempfile.TemporaryDirectory(prefix="gym-code-home-") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setenv("GYM_CODE_HOME", folder)
        yield Path(folder)
    if names := image_names():
        docker("rmi", "-f", *names)


@pytest.fixture(scope="module")
def nowhere() -> Iterator[str]:
    """The name of an image that its registry does not have: an answer that comes at once."""
    with Registry({}) as registry:
        yield f"{registry.host}/{NAME}-nowhere"


def suite_of(tmp_path: Path, **images: dict[str, Any]) -> DirectorySuite:
    """A suite with an instance for each name, with these columns."""
    rows = [
        {
            "instance_id": key,
            "repo": "o/r",
            "patch": PATCH,
            "test_patch": "",
            "problem_statement": f"The area of {key} is wrong.",
            "FAIL_TO_PASS": ["test_area.py::test_area"],
            "PASS_TO_PASS": [],
            **columns,
        }
        for key, columns in images.items()
    ]
    tmp_path.mkdir(exist_ok=True)
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    import_rows(str(source), tmp_path / "suite")
    return DirectorySuite(tmp_path / "suite")


def saved(tmp_path: Path, file: str, size: int, seed: int = 0) -> Path:
    """An archive of an image that the daemon does not have any more."""
    path = tmp_path / "archives" / file
    path.parent.mkdir(exist_ok=True)
    import_image(f"{NAME}:saved", size, seed)
    docker("save", f"{NAME}:saved", "-o", str(path))
    docker("rmi", f"{NAME}:saved")
    return path


def test_a_task_without_an_image_needs_none(suite: DirectorySuite) -> None:
    with Images(suite, cap_bytes=0) as images, images.use(suite.ids()[0]) as image:
        assert (image.name, image.how) == ("", "none")


def test_a_directory_of_archives_that_is_not_there_is_told(suite: DirectorySuite, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no archives"):
        Images(suite, archives=tmp_path / "nowhere")


def test_an_image_that_was_there_is_used_and_stays(tmp_path: Path, home: Path) -> None:
    import_image(f"{NAME}:there")
    with Images(suite_of(tmp_path, a={"image": f"{NAME}:there"}), cap_bytes=0) as images:
        with images.use("a") as image:
            assert (image.how, image.name) == ("found", f"{NAME}:there")
        assert image.id == docker("inspect", "-f", "{{.Id}}", f"{NAME}:there").strip()
    assert collect(everything=True) == ()
    assert list((home / "fetched").glob("*")) == []
    assert image_names() == {f"{NAME}:there"}


def test_a_recipe_is_built_and_what_was_built_can_go(tmp_path: Path, nowhere: str) -> None:
    name = f"{nowhere}:built"
    suite = suite_of(tmp_path, a={"image": name, "dockerfile": RECIPE})
    told: list[str] = []
    with Images(suite, progress=told.append) as images:
        with images.use("a") as image:
            assert image.how == "built"
            assert {path: file.content for path, file in suite.start("a").files().items()} == {
                "about.md": b"The area of a is wrong."
            }
            assert collect(everything=True) == ()  # it is in use
        with images.use("a") as image:
            assert image.how == "found"
    assert docker("inspect", "-f", '{{index .Config.Labels "gym-code.kind"}}', image.id).strip() == "instance"
    assert told[-1] == f"{name}: built"
    assert collect(everything=True, dry_run=True) == (name,)
    assert collect(everything=True) == (name,)
    assert image.id not in all_images()


def test_an_archive_gives_the_image_and_takes_no_name_away(tmp_path: Path) -> None:
    saved(tmp_path, "a.tar", 1000)
    import_image(f"{NAME}:saved", 1000, seed=1)  # the name in the archive is in use here
    users = docker("inspect", "-f", "{{.Id}}", f"{NAME}:saved")
    with Images(suite_of(tmp_path, a={"image": f"{NAME}:a"}), archives=tmp_path / "archives") as images:
        with images.use("a") as image:
            assert image.how == "loaded"
        assert docker("inspect", "-f", "{{.Id}}", f"{NAME}:a").strip() == image.id != users.strip()
        assert docker("inspect", "-f", "{{.Id}}", f"{NAME}:saved") == users
    assert collect(everything=True) == (f"{NAME}:a",)
    assert image_names() == {f"{NAME}:saved"}
    assert docker("inspect", "-f", "{{.Id}}", f"{NAME}:saved") == users


def test_an_image_that_somebody_has_under_another_name_stays(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.tar", 1000)
    docker("load", "-i", str(path))
    with Images(suite_of(tmp_path, a={"image": f"{NAME}:a"}), archives=path.parent) as images:
        enter(images, "a")
    assert collect(everything=True) == ()
    assert image_names() == {f"{NAME}:saved", f"{NAME}:a"}


def test_an_image_is_pulled_and_a_server_out_of_order_asked_again(tmp_path: Path) -> None:
    with Registry({"testbed/area.py": b"area = 1\n"}, failing=1) as registry:
        with Images(suite_of(tmp_path, a={"image": registry.name})) as images, images.use("a") as image:
            assert image.how == "pulled"
        assert sum(path.endswith(registry.layer) for path in registry.asked) == 2
        assert collect(everything=True) == (registry.name,)
        docker_knows = subprocess.run(["docker", "inspect", registry.name], capture_output=True, check=False)
        assert docker_knows.returncode == 1


def test_an_image_that_is_nowhere_says_what_was_tried(tmp_path: Path, nowhere: str) -> None:
    with Images(suite_of(tmp_path, a={"image": nowhere}), archives=tmp_path) as images:
        begin = time.monotonic()
        with pytest.raises(EnvironmentBuildError) as error, images.use("a"):
            pass
        assert time.monotonic() - begin < 2  # a registry that lacks it need not be asked again
    lines = str(error.value).splitlines()
    assert lines[0] == f"a: there is no image {nowhere}"
    assert lines[1].startswith("not pulled: manifest for ")
    assert lines[2] == "not built: the task's Dockerfile says no more than the image's name"
    assert collect(everything=True) == ()


def test_a_recipe_that_fails_is_told_and_leaves_no_step_behind(tmp_path: Path, nowhere: str) -> None:
    before = all_images()
    recipe = "FROM gym-code/base:3.11\nRUN echo prepared > /prepared\nRUN echo the words; exit 3\n"
    suite = suite_of(tmp_path, **{each: {"image": nowhere, "dockerfile": recipe} for each in "ab"})
    told: list[str] = []
    images = Images(suite, progress=told.append)
    for each in "ab":
        with pytest.raises(EnvironmentBuildError, match=r"non-zero code: 3[\s\S]*the words"):
            enter(images, each)
        assert len([line for line in told if "Step 1/" in line]) == 1  # it would fail again
    steps = [docker("history", "--no-trunc", image) for image in all_images() - before]
    assert not any("echo prepared" in step for step in steps)


def enter(images: Images, task_id: str) -> None:
    """Use an image for nothing."""
    with images.use(task_id):
        pass


@pytest.mark.parametrize("part", [0.2, 0.9])
def test_an_archive_that_is_cut_is_told_and_leaves_nothing(tmp_path: Path, nowhere: str, part: float) -> None:
    path = saved(tmp_path, "a.tar", MEGABYTE)
    with Archive(path) as archive:
        image = archive.id
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    named = suite_of(tmp_path / "named", a={"image": str(path)})
    for suite in (named, suite_of(tmp_path, a={"image": nowhere})):
        with pytest.raises(EnvironmentBuildError, match=r"^a: [\s\S]*a\.tar"):
            enter(Images(suite, archives=path.parent), "a")
    assert image not in all_images()
    assert collect(everything=True) == ()


def test_threads_fetch_an_image_once(tmp_path: Path, nowhere: str) -> None:
    suite = suite_of(tmp_path, a={"image": nowhere, "dockerfile": RECIPE})
    how: list[str] = []
    gate = threading.Barrier(4)
    with Images(suite) as images:

        def work() -> None:
            gate.wait()
            with images.use("a") as image:
                how.append(image.how)

        run_threads([work] * 4)
    assert sorted(how) == ["built", "found", "found", "found"]


def run_threads(targets: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=target, daemon=True) for target in targets]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()


def test_cases_of_an_image_come_together(tmp_path: Path) -> None:
    suite = suite_of(tmp_path, a={"image": "x"}, b={"image": "y"}, c={"image": "x"})
    cases = [Case(instance_id=each, sample=sample, patch=b"") for sample in (0, 1) for each in "abc"]
    ordered = Images(suite).ordered(cases)
    assert [(case.instance_id, case.sample) for case in ordered] == [
        ("a", 0), ("c", 0), ("a", 1), ("c", 1), ("b", 0), ("b", 1),
    ]  # fmt: skip


def test_under_a_cap_what_was_used_longest_ago_goes(tmp_path: Path) -> None:
    import_image(f"{NAME}:users", 5 * MEGABYTE, seed=9)
    for number, each in enumerate("abc"):
        saved(tmp_path, f"{each}.tar", 3 * MEGABYTE, seed=number)
    suite = suite_of(tmp_path, **{each: {"image": f"{NAME}:{each}"} for each in "abc"})
    with Images(suite, archives=tmp_path / "archives", cap_bytes=7 * MEGABYTE) as images:
        for each, kept in (("a", "a"), ("b", "ab"), ("a", "ab"), ("c", "ac")):
            with images.use(each):
                assert image_names() == {f"{NAME}:users", *(f"{NAME}:{name}" for name in kept)}
    assert collect(everything=True) == (f"{NAME}:a", f"{NAME}:c")


def test_an_image_larger_than_the_cap_is_refused_and_gone(tmp_path: Path) -> None:
    saved(tmp_path, "a.tar", 3 * MEGABYTE)
    suite, most = suite_of(tmp_path, a={"image": f"{NAME}:a"}), 2 * MEGABYTE
    with pytest.raises(EnvironmentBuildError, match=r"a: no room for the image .* 3 MB are needed"):
        enter(Images(suite, archives=tmp_path / "archives", cap_bytes=most), "a")
    with Registry({"filler": noise(3 * MEGABYTE)}) as registry:
        images = Images(suite_of(tmp_path / "pull", b={"image": registry.name}), cap_bytes=most)
        for _ in range(2):  # nothing told how large it is until it was there: it is pulled once
            with pytest.raises(EnvironmentBuildError, match=r"it takes 3 MB, and all .* may take 2 MB"):
                enter(images, "b")
        assert sum(path.endswith(registry.layer) for path in registry.asked) == 1
    assert registry.image not in all_images()


def test_a_thread_waits_for_room_that_will_come_free(tmp_path: Path) -> None:
    for number, each in enumerate("ab"):
        saved(tmp_path, f"{each}.tar", 3 * MEGABYTE, seed=number)
    suite = suite_of(tmp_path, **{each: {"image": f"{NAME}:{each}"} for each in "ab"})
    events: list[str] = []
    with Images(suite, archives=tmp_path / "archives", cap_bytes=4 * MEGABYTE) as images:
        inside = threading.Event()

        def first() -> None:
            with images.use("a"):
                inside.set()
                time.sleep(0.5)
                events.append("a leaves")

        def second() -> None:
            inside.wait()
            with images.use("b"):
                events.append("b enters")

        run_threads([first, second])
    assert events == ["a leaves", "b enters"]
    assert image_names() == {f"{NAME}:b"}


def test_many_threads_share_a_small_cap(tmp_path: Path) -> None:
    names = [f"i{number}" for number in range(6)]
    for number, each in enumerate(names):
        saved(tmp_path, f"{each}.tar", MEGABYTE, seed=number)
    suite = suite_of(tmp_path, **{each: {"image": f"{NAME}:{each}"} for each in names})
    images = Images(suite, archives=tmp_path / "archives", cap_bytes=int(2.5 * MEGABYTE))
    cases = [Case(instance_id=each, sample=sample, patch=b"") for sample in range(3) for each in names]
    waiting, seen, most = images.ordered(cases), list[str](), 0
    lock = threading.Lock()

    def work() -> None:
        nonlocal most
        while True:
            with lock:
                if not waiting:
                    return
                case = waiting.pop(0)
            with images.use(case.instance_id) as image:
                there = image_names() - {f"{NAME}:saved"}  # for a moment, of one that is being loaded
                assert image.name in there
                with lock:
                    seen.append(image.how)
                    most = max(most, len(there))

    run_threads([work] * 4)
    images.close()
    assert sorted(seen) == ["found"] * 12 + ["loaded"] * 6
    assert most <= 2
    assert len(image_names()) <= 2


def test_no_fetch_begins_where_the_disk_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "FLOOR_PART", 1.0)
    monkeypatch.setattr(disk, "FLOOR_BYTES", 1 << 60)
    with Registry({"filler": noise(MEGABYTE)}) as registry:
        with pytest.raises(EnvironmentBuildError, match=r"a: no room for the image .* free at /"):
            enter(Images(suite_of(tmp_path, a={"image": registry.name})), "a")
        assert registry.asked == []


def test_a_pull_ends_before_it_fills_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Registry({"filler": noise(MEGABYTE)}, stuck=True) as registry:
        suite = suite_of(tmp_path, a={"image": registry.name})

        def fill() -> None:
            assert registry.begun.wait(30)
            monkeypatch.setattr(disk, "FLOOR_PART", 1.0)
            monkeypatch.setattr(disk, "FLOOR_BYTES", 1 << 60)
            time.sleep(1.1)
            registry.ended.set()  # the connection breaks, and the daemon begins again

        threading.Thread(target=fill, daemon=True).start()
        with pytest.raises(EnvironmentBuildError, match="no room for the image"):
            enter(Images(suite), "a")
    assert collect() == ()


KILLED = """
import os, signal, sys
from pathlib import Path
from gym_code.evaluate.images import Images
from gym_code.suite import DirectorySuite
images = Images(DirectorySuite(sys.argv[1]), archives=Path(sys.argv[2]))
with images.use("a"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_run_fetched_is_found_and_evicted_by_the_next(tmp_path: Path) -> None:
    for number, each in enumerate("ab"):
        saved(tmp_path, f"{each}.tar", 3 * MEGABYTE, seed=number)
    suite = suite_of(tmp_path, **{each: {"image": f"{NAME}:{each}"} for each in "ab"})
    words = [sys.executable, "-c", KILLED, str(suite.path), str(tmp_path / "archives")]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert image_names() == {f"{NAME}:a"}
    with Images(suite, archives=tmp_path / "archives", cap_bytes=4 * MEGABYTE) as images:
        with images.use("a") as image:
            assert image.how == "found"
        with images.use("b"):
            assert image_names() == {f"{NAME}:b"}


def test_a_run_killed_in_a_pull_leaves_nothing(tmp_path: Path) -> None:
    with Registry({"filler": noise(MEGABYTE)}, stuck=True) as registry:
        suite = suite_of(tmp_path, a={"image": registry.name})
        words = [sys.executable, "-c", KILLED, str(suite.path), str(tmp_path)]
        with subprocess.Popen(words) as process:
            assert registry.begun.wait(30)
            assert collect() == ()  # its owner lives
            process.kill()
        swept = subprocess.run([GYM_CODE, "gc", "--json"], check=True, capture_output=True)
        assert json.loads(swept.stdout)["images"] == [registry.name]
        assert collect() == ()
        registry.ended.set()
        registry.stuck = False
        with Images(suite) as images, images.use("a") as image:
            assert image.how == "pulled"
    assert collect(everything=True) == (registry.name,)


@pytest.mark.sandbox
def test_without_a_daemon_archives_are_unpacked_and_evicted(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, each in enumerate("ab"):
        saved(tmp_path, f"{each}.tar", 3 * MEGABYTE, seed=number)
    suite = suite_of(tmp_path, **{each: {"image": f"{NAME}:{each}"} for each in "abc"})
    with monkeypatch.context() as without, NamespaceBackend(spare=1) as backend:
        without.setenv("DOCKER_HOST", f"unix://{tmp_path}/nobody.sock")
        images = Images(suite, backend, archives=tmp_path / "archives", cap_bytes=4 * MEGABYTE)
        images.ordered([Case(instance_id=each, patch=b"") for each in "ab"])
        with pytest.raises(EnvironmentBuildError, match=r"c: there is no image .*\nnot loaded: no Docker"):
            enter(images, "c")
        for each in "ab":
            with images.use(each) as image:
                assert image.how == "loaded"
                task, start = suite.task(each), suite.start(each)
                with backend.open(BoxSpec(start=start, environment=task.environment)) as box:
                    assert box.read("area.py") == b"area = 1\n"
            assert len(list((home / "envs").glob("1-image-*/rootfs"))) == 1
            assert list((home / "layers").glob("1-*")) == []
        assert collect(everything=True) == (f"{NAME}:b",)
    assert list((home / "envs").glob("1-image-*/rootfs")) == []


def test_nothing_is_kept_for_an_instance_that_is_done(tmp_path: Path, home: Path) -> None:
    import_image(f"{NAME}:box")
    suite = suite_of(tmp_path, a={"image": f"{NAME}:box"})
    look = [
        "run",
        "--rm",
        "--network=none",
        "-v",
        "gym-code-layers:/layers",
        "gym-code/base:3.11",
        "ls",
        "/layers",
    ]
    with DockerBackend(spare=1) as backend, Images(suite, backend) as images:
        for samples in (9, 2):  # of nine the budget let none be played
            images.ordered([Case(instance_id="a", patch=b"", sample=sample) for sample in range(samples)])
        start = suite.start("a")
        for left in (True, False):
            with images.use("a"):
                spec = BoxSpec(start=start, environment=suite.task("a").environment)
                with backend.open(spec) as box:
                    assert box.read("area.py") == b"area = 1\n"
                    assert boxes()
                    backend.drop_start(start.digest)  # a box uses it: it stays
                    box.write("new.py", b"")
                    assert b"new.py" in box.diff()
                assert (home / "layers" / f"1-{start.digest}").is_dir()
            assert (home / "layers" / f"1-{start.digest}").is_dir() == left
            assert (start.digest in docker(*look)) == left
        deadline = time.monotonic() + 20
        while boxes() and time.monotonic() < deadline:
            time.sleep(0.1)
        assert boxes() == []


def boxes() -> list[str]:
    """Containers over the image of the test."""
    return docker("ps", "-aq", "--filter", f"ancestor={NAME}:box").split()


KILLED_IN_A_LOAD = """
import os, signal
from gym_code.evaluate.images import fetch
load = fetch.load_archive
def then_die(client, path):
    load(client, path)
    os.kill(os.getpid(), signal.SIGKILL)
fetch.load_archive = then_die
"""


def test_a_run_killed_in_a_load_is_swept_up_by_the_names_of_the_archive(tmp_path: Path) -> None:
    saved(tmp_path, "a.tar", MEGABYTE)
    suite = suite_of(tmp_path, a={"image": f"{NAME}:a"})
    words = [sys.executable, "-c", KILLED_IN_A_LOAD + KILLED, str(suite.path), str(tmp_path / "archives")]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    assert image_names() == {f"{NAME}:saved"}
    assert collect() == (f"{NAME}:a",)
    assert image_names() == set()


def test_an_image_that_goes_while_the_others_are_measured_is_no_error(tmp_path: Path) -> None:
    saved(tmp_path, "a.tar", MEGABYTE)
    import_image(f"{NAME}:goes", MEGABYTE, seed=1)
    suite = suite_of(tmp_path, a={"image": f"{NAME}:a"})
    with Images(suite, archives=tmp_path / "archives", cap_bytes=3 * MEGABYTE) as images:
        client = images._daemon.client
        listed = client.images

        def then_remove(**kwargs: Any) -> Any:
            rows = listed(**kwargs)
            subprocess.run(["docker", "rmi", f"{NAME}:goes"], capture_output=True, check=False)
            return rows

        client.images = then_remove
        with images.use("a") as image:
            assert image.how == "loaded"
