"""SWE-bench's own grading: its script and its parser, in a container of ours."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING

import harness_toy
import pytest
import swebench_oracle
from family_rows import CLASSIC, VERSION_5
from harness_toy import ADD, GOLD, ZERO

from benchmarks.evaluation.official import LISTS
from gym_code.errors import ConfigError, InputError, SandboxError
from gym_code.evaluate.cases import Case
from gym_code.evaluate.official import OfficialGrader
from gym_code.interop import export_rows, official
from gym_code.sandbox.docker import gc_docker
from gym_code.sandbox.dockerd import KIND
from gym_code.task import load_suite

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from gym_code.evaluate.cases import Graded

swebench_oracle.module("swebench")
docker = pytest.mark.docker


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    yield from harness_toy.made_image()


def graded(folder: Path, patch: str, timeout: float = 60, **columns: object) -> Graded:
    """The toy graded with some columns otherwise; its logs stay in `folder`/logs."""
    suite = harness_toy.suite(folder, harness_toy.row(**columns))
    (folder / "logs").mkdir()
    case = Case(instance_id="toy__calc-1", patch=patch.encode())
    return OfficialGrader(timeout).grade(suite, case, folder / "logs")


def containers() -> list[str]:
    """Those that this room made and that are still there."""
    command = ["docker", "ps", "-aq", "--filter", f"label={KIND}=harness"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()


def script(body: str) -> str:
    """An eval script with these commands between the markers."""
    head, end = "#!/bin/bash\nset -uxo pipefail\ncd /testbed\n", ": '>>>>> End Test Output'\n"
    return f"{head}: '>>>>> Start Test Output'\n{body}\n{end}"


@docker
def test_gold_is_resolved_and_the_logs_are_those_of_the_harness(image: str, tmp_path: Path) -> None:
    found = graded(tmp_path, GOLD)
    assert (found.resolved, found.applied, found.flags, found.reason) == (True, True, (), "")
    assert found.outcomes == {ADD: "passed", ZERO: "passed"}
    logs = tmp_path / "logs"
    assert sorted(path.name for path in logs.iterdir()) == [
        "eval.sh", "patch.diff", "report.json", "run_instance.log", "test_output.txt",
    ]  # fmt: skip
    assert (logs / "patch.diff").read_text() == GOLD
    assert ">>>>> Applied Patch" in (logs / "run_instance.log").read_text()
    assert ">>>>> Test Exit Code: 0" in (logs / "test_output.txt").read_text()
    report = json.loads((logs / "report.json").read_text())["toy__calc-1"]
    assert report["resolved"] is True
    assert report["tests_status"]["FAIL_TO_PASS"] == {"success": [ADD], "failure": []}
    assert containers() == []


@docker
def test_a_wrong_patch_is_not_resolved(image: str, tmp_path: Path) -> None:
    found = graded(tmp_path, GOLD.replace("a + b", "a * b"))
    assert (found.resolved, found.applied) == (False, True)
    assert found.outcomes == {ADD: "failed", ZERO: "failed"}


DRIFTED = GOLD.replace("@@ -1,4 +1,4 @@", "@@ -3,4 +3,4 @@")


@docker
def test_a_patch_that_drifted_is_applied_and_one_that_fits_nowhere_is_a_verdict(
    image: str, tmp_path: Path
) -> None:
    for name, patch, applied in (
        ("drift", DRIFTED, True),
        ("elsewhere", GOLD.replace("a - b", "a % b"), False),
        ("no diff", "I fixed it.\n", False),
    ):
        (tmp_path / name).mkdir()
        found = graded(tmp_path / name, patch)
        assert (found.applied, found.resolved) == (applied, applied), name
        if not applied:
            assert found.flags == ("patch-does-not-apply",)
            assert found.reason.startswith("error: ")
            assert not (tmp_path / name / "logs/report.json").exists()
            assert ">>>>> Patch Apply Failed" in (tmp_path / name / "logs/run_instance.log").read_text()


HARNESS = f"""{LISTS}
from swebench.harness import run_evaluation

create = ContainerCollection.create
ContainerCollection.create = lambda *given, **named: create(*given, network_mode="none", **named)
run_evaluation.cleanup_container = lambda client, container, logger: container.remove(force=True)
run_evaluation.main("rows.jsonl", "test", None, "preds.jsonl", 3, 4096, "theirs", 60, False, False)
"""
"""SWE-bench's own evaluation. A daemon need not have a network, and its own way to stop takes 15 seconds."""
PATCHES = {
    "gold": GOLD,
    "wrong": GOLD.replace("a + b", "a * b"),
    "drift": DRIFTED,
    "elsewhere": GOLD.replace("a - b", "a % b"),
    "broken": GOLD.replace("a + b", "a +"),
}


