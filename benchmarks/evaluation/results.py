"""From rounds to what is said of them: gradings a minute, ratios round by round, disk, containers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.evaluation.throughput import OURS, THEIRS, THEIRS_AT_ONCE, WORKERS, Round
from benchmarks.training_speed.results import median_ratio

LEAST = 2.0
"""How many times as many gradings a minute as SWE-bench's harness ours must do."""
CONTESTANTS = (OURS, THEIRS, THEIRS_AT_ONCE)


def of_rounds(rounds: Sequence[Sequence[Round]]) -> dict[str, Any]:
    """Everything that is kept of a run. Sizes in bytes."""
    by_name = {who: [each for done in rounds for each in done if each.who == who] for who in CONTESTANTS}
    rates = {who: [each.rate for each in mine] for who, mine in by_name.items()}
    return {
        "rounds": len(rounds),
        "rows": [
            {
                "name": who,
                "gradings": sum(len(each.cases) for each in mine),
                "rates": [round(rate, 2) for rate in rates[who]],
                "median": round(float(np.median(rates[who])), 1),
                "docker_peak": max(each.docker_peak for each in mine),
                "state_peak": max(each.state_peak for each in mine),
                "left": sum(each.left for each in mine),
            }
            for who, mine in by_name.items()
        ],
        "ratios": [_ratio(rates[OURS], rates[who], who) for who in CONTESTANTS[1:]],
        "verdicts": _verdicts(rounds),
        "required": LEAST,
    }


def _ratio(ours: Sequence[float], theirs: Sequence[float], who: str) -> dict[str, Any]:
    ratio, (low, high) = median_ratio(ours, theirs)
    return {"name": who, "ratio": round(ratio, 2), "interval_95": [round(low, 2), round(high, 2)]}


def _verdicts(rounds: Sequence[Sequence[Round]]) -> dict[str, int]:
    """Of what both graded in a round: how many verdicts, and how many differ."""
    compared = differ = 0
    for done in rounds:
        found = {each.who: each for each in done}
        for who in CONTESTANTS[1:]:
            mine = {case for case in found[OURS].resolved if case in found[who].cases}
            compared += len(found[who].cases)
            differ += len(mine ^ found[who].resolved)
    return {"compared": compared, "differ": differ}


def markdown(results: Mapping[str, Any]) -> str:
    """The table for people, and the required outcomes."""
    lines = [
        f"| {WORKERS} workers, Docker | gradings | a minute: median (slowest to fastest round) "
        "| disk of Docker, most | state directory, most | containers left |",
        "|---" * 6 + "|",
    ]
    for row in results["rows"]:
        slow, fast = min(row["rates"]), max(row["rates"])
        disk = f"{row['docker_peak'] / 1e6:,.0f} MB | {row['state_peak'] / 1e6:,.0f} MB"
        lines.append(
            f"| {row['name']} | {row['gradings']} | {row['median']:.1f} ({slow:.1f} to {fast:.1f}) "
            f"| {disk} | {row['left']} |"
        )
    lines.append("")
    for each in results["ratios"]:
        low, high = each["interval_95"]
        said = f"{each['ratio']:.1f} times [{low:.1f}, {high:.1f}]"
        if each["name"] == THEIRS:
            word = "PASS" if low >= results["required"] else "FALLS SHORT"
            lines.append(
                f"- {word}: at least {results['required']:g} times as many gradings as swebench: {said}"
            )
        else:
            lines.append(f"- against {each['name']}: {said}")
    left = results["rows"][0]["left"]
    lines.append(f"- {'PASS' if not left else 'FALLS SHORT'}: no container of ours is left: {left}")
    verdicts, machine = results["verdicts"], results["machine"]
    lines.append(
        f"- {results['instances']} instances in {results['rounds']} interleaved rounds; "
        f"of {verdicts['compared']} verdicts that both gave {verdicts['differ']} differ; "
        f"load average when it began: {machine['load_at_start']} on {machine['cores']} cores"
    )
    return "\n".join(lines) + "\n"
