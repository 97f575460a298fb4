"""The page of a run: curves, held-out tasks, sample episodes, configuration; one file, no script, no request.

Whatever comes from a run (agents' words, task ids, file contents) goes through `text`.
"""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gym_code.stats import mean, mean_interval
from gym_code.types import Turn
from train.config import Config
from train.evaluate import TaskScore
from train.report.charts import Series, line_chart, share_chart, span, sparkline
from train.report.metrics import PARTS, WORK, Row, flat
from train.report.samples import Sample

STYLE = Path(__file__).with_name("page.css")
MOST_TEXT = 4000
"""Characters of one message of an episode that are shown."""
SMOOTH = 5
"""Steps that a smoothed curve takes the mean of."""

Evaluations = Sequence[tuple[int, Sequence[TaskScore]]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A chart of some figures of a row, by their flat names, each with what the legend calls it."""

    title: str
    of: Mapping[str, str]
    bounds: Sequence[float] = ()
    log: bool = False


CURVES = {
    "The policy": (
        Curve(title="Entropy (nats a token)", of={"entropy": "entropy"}),
        Curve(
            title="KL (nats a token)",
            of={
                "approx_kl": "from the old policy",
                "mismatch_kl": "from the served",
                "reference_kl": "from the base",
            },
        ),
        Curve(title="Largest gap of a logprob, served and trained", of={"mismatch": "mismatch"}, log=True),
        Curve(
            title="Probability ratio",
            of={"ratio_p01": "1 % quantile", "ratio_p99": "99 % quantile", "ratio_max": "largest"},
        ),
        Curve(
            title="Left out of the loss (fraction)",
            of={"clipped": "tokens clipped", "masked": "sequences masked"},
        ),
        Curve(title="Gradient norm", of={"grad_norm": "norm"}),
        Curve(title="Learning rate", of={"learning_rate": "rate"}),
    ),
    "Groups and episodes": (
        Curve(title="Variance of the reward within groups", of={"group_variance": "variance"}),
        Curve(
            title="Signal (fraction)",
            of={"with_gradient": "episodes with a gradient", "zero_variance": "groups without variance"},
            bounds=(0, 1),
        ),
        Curve(
            title="Lost (count)",
            of={
                "invalid": "episodes ungraded",
                "dropped": "completions dropped",
                "refilled": "groups refilled",
            },
        ),
        Curve(title="Staleness (versions)", of={"staleness_mean": "mean", "staleness_max": "largest"}),
        Curve(title="Turns an episode", of={"turns": "turns"}),
        Curve(title="Cut off by a limit (fraction)", of={"truncated": "episodes"}, bounds=(0, 1)),
        Curve(title="Curriculum: stage", of={"stage": "stage"}),
        Curve(title="Curriculum: solve rate of the stage", of={"stage_solve_rate": "rate"}, bounds=(0, 1)),
    ),
    "Speed": (
        Curve(
            title="Tokens a second",
            of={"seconds/tokens_per_second_rollout": "sampled", "seconds/tokens_per_second_train": "trained"},
        ),
        Curve(
            title="Work in rollouts, much of it side by side (seconds)",
            of={f"seconds/{part}": part for part in WORK},
        ),
        Curve(title="Tokens a step", of={"sampled_tokens": "sampled", "trained_tokens": "trained"}),
    ),
}  # fmt: skip


def page(
    config: Config,
    name: str,
    rows: Sequence[Row],
    evaluations: Evaluations,
    summary: Mapping[str, Any] | None,
    samples: Sequence[Sample],
) -> str:
    """The HTML of a run; `summary` is None where it is not finished."""
    figures = [flat(row) for row in rows]
    sections = {title: _curves(curves, figures) for title, curves in CURVES.items()}
    sections["Speed"] += _shares(rows)
    settings = [(key, text(str(value))) for key, value in dataclasses.asdict(config).items()]
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{text(name)}: GRPO on {text(config.model)}</title>
<style>{STYLE.read_text()}</style></head><body>
<h1>{text(name)}</h1>
<p class="lead">{_lead(config, rows, summary)}
<a href="#heldout">Held-out tasks</a>, <a href="#episodes">sample episodes</a>,
<a href="#configuration">configuration</a></p>
<section class="hero">{_learning(figures, evaluations)}
<div class="tiles">{_tiles(rows, evaluations, summary)}</div></section>
{"".join(_section(title, charts) for title, charts in sections.items())}
<h2 id="heldout">Held-out tasks</h2>
{_held_out(config, rows, evaluations, summary)}
<h2 id="episodes">Episodes of the last step</h2>
{"".join(_episode(sample) for sample in samples) or "<p>None yet.</p>"}
<details id="configuration"><summary>Configuration</summary>{_table((), settings)}</details>
</body></html>
"""


def text(value: str) -> str:
    """Text that cannot be taken for markup; control characters, which no page may hold, are replaced."""
    return html.escape(_CONTROL.sub("\ufffd", value))


_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff]")