@docker
def test_the_harness_itself_comes_to_the_same_reports(image: str, tmp_path: Path) -> None:
    rows = [harness_toy.row(instance_id=f"toy__{name}-1") for name in PATCHES]
    suite = harness_toy.suite(tmp_path, *rows)
    predictions = [
        {"instance_id": f"toy__{name}-1", "model_name_or_path": "m", "model_patch": patch}
        for name, patch in PATCHES.items()
    ]
    (tmp_path / "preds.jsonl").write_text("".join(json.dumps(each) + "\n" for each in predictions))
    subprocess.run([sys.executable, "-c", HARNESS], cwd=tmp_path, check=True, capture_output=True)
    applied = 0
    for name, patch in PATCHES.items():
        case = Case(instance_id=f"toy__{name}-1", patch=patch.encode())
        folder = tmp_path / "ours" / name
        folder.mkdir(parents=True)
        OfficialGrader(60).grade(suite, case, folder)
        theirs = tmp_path / "logs/run_evaluation/theirs/m" / case.instance_id / "report.json"
        assert theirs.exists() == (folder / "report.json").exists() == (name != "elsewhere"), name
        if theirs.exists():
            applied += 1
            assert json.loads((folder / "report.json").read_text()) == json.loads(theirs.read_text())
    assert applied == 4


@docker
def test_a_test_run_that_hangs_is_ended_with_all_it_started(image: str, tmp_path: Path) -> None:
    hang = script("setsid sleep 4321 &\ntrap '' TERM\nsleep 4321")
    began = time.monotonic()
    found = graded(tmp_path, GOLD, timeout=4, eval_script=hang)
    assert time.monotonic() - began < 30
    assert (found.resolved, found.applied, found.flags) == (False, True, ("timed-out",))
    log = (tmp_path / "logs/test_output.txt").read_text()
    assert log.endswith("\n\nTimeout error: 4 seconds exceeded.")
    assert subprocess.run(["pgrep", "-f", "sleep 4321"], capture_output=True, check=False).returncode == 1
    assert containers() == []


@docker
def test_inside_are_no_network_no_new_privileges_and_capabilities_over_files_alone(
    image: str, tmp_path: Path
) -> None:
    graded(
        tmp_path,
        GOLD,
        eval_script=script("grep -E '^(Cap|NoNewPrivs|Uid)' /proc/self/status\ncat /proc/net/dev"),
    )
    lines = (tmp_path / "logs/test_output.txt").read_text().splitlines()
    told = {name: value.split() for name, _, value in (line.partition(":\t") for line in lines) if value}
    assert told["Uid"][0] == "0"
    assert told["NoNewPrivs"] == ["1"]
    over_files = f"{1 << 0 | 1 << 1 | 1 << 3:016x}"  # CHOWN, DAC_OVERRIDE, FOWNER: linux/capability.h
    assert {told[name][0] for name in ("CapPrm", "CapEff", "CapBnd")} == {over_files}
    assert told["CapAmb"] == ["0" * 16]
    assert [line.split(":")[0].strip() for line in lines if ":" in line and "lo:" in line] == ["lo"]
    assert not [line for line in lines if line.strip().startswith("eth")]


@docker
def test_a_tree_may_belong_to_somebody_else(image: str, tmp_path: Path) -> None:
    body = (
        "chown -R 1000:1000 . && chmod -R go-w,u-w . && touch mine && chmod 600 mine && echo it was written"
    )
    graded(tmp_path, GOLD, eval_script=script(body))
    assert "\nit was written\n" in (tmp_path / "logs/test_output.txt").read_text()


