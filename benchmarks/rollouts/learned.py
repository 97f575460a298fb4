"""What a finished run with ENGINE=vllm has left: held-out figures, and the proof of each version (law 9)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gym_code.errors import InputError
from gym_code.records import read


def read_run(run: Path) -> dict[str, Any]:
    """The figures of a run's directory. Raises `InputError` where it has not finished."""
    summary, metrics = run / "summary.json", run / "metrics.jsonl"
    if not summary.is_file():
        raise InputError(
            "the run has not finished", where=str(run), expected=summary.name, found="no such file"
        )
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    fresh = [count for n in range(len(rows)) for count in sampled_by(run, n)]
    said = json.loads(summary.read_text())
    return of_rows(rows) | {
        "fresh": round(sum(own for own, _ in fresh) / sum(total for _, total in fresh), 4),
        "tasks": said["heldout_tasks"],
        "before": said["heldout_pass1_before"],
        "after": said["heldout_pass1_after"],
        "greedy_before": said["heldout_greedy_before"],
        "greedy_after": said["heldout_greedy_after"],
        "gain": said["gain"],
        "gain_ci95": said["gain_ci95"],
    }


def sampled_by(run: Path, step: int) -> list[tuple[int, int]]:
    """Of each episode of a step: tokens sampled by the step's own version, and all.

    Raises `InputError` for a token of a version that staleness 1 does not allow.
    """
    counts = []
    path = run / "trajectories" / f"step-{step:05d}.jsonl"
    for trajectory in read(path).trajectories:
        own = total = 0
        for turn in trajectory.turns:
            if turn.completion is not None:
                version = turn.completion.policy_version
                if version not in (step - 1, step):
                    raise InputError(
                        "sampled by another version",
                        where=f"{path}: {trajectory.sample_id}",
                        expected=f"{step - 1} or {step}",
                        found=version,
                    )
                total += len(turn.completion.token_ids)
                own += len(turn.completion.token_ids) * (version == step)
        counts.append((own, total))
    return counts


def of_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What the rows of the steps say of versions, proofs and losses; distances in nats."""
    return {
        "steps": len(rows),
        "episodes": sum(row["rollouts"] for row in rows),
        "delivered": [int(row["delivered_version"]) for row in rows],
        "proofs": {
            "proven": sum(int(row["probe_proven"]) for row in rows),
            "new_largest": max(row["probe_new"] for row in rows),
            "last_smallest": min(row["probe_last"] for row in rows),
            "base_smallest": min(row["probe_base"] for row in rows),
        },
        "reward": [round(row["reward"], 4) for row in rows],
        "mismatch": rows[0]["mismatch"],
        "mismatch_kl": [row["mismatch_kl"] for row in rows],
        "invalid": int(sum(row["invalid"] for row in rows)),
        "dropped": int(sum(row["dropped"] for row in rows)),
        "retried": int(sum(row["retried"] for row in rows)),
        "seconds": {
            part: round(sum(row["seconds"][part] for row in rows) / len(rows), 2)
            for part in ("rollout", "train", "sync")
        },
    }