def _lead(config: Config, rows: Sequence[Row], summary: Mapping[str, Any] | None) -> str:
    state = "finished" if summary else f"not finished: {len(rows)} of {config.steps} steps"
    control = "" if config.control == "none" else f", control: {config.control}"
    what = f"GRPO on {config.model}, {config.objective}, engine {config.engine}, seed {config.seed}{control}"
    return text(f"{what}; {state}.")


def _tiles(rows: Sequence[Row], evaluations: Evaluations, summary: Mapping[str, Any] | None) -> str:
    made = []
    if summary:
        low, high = summary["gain_ci95"]
        before, after = summary["heldout_pass1_before"], summary["heldout_pass1_after"]
        made.append(
            (
                "held-out pass@1",
                f"{before:.3f} → {after:.3f}",
                f"gain {summary['gain']:+.3f} [{low:+.3f}, {high:+.3f}]",
            )
        )
        made.append(("wall time", f"{summary['wall_seconds'] / 60:.1f} min", ""))
    elif evaluations:
        steps, scores = evaluations[-1]
        made.append(
            ("held-out pass@1", f"{mean([s.pass1 for s in scores if s.trained]):.3f}", f"after {steps} steps")
        )
    if rows:
        ungraded = sum(row["invalid"] for row in rows)
        made.append(
            (
                "reward, last steps",
                f"{mean([row['reward'] for row in rows[-SMOOTH:]]):.3f}",
                f"mean of {min(SMOOTH, len(rows))}",
            )
        )
        made.append(("episodes", f"{sum(row['rollouts'] for row in rows):,}", f"{ungraded:,} ungraded"))
        made.append(("tokens sampled", f"{sum(row['sampled_tokens'] for row in rows):,}", ""))
    return "".join(
        f"<div><span>{label}</span><b>{value}</b><span>{note}</span></div>" for label, value, note in made
    )


def _learning(figures: Sequence[Mapping[str, float]], evaluations: Evaluations) -> str:
    reward = _points(figures, "reward")
    smooth = [
        (steps, mean([value for _, value in reward[max(0, n - SMOOTH + 1) : n + 1]]))
        for n, (steps, _) in enumerate(reward)
    ]
    series = [
        Series(label=f"reward, mean of {SMOOTH} steps", points=smooth),
        Series(label="reward of a step", points=reward, color=1, faint=True),
    ]
    for color, label, trained in ((2, "held-out pass@1, 95 %", True), (4, "left-out families", False)):
        rates = [
            (steps, [s.pass1 for s in scores if s.trained is trained and s.samples])
            for steps, scores in evaluations
        ]
        rates = [(steps, values) for steps, values in rates if values]
        series.append(
            Series(
                label=label,
                points=[(steps, mean(values)) for steps, values in rates],
                intervals=[mean_interval(values) for _, values in rates],
                color=color,
            )
        )
    return line_chart("Learning", series, bounds=(0, 1))


def _shares(rows: Sequence[Row]) -> str:
    parts = {part: [row["seconds"].get(part, 0.0) for row in rows] for part in PARTS}
    return share_chart("Where the time of a step goes", [row["step"] + 1 for row in rows], parts)


def _curves(curves: Sequence[Curve], figures: Sequence[Mapping[str, float]]) -> str:
    return "".join(
        line_chart(
            curve.title,
            [Series(label=label, points=_points(figures, key)) for key, label in curve.of.items()],
            bounds=curve.bounds,
            log=curve.log,
        )
        for curve in curves
    )


def _points(figures: Sequence[Mapping[str, float]], key: str) -> list[tuple[float, float]]:
    return [(figure["step"] + 1, figure[key]) for figure in figures if key in figure]


def _section(title: str, charts: str) -> str:
    return f'<h2>{title}</h2>\n<section class="grid">{charts}</section>\n' if charts else ""