@docker
def test_a_flood_keeps_its_beginning_and_its_end(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gym_code.interop.container.OUTPUT_BYTES", 2000)
    found = graded(
        tmp_path,
        GOLD,
        eval_script=script(
            f"head -c 30000000 /dev/zero | tr '\\0' x\necho\nprintf 'PASSED {ADD}\\nPASSED {ZERO}\\n'"
        ),
    )
    log = (tmp_path / "logs/test_output.txt").read_text()
    assert len(log) < 2100
    assert "bytes of output left out here" in log
    assert found.resolved


@docker
def test_what_the_tests_do_to_memory_is_theirs(image: str, tmp_path: Path) -> None:
    found = graded(
        tmp_path,
        GOLD,
        eval_script=script(
            "python3 -c 'bytearray(10 ** 10)'; python3 -c 'x = [b\"x\" * 10**8 for _ in range(99)]'"
        ),
    )
    assert (found.resolved, found.applied, found.outcomes) == (False, True, {})
    assert "refused the log" in found.reason


@docker
def test_a_container_that_is_killed_from_outside_is_no_verdict(image: str, tmp_path: Path) -> None:
    def kill() -> None:
        while not (found := containers()):
            time.sleep(0.1)
        time.sleep(2)
        subprocess.run(["docker", "kill", *found], check=False, capture_output=True)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(SandboxError, match="killed from outside"):
        graded(tmp_path, GOLD, eval_script=script("sleep 50"))
    killer.join()
    assert containers() == []


OWNER = """
from gym_code.interop.container import run_script
from gym_code.sandbox.dockerd import connect
from gym_code.types import Limits
image = connect().inspect_image("gym-code/base:3.11")["Id"]
run_script(image, "sleep 100", {}, limits=Limits(), timeout=100)
"""


@docker
def test_what_a_killed_owner_left_is_found_by_gc() -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER])
    until = time.monotonic() + 30
    while not (left := containers()) and time.monotonic() < until:
        time.sleep(0.1)
    owner.kill()
    owner.wait()
    assert left
    gc_docker()  # any other test's backend that starts just now does the same
    assert containers() == []


@docker
def test_an_image_that_is_missing_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="gym-code-test/none"):
        graded(tmp_path, GOLD, image="gym-code-test/none:1")


@docker
def test_an_image_without_a_checkout_is_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(SandboxError, match="there is no /testbed"):
        graded(tmp_path, GOLD, image="gym-code/base:3.11")


@docker
def test_a_log_that_its_parser_never_finishes_is_no_hang(
    image: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(official, "LOG_SECONDS", 1)
    # Their pattern for SymPy's failures, `(_*) (.*)\.py:(.*) (_*)`, tries all pairs of a line of underscores.
    body = "head -c 200000 /dev/zero | tr '\\0' _"
    found = graded(tmp_path, GOLD, log_parser="parse_log_sympy", eval_script=script(body))
    assert found.resolved is False
    assert "did not come to an end" in found.reason


def test_a_row_without_a_script_says_what_it_lacks(tmp_path: Path) -> None:
    suite = harness_toy.suite(tmp_path, CLASSIC)
    case = Case(instance_id=CLASSIC["instance_id"], patch=GOLD.encode())
    with pytest.raises(InputError, match=r"astropy__astropy-12907: .*found no eval_script, no log_parser"):
        OfficialGrader().grade(suite, case, tmp_path)


def test_a_suite_without_files_cannot_be_graded_so(tmp_path: Path) -> None:
    suite = load_suite("procedural:count=1")
    with pytest.raises(InputError, match="a suite of files"):
        OfficialGrader().grade(suite, Case(instance_id=suite.ids()[0], patch=b"x"), tmp_path)


def test_rows_with_pictures_elsewhere_are_refused() -> None:
    assets = {"test_patch": [{"path": "a.png", "url": "https://example.org/a.png"}]}
    for value in (assets, json.dumps(assets)):
        with pytest.raises(InputError, match="no image_assets"):
            official.check_row({**VERSION_5, "image_assets": value})
    official.check_row({**VERSION_5, "image_assets": '{"problem_statement": ["x"]}'})


def test_without_the_package_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise official.importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(official.importlib.metadata, "version", missing)
    with pytest.raises(ConfigError, match=r"pip install 'gym-code\[swebench\]'"):
        OfficialGrader()


def test_scripts_tell_their_exit_code_as_the_harness_has_them_do() -> None:
    utils = swebench_oracle.module("swebench.harness.utils")
    rows = [VERSION_5, harness_toy.row(), *export_rows(load_suite("starter"))]
    for row in rows:
        ours = official.recording_exit_code(row["eval_script"])
        assert ours.rstrip("\n") == utils.make_test_spec({"image": "", **row}).eval_script.rstrip("\n")


def test_the_commands_are_those_of_the_harness() -> None:
    theirs = swebench_oracle.module("swebench.harness.run_evaluation")
    assert list(official.APPLY) == theirs.GIT_APPLY_CMDS
