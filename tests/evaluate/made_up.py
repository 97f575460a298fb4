"""Small evaluations for tests of reports: verdicts in, an `Evaluation` out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gym_code.evaluate.results import Evaluation, Result, Status

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

TEST = "tests/test_a.py::test_new"
OLD = "tests/test_a.py::test_old"


def result(instance_id: str, verdict: bool | None, sample: int = 0, **fields: Any) -> Result:
    """A result with a verdict, or one lost to a fault of ours; `fields` say what is otherwise."""
    status: Status = "infrastructure" if verdict is None else "resolved" if verdict else "unresolved"
    outcomes = {} if verdict is None else {TEST: "passed" if verdict else "failed", OLD: "passed"}
    common: dict[str, Any] = {
        "model": "acme/coder",
        "repo": instance_id.split("-")[0].replace("__", "/"),
        "patch": b"diff --git a/a b/a\n",
        "status": status,
        "resolved": verdict,
        "applied": verdict is not None,
        "outcomes": outcomes,
        "fail_to_pass": (TEST,),
        "pass_to_pass": (OLD,),
        "gradings": () if verdict is None else (verdict,),
        "grader": "" if verdict is None else "clean-box 3",
    }
    return Result(instance_id=instance_id, sample=sample, **(common | fields))


def evaluation(*results: Result, **fields: Any) -> Evaluation:
    """An evaluation of these results."""
    common: dict[str, Any] = {
        "name": "run",
        "model": "acme/coder",
        "dataset": "verified.jsonl",
        "dataset_digest": "d1" * 32,
        "samples": 1 + max((each.sample for each in results), default=0),
    }
    return Evaluation(
        results=tuple(sorted(results, key=lambda each: (each.instance_id, each.sample))), **(common | fields)
    )


def of(verdicts: Mapping[str, Sequence[bool | None]], **fields: Any) -> Evaluation:
    """An evaluation of the verdicts of each instance's samples."""
    made = [
        result(name, verdict, sample)
        for name, each in verdicts.items()
        for sample, verdict in enumerate(each)
    ]
    return evaluation(*made, **fields)


# Six instances of three repositories: 2 of 3, 1 of 2, 0 of 1.
SIX: dict[str, tuple[bool | None, ...]] = {
    "a__a-1": (True,),
    "a__a-2": (True,),
    "a__a-3": (False,),
    "b__b-1": (True,),
    "b__b-2": (False,),
    "c__c-1": (False,),
}
