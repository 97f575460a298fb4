"""Predictions: what is written, what is played again, and whose fault a missing patch is."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from agents.budgets import parse_limits, parse_totals
from agents.players import AgentPlayer, agent_player
from agents.policy import Decision, PolicyError
from agents.predict import HOPELESS, Played, predict
from agents.scripted import Scripted, submit
from gym_code import records
from gym_code.errors import ConfigError, EnvironmentBuildError, SandboxUnavailable
from gym_code.interop import read_predictions
from gym_code.patch import apply_patch
from gym_code.sandbox.memory import MemoryBackend, MemorySandbox
from gym_code.types import Task, ToolCall
from tests.toys import ADD, NEW, WORD, ToySuite

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from gym_code.sandbox.base import BoxSpec

ROOT = Path(__file__).parents[2]
SUITE = ToySuite()
IDS = SUITE.ids()


class Slips(Scripted):
    """Costs 1 a turn; the first `broken` episodes of a task end with `error`. Counts what it begins."""

    name = "slips"
    begun: ClassVar[list[str]] = []

    def __init__(self, *, broken: int = 0, error: str = "HTTP 503") -> None:
        super().__init__()
        self.broken, self.error = broken, error

    def script(self, task: Task, tools: Sequence[Mapping[str, Any]], seed: int) -> Sequence[Decision]:
        Slips.begun.append(task.id)
        if Slips.begun.count(task.id) <= self.broken:
            return ()
        view = ToolCall(id="v", name="view", arguments={"path": "."})
        return [Decision(text="x", calls=(view,), tokens=100, cost=1.0), submit("s")]

    def decide(self, messages: Sequence[Any]) -> Decision:
        if not self._decisions and self.error == "crash":
            raise ZeroDivisionError("a bug of the policy")
        if not self._decisions:
            raise PolicyError(self.error)
        return super().decide(messages)


@pytest.fixture(autouse=True)
def _nothing_begun() -> None:
    Slips.begun.clear()


def slips(
    suite: ToySuite = SUITE, *, jobs: int = 1, backend: MemoryBackend | None = None, **options: Any
) -> AgentPlayer:
    return agent_player(f"{__name__}:Slips", options, suite, backend or MemoryBackend(), jobs=jobs)


def played(player: AgentPlayer, out: Path, ids: Sequence[str] = IDS, **options: Any) -> Played:
    with player:
        return predict(player, SUITE, ids, out=out, **options)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_seconds(out: Path) -> dict[str, list[dict[str, Any]]]:
    """What a directory holds; seconds are the only values that may differ."""
    files = {path.name: rows(path) for path in sorted(out.iterdir())}
    for row in [row for found in files.values() for row in found]:
        row.get("gym", row).pop("seconds" if "gym" in row else "timings")
    return files


def test_a_row_for_each_task_and_sample_in_order(tmp_path: Path) -> None:
    ids = (WORD.id, ADD.id)
    found = played(agent_player("oracle", {}, SUITE, MemoryBackend(), jobs=3), tmp_path, ids, samples=2)
    assert found.files == (tmp_path / "predictions-0.jsonl", tmp_path / "predictions-1.jsonl")
    assert (found.unplayed, found.faults) == ((), ())
    for number, file in enumerate(found.files):
        assert [row["instance_id"] for row in rows(file)] == list(ids)
        for row in rows(file):
            about = row.pop("gym")
            assert about.pop("seconds") > 0
            assert about.pop("seed") > 0
            assert about == {
                "sample": number, "turns": 2, "tokens": 0, "cost": 0.0, "stop": "submitted", "error": None,
            }  # fmt: skip
            assert row["model_name_or_path"] == "oracle"
    [word, add] = read_predictions(found.files[0], known=ids).values()
    for toy, prediction in ((WORD, word), (ADD, add)):
        files = SUITE.start(toy.id).files()
        made = apply_patch(files, (prediction.patch or "").encode())
        assert {path: file.content.decode() for path, file in made.items() if file} == toy.gold
    kept = records.read(tmp_path / "trajectories.jsonl").trajectories
    assert [(t.task_id, t.reward, t.agent) for t in kept] == [(i, None, "oracle") for i in ids for _ in "01"]
    assert kept[0].seed != kept[1].seed


def test_a_patch_that_is_no_utf_8_keeps_its_bytes(tmp_path: Path) -> None:
    class Latin(Scripted):
        def script(self, task: Task, tools: Sequence[Any], seed: int) -> Sequence[Decision]:
            return (submit("s"),)

    class Backend(MemoryBackend):
        def open(self, spec: BoxSpec) -> MemorySandbox:
            box = super().open(spec)
            box.write("calc.py", b"# caf\xe9\n")
            return box

    player = AgentPlayer(Latin, SUITE, Backend(), jobs=1, identity={})
    [file] = played(player, tmp_path, (ADD.id,)).files
    [row] = rows(file)
    patch = row["model_patch"].encode("utf-8", "surrogateescape")
    assert apply_patch(SUITE.start(ADD.id).files(), patch)["calc.py"].content == b"# caf\xe9\n"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "content",
    [b"x" * 21_000_000, b"\x01" * 7_000_000, b"\xe9" * 7_000_000],
    ids=["bytes", "as JSON", "no UTF-8"],
)
def test_a_patch_that_nobody_takes_costs_one_instance_and_not_the_evaluation(
    tmp_path: Path, content: bytes
) -> None:
    class Backend(MemoryBackend):
        def open(self, spec: BoxSpec) -> MemorySandbox:
            box = super().open(spec)
            box.write("junk.txt", content + b"\n")
            return box

    found = played(agent_player("noop", {}, SUITE, Backend(), jobs=1), tmp_path, (ADD.id,))
    assert read_predictions(found.files[0], known=(ADD.id,))[ADD.id].patch is None
    [row] = rows(found.files[0])
    assert row["gym"]["error"] is None
    assert row["gym"]["refused"].startswith("a patch of ")
    assert found.faults == ()


def test_the_same_files_whatever_the_order_of_completion(tmp_path: Path) -> None:
    for name, jobs in (("one", 1), ("four", 4)):
        player = agent_player("random", {"turns": 3}, SUITE, MemoryBackend(), jobs=jobs)
        played(player, tmp_path / name, samples=3)
    assert without_seconds(tmp_path / "one") == without_seconds(tmp_path / "four")


def test_what_was_played_is_not_played_again(tmp_path: Path) -> None:
    told: list[tuple[int, int, str]] = []
    played(slips(), tmp_path, samples=2, on_done=lambda *state: told.append(state))
    assert [done for done, _, _ in told] == [0, 1, 2, 3, 4, 5, 6]
    assert told[-1][1:] == (6, "toy__new-1 sample 1: submitted, 2 turns")
    before = without_seconds(tmp_path)
    played(slips(), tmp_path, samples=2)
    assert len(Slips.begun) == 6
    assert without_seconds(tmp_path) == before
    played(slips(), tmp_path, samples=3)  # one sample more
    assert len(Slips.begun) == 9


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"limits": {"turns": 5}}, {"options": {"error": "HTTP 500"}}],
    ids=["seed", "limits", "options"],
)
def test_what_was_asked_otherwise_is_played_anew_and_the_old_is_kept(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    played(slips(), tmp_path)
    first = records.read(tmp_path / "trajectories.jsonl").trajectories
    played(slips(**change.pop("options", {})), tmp_path, **change)
    assert len(Slips.begun) == 6
    now = records.read(tmp_path / "trajectories.jsonl").trajectories
    assert len(now) == 6
    assert now[3:] == first
    assert not {t.sample_id for t in now[:3]} & {t.sample_id for t in first}


def test_a_torn_tail_is_played_again_and_nothing_else(tmp_path: Path) -> None:
    played(slips(), tmp_path)
    whole = without_seconds(tmp_path)
    journal = tmp_path / "trajectories.jsonl"
    journal.write_bytes(journal.read_bytes()[:-30])
    (tmp_path / "predictions-0.jsonl").unlink()
    Slips.begun.clear()
    played(slips(), tmp_path)
    assert Slips.begun == [NEW.id]
    assert without_seconds(tmp_path) == whole


def test_kill_9_again_and_again_ends_with_the_same_files(tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("killed_predictor.py"))]
    subprocess.run([*command, str(tmp_path / "whole"), "0"], cwd=ROOT, check=True, timeout=120)
    journal = tmp_path / "killed" / "trajectories.jsonl"
    for kill in range(3):
        process = subprocess.Popen([*command, str(tmp_path / "killed"), "0.05"], cwd=ROOT)
        while process.poll() is None:
            lines = journal.read_bytes().count(b"\n") if journal.is_file() else 0
            if lines > 3 * kill + 1:
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.005)
        assert process.wait(timeout=60) == -signal.SIGKILL, "it was done before it could be killed"
    subprocess.run([*command, str(tmp_path / "killed"), "0"], cwd=ROOT, check=True, timeout=120)
    assert without_seconds(tmp_path / "killed") == without_seconds(tmp_path / "whole")
    ids = [t.sample_id for t in records.read(journal).trajectories]
    assert len(ids) == len(set(ids)) == 24


def test_a_broken_episode_is_tried_again_after_the_others(tmp_path: Path) -> None:
    found = played(slips(broken=2), tmp_path, (ADD.id,))
    assert Slips.begun == [ADD.id] * 3
    assert found.faults == ()
    [row] = rows(found.files[0])
    assert (row["model_patch"], row["gym"]["error"], row["gym"]["turns"]) == ("", None, 2)
    tries = records.read(tmp_path / "trajectories.jsonl").trajectories
    assert [t.error for t in tries] == ["PolicyError: HTTP 503"] * 2 + [None]


def test_a_fault_of_ours_is_no_empty_patch(tmp_path: Path) -> None:
    found = played(slips(broken=9), tmp_path, (ADD.id,), retries=1)
    assert found.faults == ((ADD.id, 0, "PolicyError: HTTP 503"),)
    [row] = rows(found.files[0])
    assert (row["model_patch"], row["gym"]["stop"]) == (None, None)
    assert row["gym"]["error"] == "PolicyError: HTTP 503"
    # Its tries are used up: only more of them are played.
    Slips.begun.clear()
    assert played(slips(broken=9), tmp_path, (ADD.id,), retries=1).faults == found.faults
    assert Slips.begun == []
    assert played(slips(broken=9), tmp_path, (ADD.id,), retries=2).faults == found.faults
    assert Slips.begun == [ADD.id]


def test_a_sandbox_that_fails_and_a_policy_that_crashes_are_told_apart_from_no_change(tmp_path: Path) -> None:
    class Broken(MemoryBackend):
        def open(self, spec: BoxSpec) -> MemorySandbox:
            raise EnvironmentBuildError("the image cannot be pulled")

    error = "EnvironmentBuildError: the image cannot be pulled"
    found = played(slips(backend=Broken()), tmp_path / "a", (ADD.id,))
    assert found.faults == ((ADD.id, 0, error),)
    assert rows(found.files[0])[0]["gym"]["stop"] == "sandbox fault"
    found = played(slips(broken=9, error="crash"), tmp_path / "b", (ADD.id,))
    assert found.faults == ((ADD.id, 0, "ZeroDivisionError: a bug of the policy"),)


def test_where_no_box_opens_at_all_nothing_is_recorded(tmp_path: Path) -> None:
    class Missing(MemoryBackend):
        def open(self, spec: BoxSpec) -> MemorySandbox:
            raise SandboxUnavailable("no bubblewrap")

    with pytest.raises(SandboxUnavailable):
        played(slips(backend=Missing()), tmp_path)
    assert (tmp_path / "trajectories.jsonl").read_bytes() == b""


def test_an_endpoint_that_is_gone_ends_the_run_and_not_the_data_set(tmp_path: Path) -> None:
    with pytest.raises(
        PolicyError, match=f"{HOPELESS} episodes in a row broke, each with: PolicyError: HTTP"
    ):
        played(slips(broken=99), tmp_path, samples=10)
    assert len(Slips.begun) == HOPELESS == 10
    Slips.begun.clear()
    # Some failures among others are no reason to end.
    assert len(played(slips(broken=2), tmp_path / "b", samples=10).faults) == 0


def test_a_budget_for_the_whole_run_says_what_was_not_played(tmp_path: Path) -> None:
    found = played(slips(), tmp_path, samples=2, totals={"cost": 3.0})
    assert found.used["cost"] == 3.0
    assert found.used["tokens"] == 300
    assert found.unplayed == ((WORD.id, 1), (NEW.id, 0), (NEW.id, 1))
    assert [row["instance_id"] for row in rows(found.files[0])] == [ADD.id, WORD.id]
    assert [row["instance_id"] for row in rows(found.files[1])] == [ADD.id]
    assert played(slips(), tmp_path, samples=2, totals={"cost": 3.0}).unplayed == found.unplayed
    assert played(slips(), tmp_path, samples=2, totals={"cost": 5.0}).unplayed == ((NEW.id, 1),)
    assert len(Slips.begun) == 5


def test_limits_of_an_episode_stop_it(tmp_path: Path) -> None:
    for limits, stop in (
        ({"turns": 1}, "turn limit"),
        ({"tokens": 100}, "token limit"),
        ({"cost": 0.5}, "cost limit"),
    ):
        [file] = played(slips(), tmp_path / stop, (ADD.id,), limits=limits).files
        [row] = rows(file)
        assert (row["gym"]["stop"], row["gym"]["turns"], row["model_patch"]) == (stop, 1, "")


def test_what_must_be_there_is_held_while_an_episode_is_played(tmp_path: Path) -> None:
    held: list[str] = []

    @contextmanager
    def hold(task_id: str) -> Iterator[None]:
        held.append(task_id)
        assert Slips.begun.count(task_id) == held.count(task_id) - 1
        yield
        assert Slips.begun.count(task_id) == held.count(task_id)

    player = agent_player(f"{__name__}:Slips", {}, SUITE, MemoryBackend(), jobs=1, hold=hold)
    [file] = played(player, tmp_path, arrange=lambda wanted: list(wanted)[::-1]).files
    assert held == list(IDS)[::-1]
    assert [row["instance_id"] for row in rows(file)] == list(IDS)


def test_a_recorded_run_is_played_again_episode_by_episode(tmp_path: Path) -> None:
    first = played(agent_player("random", {}, SUITE, MemoryBackend(), jobs=2), tmp_path / "a", samples=2)
    file = str(tmp_path / "a" / "trajectories.jsonl")
    again = played(
        agent_player("replay", {"file": file}, SUITE, MemoryBackend(), jobs=2), tmp_path / "b", samples=2
    )
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes(Path(file).read_bytes())
    identities = [
        agent_player("replay", {"file": str(f)}, SUITE, MemoryBackend(), jobs=1).identity
        for f in (file, moved)
    ]
    assert identities[0] == identities[1]
    for before, after in zip(first.files, again.files, strict=True):
        assert [row["model_patch"] for row in rows(before)] == [row["model_patch"] for row in rows(after)]


def test_options_that_do_not_fit_are_refused_before_anything_is_played(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="its options"):
        agent_player("noop", {"turns": 3}, SUITE, MemoryBackend(), jobs=1)


def test_the_key_of_an_endpoint_is_written_nowhere(tmp_path: Path) -> None:
    options = {
        "model": "some/model",
        "base_url": "http://127.0.0.1:9/v1",
        "api_key": "s3cret",
        "max_retries": 0,
    }
    player = agent_player("llm", options, SUITE, MemoryBackend(), jobs=1)
    assert player.name == "some/model"
    assert played(player, tmp_path, (ADD.id,), retries=0).faults
    assert not any(b"s3cret" in path.read_bytes() for path in tmp_path.iterdir())
    assert (
        player.identity
        == agent_player("llm", options | {"base_url": "http://x/v1"}, SUITE, MemoryBackend(), jobs=1).identity
    )


def test_budgets_are_read() -> None:
    assert parse_limits(["turns=40", "tokens=2e5", "cost=2.5", "seconds=900"]) == {
        "turns": 40, "tokens": 200_000, "cost": 2.5, "seconds": 900.0,
    }  # fmt: skip
    assert parse_totals([]) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("turns", "--agent-limit: not a budget (expected NAME=AMOUNT, NAME one of turns, tokens"),
        ("days=3", "--agent-limit: not a budget (expected NAME=AMOUNT, NAME one of turns, tokens"),
        ("turns=0", "--agent-limit turns: wrong amount (expected a whole number above 0, found 0)"),
        ("tokens=1.5", "--agent-limit tokens: wrong amount (expected a whole number above 0, found 1.5)"),
        ("cost=nan", "--agent-limit cost: wrong amount (expected a number above 0"),
        ("seconds=inf", "--agent-limit seconds: wrong amount (expected a number above 0"),
        ("cost=much", "--agent-limit cost: wrong amount (expected a number above 0"),
    ],
)
def test_budgets_that_make_no_sense_are_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_limits([text])
    assert str(refused.value).startswith(said)
