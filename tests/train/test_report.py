import json
import math
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from gym_code.records import append
from gym_code.types import Completion, Reward, Stop, ToolCall, ToolResult, Trajectory, Turn
from train.config import load_config, to_toml
from train.evaluate import TaskScore, dump
from train.report.__main__ import main
from train.report.charts import Series, line_chart, number_text, share_chart, ticks
from train.report.samples import samples_of
from train.report.summary import evaluations, write_report

CONFIG = load_config("tiny", {"seed": 4})
HOSTILE = "</script><img src=x onerror=alert(1)> ]]> &amp; '\" \x00\x1b[31m \ud800 <!-- </pre></details>"


def score(
    number: int, family: str, samples: tuple[float, ...], greedy: float, trained: bool = True
) -> TaskScore:
    return TaskScore(
        task_id=f"procedural__{family}-l1-f1-eval-{number}",
        family=family,
        trained=trained,
        samples=samples,
        greedy=greedy,
        ungraded=0,
    )


def row(step: int, **more: Any) -> dict[str, Any]:
    return {
        "step": step,
        "reward": step / 10,
        "reward_by_family": {"gap": step / 10},
        "rollouts": 8,
        "invalid": 0,
        "sampled_tokens": 100,
        "seconds": {"rollout": 3.0, "train": 1.0, "tokens_per_second_rollout": 33.3},
        **more,
    }


def episode(sample: str, value: float | None, text: str = "hi", task_id: str = "calc__add-1") -> Trajectory:
    completion = Completion(token_ids=(1,), logprobs=(0.0,), text=text, finish_reason="stop")
    turn = Turn(
        completion=completion,
        calls=(ToolCall(id="1", name=text, arguments={text: text}),),
        results=(ToolResult(call_id="1", content=text),),
    )
    return Trajectory(
        task_id=task_id,
        task_digest="",
        suite="nowhere to be found",
        sample_id=sample,
        turns=(turn,),
        stop=Stop.SUBMITTED,
        patch=text.encode("utf-8", "replace"),
        reward=Reward(value=value),
    )


def finished(run: Path) -> None:
    """The held-out results that a finished run has left."""
    before = [score(n, "gap", (0.0, 1.0), 0.0) for n in range(4)]
    after = [score(n, "gap", (1.0, 1.0), 1.0) for n in range(4)]
    (run / "heldout-before.json").write_bytes(dump([*before, score(9, "pages", (0.5,), 1.0, trained=False)]))
    (run / "heldout-after.json").write_bytes(dump([*after, score(9, "pages", (0.5,), 0.0, trained=False)]))


def page_of(run: Path) -> ET.Element:
    """The page, parsed as XML: it must be well-formed, UTF-8, and without control characters."""
    return ET.fromstring((run / "report.html").read_text(encoding="utf-8"))


def references(page: ET.Element) -> list[str]:
    """Whatever a browser would fetch or follow, save places in the page itself."""
    named = [
        value
        for element in page.iter()
        for name, value in element.attrib.items()
        if name in ("src", "href", "srcset", "data", "action", "poster") and not value.startswith("#")
    ]
    style = "".join(element.text or "" for element in page.iter("style"))
    return named + re.findall(r"url\(|@import", style)


def test_a_finished_run_leaves_a_summary_a_curve_and_a_page(tmp_path: Path) -> None:
    finished(tmp_path)
    made = write_report(tmp_path, CONFIG, [row(0), row(1)], wall_seconds=60.0)
    assert made["heldout_pass1_before"] == 0.5
    assert made["heldout_pass1_after"] == 1.0
    assert (made["heldout_greedy_before"], made["heldout_greedy_after"]) == (0.0, 1.0)
    assert (made["gain"], made["gain_ci95"]) == (0.5, (0.5, 0.5))
    assert (made["heldout_tasks"], made["rollouts"], made["seed"], made["control"]) == (4, 16, 4, "none")
    assert made["left_out"]["gain"] == 0.0
    assert json.loads((tmp_path / "summary.json").read_text())["gain"] == 0.5
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    page = page_of(tmp_path)
    cells = [["".join(cell.itertext()) for cell in line] for line in page.iter("tr")]
    assert ["gap", "0.500", "1.000", "", "+0.500 [+0.500, +0.500]", "0.000", "1.000", ""] in cells
    assert [
        "pages (left out)",
        "0.500",
        "0.500",
        "",
        "+0.000 [+0.000, +0.000]",
        "1.000",
        "0.000",
        "",
    ] in cells
    assert ["seed", "4"] in cells
    assert references(page) == []
    assert list(page.iter("script")) == []


