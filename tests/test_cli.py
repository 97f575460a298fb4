"""The command line: what it prints for machines, its exit status, one clear line for an error."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gym_code import records
from gym_code.cli import main
from gym_code.cli.bench import quantile
from gym_code.cli.episodes import parse_options, refuse_unwritable
from gym_code.cli.tasks import default_target
from gym_code.errors import ConfigError
from gym_code.types import ToolResult

ROOT = Path(__file__).resolve().parent.parent
SUITE = "procedural:seed=7,count=3"


class Ran:
    """What a command left: its status and what it wrote."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    @property
    def json(self) -> Any:
        [line] = self.out.splitlines()
        return json.loads(line)


@pytest.fixture
def gym_code(capfd: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: str) -> Ran:
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main(arguments)
        out, err = capfd.readouterr()
        return Ran(int(exit_info.value.code or 0), out, err)

    return run


def first_task(gym_code: Any) -> str:
    return str(gym_code("tasks", "list", SUITE, "--ids").out.splitlines()[0])


def test_list(gym_code: Any) -> None:
    rows = gym_code("tasks", "list", SUITE, "--json").json
    assert len(rows) == 3
    assert set(rows[0]) == {"id", "kind", "repo", "family", "difficulty", "visible_tests"}
    table = gym_code("tasks", "list", SUITE)
    assert table.status == 0
    assert all(row["id"] in table.out for row in rows)
    assert gym_code("tasks", "list", SUITE, "--ids").out.splitlines() == [row["id"] for row in rows]
    assert gym_code("tasks", "list", "--json").status == 0


def test_show_reveals_the_answer_only_when_asked(gym_code: Any) -> None:
    task = first_task(gym_code)
    shown = gym_code("tasks", "show", SUITE, task)
    public = gym_code("tasks", "show", SUITE, task, "--json")
    secret = gym_code("tasks", "show", SUITE, task, "--json", "--answer").json
    gold, hidden = secret["answer"]["gold_patch"], secret["answer"]["fail_to_pass"]
    assert gold.startswith("diff --git")
    assert hidden
    for text in (shown.out, public.out):
        assert "gold_patch" not in text
        assert not any(test in text for test in hidden)
    assert public.json["id"] == task
    assert public.json["instruction"] in shown.out
    assert hidden[0] in gym_code("tasks", "show", SUITE, task, "--answer").out


@pytest.mark.sandbox
def test_check(gym_code: Any) -> None:
    found = gym_code("tasks", "check", SUITE, "--runs", "2", "--limit", "2", "--json")
    assert found.status == 0
    assert (found.json["tasks"], found.json["sound"]) == (2, 2)
    assert [row["oracle"] for row in found.json["results"]] == [[1.0, 1.0], [1.0, 1.0]]
    assert [row["noop"] for row in found.json["results"]] == [[0.0, 0.0], [0.0, 0.0]]
    assert "2 of 2 tasks are sound" in gym_code("tasks", "check", SUITE, "--runs", "1", "--limit", "2").out


def test_check_of_broken_files_names_them_and_grades_nothing(gym_code: Any, tmp_path: Path) -> None:
    (tmp_path / "sweb.yaml").write_text("name: broken\ndatasets: [a/b]\n")
    (tmp_path / "tasks" / "a__b-1").mkdir(parents=True)
    (tmp_path / "tasks" / "a__b-1" / "task.yaml").write_text("instance_id: 3\n")
    found = gym_code("tasks", "check", str(tmp_path), "--json")
    assert found.status == 1
    assert any(
        "tasks/a__b-1/task.yaml" in problem and "instance_id" in problem for problem in found.json["problems"]
    )
    assert gym_code("tasks", "check", str(tmp_path)).status == 1


