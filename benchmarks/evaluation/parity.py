"""Our verdicts beside those of SWE-bench's own harness, on real instances and seven kinds of answers.

    python -m benchmarks.evaluation parity                    # all instances of instances.toml
    python -m benchmarks.evaluation parity --instances 2      # the first two

Every difference must be explained in `REVIEWED`; one that is not makes the command end with status 1.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.evaluation import official
from benchmarks.evaluation.corpus import rows
from benchmarks.evaluation.variants import VARIANTS
from benchmarks.page import put_into_readme
from gym_code.evaluate.results import load_evaluation
from gym_code.interop.verdicts import tests_status
from gym_code.types import Answer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.evaluation.corpus import Instance
    from benchmarks.evaluation.official import Official
    from gym_code.evaluate.results import Result

OUR_COMMAND = "from gym_code.cli import main; main()"
TIMEOUT = 60
"""Seconds for the tests of an instance: with an answer that hangs, all of them pass."""
REVIEWED: dict[tuple[str, str], str] = {}
"""Why a verdict differs, by instance and variant: looked at one by one, by people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One prediction, judged by both."""

    instance_id: str
    variant: str
    official: str
    ours: str
    equal: bool
    """Whether both say resolved, or neither."""
    tests_differ: tuple[str, ...] = ()
    """Graded tests that one counts as a success and the other does not, where both ran them."""
    reason: str = ""
    """Why the verdicts differ, where somebody has found out."""


def line(instance: Instance, variant: str, theirs: Official, ours: Result) -> Line:
    """The comparison of two verdicts on one prediction."""
    equal = ours.resolved is theirs.resolved
    return Line(
        instance_id=instance.id,
        variant=variant,
        official=theirs.state,
        ours=ours.status if not ours.flags else f"{ours.status} ({', '.join(ours.flags)})",
        equal=equal,
        tests_differ=_tests_differ(theirs, ours),
        reason="" if equal else REVIEWED.get((instance.id, variant), ""),
    )


def _tests_differ(theirs: Official, ours: Result) -> tuple[str, ...]:
    if theirs.status is None or not ours.outcomes:
        return ()
    answer = Answer(
        task_id=ours.instance_id,
        fail_to_pass=ours.fail_to_pass,
        pass_to_pass=ours.pass_to_pass,
        gold_patch=b"",
        test_patch=b"",
    )
    status = tests_status(answer, ours.outcomes, runner=ours.runner)
    kinds = ("FAIL_TO_PASS", "PASS_TO_PASS")
    found = {
        name for kind in kinds for name in {*status[kind]["success"]} ^ {*theirs.status[kind]["success"]}
    }
    return tuple(sorted(found))


def compare(folder: Path, instances: Sequence[Instance], workers: int, timeout: int) -> list[Line]:
    """Every prediction judged by both. folder: where the corpus and the official verdicts are kept."""
    data = rows(folder, instances)
    pairs = list(zip(instances, data, strict=True))
    ours = graded(data, instances, workers, timeout)
    theirs = official.verdicts(folder, pairs, VARIANTS, timeout, workers)
    return [
        line(instance, variant, theirs[instance.id, variant], ours[instance.id, number])
        for instance in instances
        for number, variant in enumerate(VARIANTS)
    ]


def graded(
    data: Sequence[Mapping[str, Any]], instances: Sequence[Instance], workers: int, timeout: int
) -> dict[tuple[str, int], Result]:
    """Our results by instance id and number of the variant: `gym-code evaluate`, a sample for each."""
    with tempfile.TemporaryDirectory(prefix="gym-code-parity-") as name:
        folder = Path(name)
        official.write_lines(folder / "rows.jsonl", data)
        for variant in VARIANTS:
            patches = {instance.id: instance.predictions[variant] for instance in instances}
            official.write_lines(folder / f"{variant}.jsonl", official.predictions(patches, variant))
        command = our_command(VARIANTS, workers, timeout)
        done = subprocess.run(command, cwd=folder, check=False, stdout=sys.stderr)
        if done.returncode not in (0, 1):  # 1: something has no verdict, which is a difference below
            raise subprocess.CalledProcessError(done.returncode, command)
        return {(each.instance_id, each.sample): each for each in load_evaluation(folder / "out").results}


def our_command(samples: Sequence[str], workers: int, timeout: int) -> list[str]:
    """`gym-code evaluate` on rows.jsonl and a predictions file for each sample, into the directory `out`."""
    command = [sys.executable, "-c", OUR_COMMAND, "evaluate", "--dataset", "rows.jsonl"]
    for sample in samples:
        command += ["--predictions", f"{sample}.jsonl"]
    command += ["-j", str(workers), "--grader", "clean-box", "--sandbox", "docker"]
    return [*command, "--timeout", str(timeout), "--out", "out"]


def summary(lines: Sequence[Line]) -> dict[str, Any]:
    """How many agree, and what does not."""
    unequal = [each for each in lines if not each.equal]
    return {
        "instances": len({each.instance_id for each in lines}),
        "cases": len(lines),
        "equal": len(lines) - len(unequal),
        "explained": sum(bool(each.reason) for each in unequal),
        "unexplained": [[each.instance_id, each.variant] for each in unequal if not each.reason],
        "tests_differ": sum(bool(each.tests_differ) for each in lines),
    }


def markdown(lines: Sequence[Line], swebench: str) -> str:
    """The counts by variant, and every difference."""
    found = summary(lines)
    text = [
        "| answer | cases | resolved by both | by neither | differ |",
        "|---|---|---|---|---|",
    ]
    for variant in VARIANTS:
        mine = [each for each in lines if each.variant == variant]
        counts = Counter("differ" if not e.equal else e.official == "resolved" for e in mine)
        text.append(f"| {variant} | {len(mine)} | {counts[True]} | {counts[False]} | {counts['differ']} |")
    text += [
        "",
        f"- {found['instances']} instances, {found['cases']} cases: {found['equal']} verdicts equal to those "
        f"of `swebench` {swebench}, {found['explained']} explained as different, "
        f"{len(found['unexplained'])} not",
        f"- cases in which a single test counts otherwise: {found['tests_differ']}",
    ]
    for each in lines:
        if not each.equal:
            why = each.reason or "NOT EXPLAINED"
            text.append(
                f"- {each.instance_id}, {each.variant}: {each.official} there, {each.ours} here: {why}"
            )
    return "\n".join(text) + "\n"


def table(lines: Sequence[Line]) -> str:
    """All cases."""
    text = ["| instance | answer | swebench | gym-code | equal | tests that differ |", "|---" * 6 + "|"]
    text += [
        f"| {e.instance_id} | {e.variant} | {e.official} | {e.ours} | {'yes' if e.equal else 'NO'} "
        f"| {len(e.tests_differ) or ''} |"
        for e in lines
    ]
    return "\n".join(text) + "\n"


def report(lines: Sequence[Line], seed: int, out: Path, *, readme: bool) -> int:
    """Write parity.json and parity.md, print the counts and the differences; 1 where one is unexplained."""
    found, version = summary(lines), official.version()
    text = markdown(lines, version)
    out.mkdir(parents=True, exist_ok=True)
    results = {"swebench": version, "seed": seed, **found, "cases": [asdict(each) for each in lines]}
    (out / "parity.json").write_text(json.dumps(results, indent=1) + "\n")
    (out / "parity.md").write_text(f"# Every verdict\n\n{text}\n{table(lines)}")
    if readme:
        put_into_readme("benchmarks.evaluation.parity", text)
    print(text, end="")
    return 1 if found["unexplained"] else 0
