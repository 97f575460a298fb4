"""What a reader must know before believing the figures of a summary, in sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from gym_code.grading import flags
from gym_code.types import JSON

FEW_INSTANCES = 10
FEW_DF = 4.0
"""Below so many degrees of freedom a t interval says more of its assumptions than of the agent."""
MOST_OF_ALL = 0.5
FORGED = (flags.RUNNER_TAMPERED, flags.DUPLICATE_REPORT, flags.CHANNEL_NOISE)
"""Flags that an honest patch hardly earns."""


def cautions(summary: Mapping[str, JSON]) -> list[str]:
    """Sentences of caution, the gravest first; none where nothing is to be said."""
    return [*_missing(summary), *_narrow(summary), *_believed(summary)]


def _missing(summary: Mapping[str, JSON]) -> list[str]:
    counts, said = summary["counts"], []
    if not summary["instances_graded"]:
        said.append("Nothing was graded: there is no score.")
    if counts["not_graded"]:
        said.append(
            f"The run is not finished: {_attempts(counts['not_graded'])} not graded yet and left out of "
            "every rate. `gym-code evaluate` with the same arguments goes on."
        )
    if counts["infrastructure"]:
        said.append(
            f"A fault of ours left {_attempts(counts['infrastructure'])} without a verdict. They are left "
            "out; the bounds say how much they could matter."
        )
    if counts["no_prediction"]:
        said.append(f"{_attempts(counts['no_prediction'])} without a prediction; they count as failed.")
    if len(summary["models"]) > 1:
        said.append(f"Predictions of {len(summary['models'])} models are mixed in one score.")
    return said


def _narrow(summary: Mapping[str, JSON]) -> list[str]:
    """What the headline's interval rests on."""
    if summary["resolved"] is None:
        return []
    rate, graded, said = summary["resolved"]["rate"], summary["instances_graded"], []
    if graded < FEW_INSTANCES:
        said.append(f"Only {graded} instance{'s' * (graded > 1)}: hardly any two agents could be told apart.")
    if rate["clusters"] == 1:
        said.append(
            "All instances are of one repository: nothing is known of how the agent does on others, and the "
            "interval is for this one alone."
        )
    else:
        largest = max(summary["strata"]["repository"], key=lambda each: each["resolved"]["tasks"])
        if rate["df"] is not None and rate["df"] < FEW_DF:
            said.append(
                f"The interval rests on {rate['clusters']} repositories, as good as "
                f"{rate['df'] + 1:.1f} equal ones: read it as a rough one."
            )
        if largest["resolved"]["tasks"] > MOST_OF_ALL * graded and largest["resolved"]["clusters"] == 1:
            part = largest["resolved"]["tasks"] / graded
            said.append(f"{part:.0%} of the instances are of one repository, {largest['name']}.")
        if rate["standard_error"] is None:
            said.append("All instances agree, so how repositories differ is assumed, not estimated.")
    if summary["samples"] > 1:
        said.append(
            "Samples of one instance are not independent: rates are means over instances, and more samples "
            "do not make up for few instances."
        )
    return said


def _believed(summary: Mapping[str, JSON]) -> list[str]:
    """What the verdicts themselves rest on."""
    said = []
    if summary["official"]:
        said.append(
            f"{_attempts(len(summary['official']))} graded by SWE-bench's own harness, which believes what "
            "the console of the tests says: a patch can forge that."
        )
    found = Counter({flag: len(summary["flags"].get(flag, ())) for flag in FORGED})
    if total := found.total():
        names = ", ".join(flag for flag in FORGED if found[flag])
        said.append(f"Signs of tampering ({names}) in {_attempts(total)}: look at these patches.")
    if summary["stability"] and summary["stability"]["flaky"]:
        flaky = len(summary["stability"]["flaky"])
        said.append(f"Gradings of one patch differ in {_attempts(flaky)}: its tests flake.")
    return said


def _attempts(count: int) -> str:
    return "1 attempt" if count == 1 else f"{count:,} attempts"