@pytest.mark.sandbox
def test_run_grade_and_replay(gym_code: Any, tmp_path: Path) -> None:
    task, out = first_task(gym_code), tmp_path / "runs" / "a.jsonl"
    ran = gym_code("run", "--suite", SUITE, "--task", task, "--agent", "oracle", "--out", str(out), "--json")
    assert ran.status == 0
    assert {
        key: ran.json[key] for key in ("task", "agent", "stop", "reward", "resolved", "valid", "turns")
    } == {
        "task": task,
        "agent": "oracle",
        "stop": "submitted",
        "reward": 1.0,
        "resolved": True,
        "valid": True,
        "turns": 2,
    }
    assert set(ran.json["tests"].values()) == {"passed"}
    noop = gym_code("run", "--suite", SUITE, "--task", task, "--agent", "noop", "--out", str(out))
    assert noop.status == 0
    assert "reward    0.0" in noop.out

    [oracle, _] = records.read(out).trajectories
    assert oracle.suite == SUITE
    (tmp_path / "gold.patch").write_bytes(oracle.patch)
    (tmp_path / "none.patch").write_bytes(b"")
    grade = ("grade", "--suite", SUITE, "--task", task, "--patch")
    good, bad = (
        gym_code(*grade, str(tmp_path / "gold.patch"), "--json"),
        gym_code(*grade, str(tmp_path / "none.patch")),
    )
    assert (good.status, good.json["reward"], good.json["resolved"], good.json["flags"]) == (0, 1.0, True, [])
    assert bad.status == 1
    assert "reward    0.0\nresolved  False\nvalid     True\n" in bad.out

    again = gym_code("replay", str(out), "--grade", "--json")
    assert again.status == 0
    assert (again.json["same"], again.json["torn"], len(again.json["records"])) == (True, None, 2)


@pytest.mark.sandbox
def test_a_replay_that_differs_is_status_1_and_a_torn_tail_is_told(gym_code: Any, tmp_path: Path) -> None:
    task, out = first_task(gym_code), tmp_path / "a.jsonl"
    gym_code("run", "--suite", SUITE, "--task", task, "--out", str(out))
    [trajectory] = records.read(out).trajectories
    turn = replace(trajectory.turns[0], results=(ToolResult(call_id="oracle-1", content="Edited it all."),))
    records.append(out, replace(trajectory, turns=(turn, *trajectory.turns[1:])))
    with out.open("ab") as file:
        file.write(b'{"schema_ver')
    found = gym_code("replay", str(out), "--json")
    assert found.status == 1
    assert [row["divergence"] is None for row in found.json["records"]] == [True, False]
    assert found.json["records"][1]["divergence"].startswith("turn 1: observation differs")
    assert "its 12 bytes were left out" in found.json["torn"]


@pytest.mark.sandbox
def test_an_agent_of_ones_own_with_options(gym_code: Any) -> None:
    options = ("--agent-option", "turns=2", "--seed", "4")
    ran = gym_code(
        "run",
        "--suite",
        SUITE,
        "--task",
        first_task(gym_code),
        "--agent",
        "agents.scripted:Random",
        *options,
        "--json",
    )
    assert (ran.status, ran.json["agent"], ran.json["turns"], ran.json["seed"]) == (0, "random", 3, 4)


@pytest.mark.sandbox
def test_doctor_where_boxes_run(gym_code: Any) -> None:
    told = gym_code("doctor", "--json")
    assert (told.status, told.json["ok"]) == (0, True)
    assert {"name", "ok", "detail", "mend", "required"} == set(told.json["findings"][0])
    assert gym_code("doctor").out.endswith("boxes run here\n")


def test_doctor_says_what_is_missing_and_what_mends_it(
    gym_code: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "unshare").symlink_to(shutil.which("unshare") or "unshare")
    monkeypatch.setenv("PATH", str(tmp_path))
    told = gym_code("doctor")
    assert told.status == 1
    assert "MISSING git" in told.out
    assert "mend it with: apt-get install git" in told.out
    assert told.out.endswith("boxes do not run here\n")