def test_ungraded_samples_leave_the_comparison(tmp_path: Path) -> None:
    lost = TaskScore(task_id="x", family="gap", trained=True, samples=(), greedy=None, ungraded=2)
    (tmp_path / "heldout-before.json").write_bytes(dump([score(1, "gap", (1.0,), 1.0), lost]))
    (tmp_path / "heldout-after.json").write_bytes(
        dump([score(1, "gap", (1.0,), 1.0), score(2, "gap", (0.0,), 0.0)])
    )
    made = write_report(tmp_path, CONFIG, [], wall_seconds=1.0)
    assert (made["heldout_tasks"], made["heldout_pass1_after"], made["ungraded"]) == (1, 1.0, 2)


def test_the_page_shows_each_figure_that_the_rows_have(tmp_path: Path) -> None:
    finished(tmp_path)
    rows = [
        row(0, entropy=0.5, mismatch=1e-6, ratio_p01=0.9, ratio_p99=1.1),
        row(1, entropy=0.25, mismatch=1e-5, ratio_p01=0.8, ratio_p99=math.inf),
    ]
    write_report(tmp_path, CONFIG, rows, wall_seconds=60.0)
    charts = {
        figure[0].text: [title.text for title in figure.iter("title")]
        for figure in page_of(tmp_path).iter("figure")
    }
    assert charts["Entropy (nats a token)"] == ["step 1\nentropy: 0.5", "step 2\nentropy: 0.25"]
    assert charts["Probability ratio"] == [
        "step 1\n1 % quantile: 0.9\n99 % quantile: 1.1",
        "step 2\n1 % quantile: 0.8",
    ]
    assert charts["Where the time of a step goes"][0] == "step 1\nrollout: 75%\ntrain: 25%"
    assert charts["Learning"] == [
        "step 0\nheld-out pass@1, 95 %: 0.5\nleft-out families: 0.5",
        "step 1\nreward, mean of 5 steps: 0\nreward of a step: 0",
        "step 2\nreward, mean of 5 steps: 0.05\nreward of a step: 0.1\n"
        "held-out pass@1, 95 %: 1\nleft-out families: 0.5",
    ]
    assert "Gradient norm" not in charts


def test_hostile_words_of_an_agent_stay_words(tmp_path: Path) -> None:
    finished(tmp_path)
    hostile = [score(1, "</script><img src=x onerror=alert(1)>", (1.0,), 1.0)]
    for name in ("before", "after"):
        (tmp_path / f"heldout-{name}.json").write_bytes(dump(hostile))
    (tmp_path / "trajectories").mkdir()
    append(tmp_path / "trajectories" / "step-00001.jsonl", episode("a", 1.0, HOSTILE, task_id=HOSTILE))
    write_report(tmp_path, CONFIG, [row(0)], wall_seconds=60.0)
    page = page_of(tmp_path)
    assert not {element.tag for element in page.iter()} & {"img", "script"}
    assert [name for element in page.iter() for name in element.attrib if name.startswith("on")] == []
    blocks = {
        block[0].text: block[1].text for block in page.iter("div") if block.get("class", "")[:5] == "block"
    }
    seen = HOSTILE.replace("\x00", "\ufffd").replace("\x1b", "\ufffd").replace("\ud800", "?")
    assert blocks["policy"] == blocks["result"] == blocks["patch"] == seen
    assert blocks["task"] == "(the suite is not at hand)"
    assert blocks[f"call {seen}"] is not None