def _held_out(
    config: Config, rows: Sequence[Row], evaluations: Evaluations, summary: Mapping[str, Any] | None
) -> str:
    if summary:
        return _compared(config, rows, summary)
    if not evaluations:
        return "<p>Not evaluated yet.</p>"
    steps, scores = evaluations[-1]
    by_family = {
        family: [s for s in scores if s.family == family]
        for family in dict.fromkeys(s.family for s in scores)
    }
    body = [
        (
            text(family),
            f"{mean([s.pass1 for s in of]):.3f}",
            f"{mean([s.greedy or 0.0 for s in of]):.3f}",
            str(len(of)),
        )
        for family, of in by_family.items()
    ]
    return f"<p>After {steps} steps.</p>" + _table(("", "pass@1", "greedy", "tasks"), body)


def _compared(config: Config, rows: Sequence[Row], summary: Mapping[str, Any]) -> str:
    named = [("all trained families", summary)]
    if summary["left_out"]:
        named.append(("families left out of training", summary["left_out"]))
    named += [
        (name if of["trained"] else f"{name} (left out)", of) for name, of in summary["families"].items()
    ]
    named += [(f"suite {name}", of) for name, of in summary.get("suites", {}).items()]
    body = []
    for name, of in named:
        low, high = of["gain_ci95"]
        trained = [row["reward_by_family"][name] for row in rows if name in row.get("reward_by_family", {})]
        body.append((
            text(name), f"{of['heldout_pass1_before']:.3f}", f"{of['heldout_pass1_after']:.3f}",
            span(of["heldout_pass1_before"], of["heldout_pass1_after"]),
            f"{of['gain']:+.3f} [{low:+.3f}, {high:+.3f}]",
            f"{of['heldout_greedy_before']:.3f}", f"{of['heldout_greedy_after']:.3f}", sparkline(trained),
        ))  # fmt: skip
    head = ("", "before", "after", "0 to 1", "gain", "greedy before", "greedy after", "training reward")
    return (
        f"<p>{summary['heldout_tasks']} tasks; pass@1 at temperature {config.temperature}, "
        f"{config.eval_samples} samples a task; "
        "gain with its 95 % paired bootstrap interval over tasks; greedy is one sample at temperature 0. "
        f"{summary['ungraded']} ungraded episodes are left out.</p>" + _table(head, body)
    )


def _table(head: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    """A table of markup; the first column names the rows."""
    made = "<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>" if head else ""
    for first, *rest in body:
        made += f"<tr><th>{first}</th>" + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>\n"
    return f'<div class="wide"><table>{made}</table></div>'


def _episode(sample: Sample) -> str:
    trajectory = sample.trajectory
    reward = (
        "none"
        if trajectory.reward is None or trajectory.reward.value is None
        else f"{trajectory.reward.value:g}"
    )
    stop = "not stopped" if trajectory.stop is None else trajectory.stop.value
    parts = [_block("task", sample.instruction or "(the suite is not at hand)")]
    for turn in trajectory.turns:
        parts += _turn(turn)
    if trajectory.error:
        parts.append(_block("error", trajectory.error))
    parts.append(_block("patch", trajectory.patch.decode("utf-8", "replace") or "(nothing changed)"))
    title = f"{sample.why}: reward {reward}, {len(trajectory.turns)} turns, {stop}, {trajectory.task_id}"
    return f"<details><summary>{text(title)}</summary>{''.join(parts)}</details>\n"


def _turn(turn: Turn) -> list[str]:
    made = [_block(str(m.get("role", "message")), str(m.get("content", ""))) for m in turn.messages]
    if turn.completion is not None:
        made.append(_block("policy", turn.completion.text))
    made += [
        _block(f"call {call.name}", json.dumps(dict(call.arguments), indent=1, ensure_ascii=False))
        for call in turn.calls
    ]
    made += [_block("error" if result.is_error else "result", result.content) for result in turn.results]
    return made


def _block(label: str, content: str) -> str:
    cut = len(content) - MOST_TEXT
    shown = content if cut <= 0 else f"{content[:MOST_TEXT]}\n... {cut} more characters"
    kind = label.split()[0] if label.split()[0] in ("task", "policy", "call", "error", "patch") else "result"
    return f'<div class="block {kind}"><span>{text(label)}</span><pre>{text(shown)}</pre></div>'