def test_gc_goes_on_where_no_daemon_answers(gym_code: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    assert (
        "no Docker daemon answers at unix:///nowhere.sock"
        in gym_code("gc", "--dry-run", "--json").json["docker"]
    )
    assert "Docker was left alone: no Docker daemon" in gym_code("gc", "--dry-run").out


def test_gc_says_what_it_would_remove_and_removes_it(gym_code: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not below pytest's own directory, which the boxes of root could not enter.
    with tempfile.TemporaryDirectory(prefix="gym-code-test-") as home:
        Path(home).chmod(0o755)
        monkeypatch.setenv("GYM_CODE_HOME", home)
        left = Path(home) / "layers" / ".part-1-1-x"
        left.mkdir(parents=True)
        assert str(left) in gym_code("gc", "--dry-run", "--json").json["directories"]
        assert left.exists()
        assert str(left) in gym_code("gc").out
        assert not left.exists()
        assert str(left) not in gym_code("gc", "--json").json["directories"]


@pytest.mark.sandbox
def test_bench(gym_code: Any) -> None:
    found = gym_code("bench", "--suite", SUITE, "--runs", "2", "--json").json
    assert [row["operation"] for row in found["timings"]] == [
        "reset",
        "exec",
        "write",
        "diff",
        "digest",
        "fork",
        "grade",
    ]
    assert all(0 < row["median_ms"] <= row["p90_ms"] for row in found["timings"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("tasks", "list", "nowhere"), "nowhere: no such suite"),
        (("tasks", "show", SUITE, "nothing"), "nothing: no procedural task"),
        (("run", "--suite", SUITE, "--task", "nothing"), "nothing: no procedural task"),
        (("run", "--suite", SUITE, "--task", "x", "--agent", "nobody"), "agent: no such agent"),
        (
            ("run", "--suite", SUITE, "--task", "x", "--agent-option", "x"),
            "--agent-option: wrong agent option (expected KEY=VALUE",
        ),
        (
            ("grade", "--suite", SUITE, "--task", "x", "--patch", "/nowhere/x.patch"),
            "/nowhere/x.patch: cannot be read",
        ),
        (
            ("run", "--suite", SUITE, "--task", "x", "--out", "/proc/nope/x"),
            "/proc/nope/x: cannot be written",
        ),
        (("run", "--suite", SUITE, "--task", "x", "--out", "/"), "/: cannot be written"),
        (("tasks", "list", "n" * 5000), "n" * 200 + ": no such suite"),
        (("replay", "/nowhere/x.jsonl"), "/nowhere/x.jsonl: No such file or directory"),
        (("bench", "--suite", SUITE, "--sandbox", "cloud"), "no such sandbox backend (expected auto"),
    ],
)
def test_bad_input_is_one_clear_line_and_status_2(
    gym_code: Any, arguments: tuple[str, ...], message: str
) -> None:
    said = gym_code(*arguments)
    assert said.status == 2
    assert said.err.startswith(f"gym-code: {message}")
    assert said.err.count("\n") == 1
    assert said.out == ""
    told = gym_code(*arguments, "--json")
    assert told.status == 2
    assert told.json["error"].startswith(message)


def test_a_task_id_longer_than_any_file_name_is_one_clear_line(gym_code: Any, tmp_path: Path) -> None:
    (tmp_path / "sweb.yaml").write_text("name: s\ndatasets: [a/b]\n")
    said = gym_code("tasks", "show", str(tmp_path), "n" * 300)
    assert (said.status, said.err.count("\n"), said.out) == (2, 1, "")
    assert said.err.startswith(f"gym-code: {tmp_path}: no such task (expected one of 0 ids")


def test_an_output_file_is_tried_and_left_as_it_was(tmp_path: Path) -> None:
    refuse_unwritable(tmp_path / "new" / "a.jsonl")
    assert list((tmp_path / "new").iterdir()) == []
    (tmp_path / "b.jsonl").write_bytes(b"x\n")
    refuse_unwritable(tmp_path / "b.jsonl")
    assert (tmp_path / "b.jsonl").read_bytes() == b"x\n"


@pytest.mark.parametrize("arguments", [("list", "--json"), ("list", SUITE), ("list", SUITE, "--json")])
def test_a_full_disk_behind_standard_output_is_one_line_and_status_2(arguments: tuple[str, ...]) -> None:
    command = [sys.executable, "-c", "from gym_code.cli import main; main()", "tasks", *arguments]
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(command, cwd=ROOT, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (2, "gym-code: [Errno 28] No space left on device\n")


@pytest.mark.parametrize(
    "error", [OSError(5, "odd"), RecursionError("deep"), ValueError("x"), OverflowError("y")]
)
def test_what_nobody_foresaw_is_one_line_and_status_2(
    gym_code: Any, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fail(ref: str) -> None:
        raise error

    monkeypatch.setattr("gym_code.task.load_suite", fail)
    said = gym_code("tasks", "list", SUITE, "--json")
    assert (said.status, said.err) == (2, f"gym-code: {error}\n")
    assert said.json == {"error": str(error), "kind": type(error).__name__}


def test_bad_usage_is_status_2(gym_code: Any) -> None:
    assert gym_code("run", "--suite", SUITE).status == 2
    assert gym_code("fly").status == 2
    assert gym_code("tasks", "check", SUITE, "--runs", "0").status == 2


def test_an_empty_trajectory_file_is_bad_input(gym_code: Any, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"schema')
    said = gym_code("replay", str(tmp_path / "a.jsonl"))
    assert said.status == 2
    assert "holds no whole record" in said.err


def test_without_a_checkout_run_and_train_say_so(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:] = [p for p in sys.path if p not in ('', sys.argv[1])]\n"
        "class Wheel:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('agents', 'train'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}')\n"
        "sys.meta_path.insert(0, Wheel())\n"
        "sys.path.append(sys.argv[1])\n"
        "from gym_code.cli import main\n"
        "main(sys.argv[2:])\n"
    )
    for command in (("train", "--model", "tiny"), ("run", "--suite", SUITE, "--task", "x")):
        ran = subprocess.run(
            [sys.executable, "-c", code, str(ROOT), *command],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            check=False,
        )
        assert ran.returncode == 2
        assert "this command needs a checkout of gym-code" in ran.stderr
        assert "Traceback" not in ran.stderr


def test_agent_options_are_json_or_text() -> None:
    assert parse_options(["model=m", "turns=3", 'sampling={"top_p": 1}', "url=http://x/?a=b"]) == {
        "model": "m",
        "turns": 3,
        "sampling": {"top_p": 1},
        "url": "http://x/?a=b",
    }
    with pytest.raises(ConfigError, match="expected KEY=VALUE, found a-b=1"):
        parse_options(["a-b=1"])


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("pypi:toolz==1.0.0", "tasks/toolz"),
        ("https://example.org/team/calc.git", "tasks/calc"),
        ("../calc/", "tasks/calc"),
        ("pypi:toolz==1.0.0#sha256=0a", "tasks/toolz"),
        ("real", "tasks/real"),
        ("real:toolz,semver", "tasks/real"),
    ],
)
def test_where_made_tasks_go(source: str, target: str) -> None:
    assert default_target(source) == Path(target)


def test_a_package_that_is_not_listed_is_one_line_and_status_2(gym_code: Any) -> None:
    ran = gym_code("tasks", "make", "real:leftpad")
    assert (ran.status, ran.out) == (2, "")
    assert len(ran.err.splitlines()) == 1
    assert "real:leftpad: not in the list of packages (expected cachetools," in ran.err


def test_quantiles() -> None:
    assert quantile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.0
    assert quantile([4.0, 1.0, 3.0, 2.0], 0.9) == 4.0
    assert quantile([1.0], 0.5) == 1.0