def test_what_a_run_that_goes_on_has_left_so_far(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.toml").write_text(to_toml(CONFIG))
    assert main([str(tmp_path)]) == 0
    assert "not finished: 0 of 35 steps" in "".join(page_of(tmp_path).itertext())
    (tmp_path / "heldout-before.json").write_bytes(dump([score(1, "gap", (0.0, 1.0), 0.0)]))
    (tmp_path / "heldout-step-00002.json").write_bytes(dump([score(1, "gap", (1.0, 1.0), 1.0)]))
    (tmp_path / "metrics.jsonl").write_text(
        json.dumps(row(0)) + "\n" + json.dumps(row(1)) + '\n{"step": 2, "re'
    )
    (tmp_path / "trajectories").mkdir()
    append(tmp_path / "trajectories" / "step-00001.jsonl", episode("a", 1.0))
    with (tmp_path / "trajectories" / "step-00001.jsonl").open("a") as file:
        file.write('{"schema_version": 1, "task_')
    assert main([str(tmp_path)]) == 0
    text = "".join(page_of(tmp_path).itertext())
    assert "not finished: 2 of 35 steps" in text
    assert "After 2 steps." in text
    assert "best: reward 1, 1 turns, submitted, calc__add-1" in text
    assert not (tmp_path / "summary.json").exists()
    assert main([str(tmp_path / "none")]) == 2
    assert "no run" in capsys.readouterr().err


def test_a_finished_run_can_be_reported_again(tmp_path: Path) -> None:
    finished(tmp_path)
    (tmp_path / "config.toml").write_text(to_toml(CONFIG))
    (tmp_path / "metrics.jsonl").write_text(json.dumps(row(0)) + "\n")
    write_report(tmp_path, CONFIG, [row(0)], wall_seconds=60.0)
    once = (tmp_path / "report.html").read_bytes()
    (tmp_path / "report.html").unlink()
    assert main([str(tmp_path)]) == 0
    assert (tmp_path / "report.html").read_bytes() == once


def test_evaluations_stand_at_the_steps_done_before_them(tmp_path: Path) -> None:
    for name, reward in (("before", 0.0), ("step-00010", 0.5), ("step-5", 0.25), ("after", 1.0)):
        (tmp_path / f"heldout-{name}.json").write_bytes(dump([score(1, "gap", (reward,), 0.0)]))
    (tmp_path / "heldout-step-best.json").write_text("no evaluation")
    found = [(steps, scores[0].pass1) for steps, scores in evaluations(tmp_path, 20)]
    assert found == [(0, 0.0), (5, 0.25), (10, 0.5), (20, 1.0)]


def test_samples_are_the_best_the_worst_and_an_ungraded_one_of_the_last_step(tmp_path: Path) -> None:
    assert samples_of(tmp_path) == []
    append(tmp_path / "step-00001.jsonl", episode("old", 1.0))
    values = (0.5, 0.0, 1.0, None, 1.0, 0.0)
    append(tmp_path / "step-00002.jsonl", *[episode(str(n), value) for n, value in enumerate(values)])
    found = [(sample.why, sample.trajectory.sample_id) for sample in samples_of(tmp_path)]
    assert found == [("best", "2"), ("worst", "1"), ("not graded", "3")]
    append(tmp_path / "step-00003.jsonl", episode("alone", 1.0, task_id="procedural__gap-l1-f1-train-3"))
    assert [sample.why for sample in samples_of(tmp_path)] == ["best"]


def test_a_sample_tells_what_its_task_asked_for(tmp_path: Path) -> None:
    task_id = "procedural__gap-l1-f1-train-3"
    made = episode("a", 1.0, task_id=task_id)
    append(tmp_path / "step-00000.jsonl", Trajectory(**{**_fields(made), "suite": "procedural"}))
    assert samples_of(tmp_path)[0].instruction.startswith("Implement ")


def _fields(trajectory: Trajectory) -> dict[str, Any]:
    return {name: getattr(trajectory, name) for name in Trajectory.__dataclass_fields__}


def test_marks_of_an_axis_are_round_and_take_in_all_values() -> None:
    assert ticks(0.13, 0.58) == [0.0, 0.2, 0.4, 0.6]
    assert ticks(0, 1) == [0.0, 0.5, 1.0]
    assert ticks(-3, 1050) == [-500.0, 0.0, 500.0, 1000.0, 1500.0]
    assert ticks(1e-6, 4.2e-6) == [1e-6, 2e-6, 3e-6, 4e-6, 5e-6]
    assert [number_text(v) for v in (0.0, 1e-6, 0.1234, 12.34, 123.4, 45678.0)] == [
        "0", "1e-06", "0.123", "12.3", "123", "45,678",
    ]  # fmt: skip


def points(svg: str, kind: str) -> list[list[tuple[float, float]]]:
    """The corners of each polyline or polygon."""
    found = re.findall(rf'<{kind} class="[^"]*" points="([^"]*)"', svg)
    return [[(float(x), float(y)) for x, y in (pair.split(",") for pair in path.split())] for path in found]


def test_a_line_is_drawn_where_its_values_say() -> None:
    # The plot spans x 46..428 for steps 1..3 and y 206..10 for values 0..1.
    svg = line_chart("t", [Series(label="a", points=[(1, 0.0), (2, 0.5), (3, 1.0)])])
    assert points(svg, "polyline") == [[(46.0, 206.0), (237.0, 108.0), (428.0, 10.0)]]
    svg = line_chart("t", [Series(label="a", points=[(1, 1e-6), (2, 0.0), (3, 1e-4)])], log=True)
    assert points(svg, "polyline") == [[(46.0, 206.0), (428.0, 10.0)]]
    assert line_chart("t", [Series(label="a", points=[(1, 0.0)])], log=True) == ""
    assert "<circle" in line_chart("t", [Series(label="a", points=[(1, 0.0)])])


def test_shares_are_stacked_to_the_whole() -> None:
    svg = share_chart("t", [1, 2], {"rollout": [3.0, 0.0], "idle": [0.0, 0.0], "train": [1.0, 0.0]})
    first, second = points(svg, "polygon")
    assert first == [(46.0, 59.0), (428.0, 206.0), (428.0, 206.0), (46.0, 206.0)]
    assert second == [(46.0, 10.0), (428.0, 206.0), (428.0, 206.0), (46.0, 59.0)]
    assert share_chart("t", [], {}) == ""
    assert len(points(share_chart("t", [1], {"a": [1.0]}), "polygon")[0]) == 4
