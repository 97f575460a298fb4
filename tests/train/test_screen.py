import io
from typing import Any

from rich.console import Console

from train.config import load_config
from train.report.screen import Screen, plain_line, sparkline, time_bar

CONFIG = load_config("tiny", {"steps": 40, "seed": 4})


def row(step: int, reward: float, **more: Any) -> dict[str, Any]:
    seconds = {"rollout": 6.0, "grade": 11.0, "train": 2.5, "sync": 1.5, "tokens_per_second_rollout": 1234.5}
    return {
        "step": step,
        "reward": reward,
        "invalid": 1,
        "refilled": 2,
        "seconds": seconds,
    } | more


def shown(*, terminal: bool, width: int, rows: list[dict[str, Any]], done: int = 0) -> str:
    """All that a run of these rows leaves on the console."""
    console = Console(file=io.StringIO(), force_terminal=terminal, width=width, height=50, color_system=None)
    with Screen(CONFIG, console, done=done) as screen:
        screen.doing("held-out, before", 3, 72)
        screen.doing("held-out, before", 72, 72)
        for one in rows:
            screen.step(one)
    file = console.file
    assert isinstance(file, io.StringIO)
    return file.getvalue()


def test_a_log_gets_one_plain_line_a_step() -> None:
    text = shown(
        terminal=False, width=80, rows=[row(0, 0.25, entropy=0.5), row(1, 0.5, approx_kl=float("nan"))]
    )
    assert text.splitlines() == [
        "held-out, before: 72 of 72",
        "step 1/40  reward 0.250  entropy 0.5  sampled/s 1,234  invalid 1  refilled 2  "
        "rollout 6.0 s  train 2.5 s  sync 1.5 s  grade 11.0 s",
        "step 2/40  reward 0.500  sampled/s 1,234  invalid 1  refilled 2  "
        "rollout 6.0 s  train 2.5 s  sync 1.5 s  grade 11.0 s",
    ]
    assert plain_line(row(1, 0.5), 40) == text.splitlines()[-1]


def last_frame(text: str) -> list[str]:
    """The panel as it stood when the screen was left: what follows the last time its upper edge was drawn."""
    return text[text.rindex("╭") :].splitlines()


def test_a_terminal_sees_bars_the_last_steps_and_what_was_counted() -> None:
    rows = [row(n, n / 12, dropped=1, replicas=2, stage=1.0, stage_solve_rate=0.375) for n in range(4, 14)]
    frame = last_frame(shown(terminal=True, width=120, rows=rows, done=4))
    text = "\n".join(frame)
    assert "tiny, dr_grpo, seed 4" in frame[0]
    assert any("training" in line and "14/40" in line and "left" in line for line in frame)
    assert any("held-out, before" in line and "72/72" in line for line in frame)
    assert [line.split()[1] for line in frame if line.split()[1:2] and line.split()[1].isdigit()] == [
        "7", "8", "9", "10", "11", "12", "13", "14",
    ]  # fmt: skip
    assert "▃▄▅▅▆▇▇███ 1.08" in text
    assert "rollout 60%  train 25%  sync 15%" in text
    assert "invalid 10   dropped 10   refilled 20   replicas 2" in text
    assert "stage 1, solve rate 0.38" in text


def test_no_line_is_wider_than_a_narrow_terminal_and_no_figure_is_cut() -> None:
    rows = [row(n, 0.5, solve_rate=0.5, entropy=1e-5, approx_kl=1e-5, mismatch=1e-5) for n in range(3)]
    frame = last_frame(shown(terminal=True, width=64, rows=rows))
    assert max(map(len, frame)) <= 64
    assert "…" not in "".join(line for line in frame if "training" not in line)


def test_blocks_and_bars_by_hand() -> None:
    assert sparkline([0.0, 0.124, 0.125, 0.5, 0.99, 1.0, -1.0, 2.0]) == "▁▁▂▅██▁█"
    assert sparkline([]) == ""
    assert time_bar({"rollout": 3.0, "train": 1.0}).plain == "█" * 40 + "  rollout 75%  train 25%"
    assert time_bar({"rollout": 0.0}).plain == ""
