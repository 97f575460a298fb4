"""SWE-bench's logs and run reports of an evaluation, in its directory.

Sample k > 0 has the run id NAME-k. Where SWE-bench's own grader was asked, its logs are taken as they are;
otherwise they are written from the outcomes (`gym_code.interop.reports`).
"""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from gym_code.errors import SandboxError
from gym_code.evaluate.official import row_of
from gym_code.files import replace_file
from gym_code.grading import flags
from gym_code.interop.official import classify
from gym_code.interop.reports import Grading, files_of, kind_of, run_report
from gym_code.interop.verdicts import tests_status
from gym_code.sandbox.dockerd import connect, translated
from gym_code.suite import DirectorySuite

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from gym_code.evaluate.results import Evaluation, Result
    from gym_code.interop.verdicts import EvalType
    from gym_code.task import Suite

LOGS = Path("logs/run_evaluation")
_PARSERS = {"django": "parse_log_django", "sympy": "parse_log_sympy"}
_NAME_BYTES = 100
"""Two of them and some dots are the name of a file, which may have 255."""
_LOG_FILES = ("test_output.txt", "run_instance.log")


def write_swebench_logs(evaluation: Evaluation, suite: Suite, directory: Path) -> list[Path]:
    """Write them anew, each sample's whole or not at all; the paths of the run reports."""
    shutil.rmtree(directory / LOGS.parent / ".new", ignore_errors=True)
    images = _images(suite, {result.instance_id for result in evaluation.results})
    name = _name(evaluation.name)
    run_ids = [f"{name}-{sample}" if sample else name for sample in range(evaluation.samples)]
    written = []
    for sample, run_id in enumerate(run_ids):
        results = [result for result in evaluation.results if result.sample == sample]
        written.append(_write_sample(run_id, results, suite, directory, images))
    _remove_others(name, run_ids, written, directory)
    return written


def _write_sample(
    run_id: str, results: Sequence[Result], suite: Suite, directory: Path, images: Iterable[str]
) -> Path:
    aside = directory / LOGS.parent / ".new"
    kinds, reasons = dict[str, str](), dict[str, tuple[str, str]]()
    for result in results:
        grading = _grading(result, suite)
        files = _kept_logs(result, directory) or files_of(grading)
        kinds[result.instance_id] = kind_of(grading, files)
        if not files:
            continue
        folder = aside / _name(result.model) / result.instance_id
        folder.mkdir(parents=True)
        for name, content in files.items():
            (folder / name).write_bytes(content)
        if kinds[result.instance_id] in ("unresolved", "error"):
            found = classify(*(folder / name for name in _LOG_FILES))
            reasons |= {result.instance_id: found} if found else {}
    final = directory / LOGS / run_id
    shutil.rmtree(final, ignore_errors=True)
    aside.mkdir(parents=True, exist_ok=True)
    final.parent.mkdir(exist_ok=True)
    aside.rename(final)
    report = run_report(kinds, reasons, sorted(images))
    model = next((result.model for result in results if kinds[result.instance_id] != "incomplete"), "")
    path = directory / f"{_name(model)}.{run_id}.json"
    replace_file(path, (json.dumps(report, indent=4) + "\n").encode())
    return path


def _remove_others(name: str, run_ids: Sequence[str], written: Sequence[Path], directory: Path) -> None:
    """Remove what an earlier writing of this run left and this one did not write again."""
    ours = re.compile(rf"{re.escape(name)}(-\d+)?")
    for folder in (directory / LOGS).iterdir():
        if ours.fullmatch(folder.name) and folder.name not in run_ids:
            shutil.rmtree(folder)
    for file in directory.glob("*.json"):
        model, dot, run_id = file.stem.rpartition(f".{name}")
        if dot and model and ours.fullmatch(name + run_id) and file not in written:
            file.unlink()


def _grading(result: Result, suite: Suite) -> Grading:
    task, answer = suite.task(result.instance_id), suite.answer(result.instance_id)
    row: Mapping[str, object] = row_of(suite, task.id) if isinstance(suite, DirectorySuite) else {}
    official = result.grader.startswith("official")
    rule = "official" if official else task.runner if task.ids == "swebench" else "exact"
    eval_type: EvalType = "fail_only" if row.get("eval_type") == "fail_only" else "pass_and_fail"
    return Grading(
        instance_id=result.instance_id,
        submitted=not (result.status == "incomplete" and result.resolved is False),
        patch=result.patch,
        resolved=result.resolved,
        applied=result.applied,
        timed_out=result.seconds if flags.TIMED_OUT in result.flags else None,
        status=tests_status(answer, result.outcomes, runner=rule, eval_type=eval_type),
        outcomes=result.outcomes,
        log_parser=str(row.get("log_parser") or _PARSERS.get(task.runner, "parse_log_pytest")),
        reason=result.reason,
    )


def _kept_logs(result: Result, directory: Path) -> dict[str, bytes]:
    """The logs of the newest attempt of SWE-bench's own grader that came to this result."""
    if not result.grader.startswith("official"):
        return {}
    attempts = directory / "attempts" / result.instance_id
    for folder in sorted(attempts.glob("*"), key=lambda path: path.stat().st_mtime, reverse=True):
        files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        report = json.loads(files.get("report.json", b"{}")).get(result.instance_id, {})
        if files.get("patch.diff") == result.patch and report.get("resolved", False) is result.resolved:
            return files
    return {}


def _name(text: str) -> str:
    """A model or a run as the name of a directory, as SWE-bench has it; cut short, and no way out."""
    raw = text.replace("/", "__").replace("\0", "_").encode("utf-8", "replace")
    name = raw[:_NAME_BYTES].decode("utf-8", "ignore")
    return name if name.strip(".") else f"_{name}"


def _images(suite: Suite, instances: Iterable[str]) -> list[str]:
    """The images of these instances that are on the daemon; none where no daemon answers."""
    named = {suite.task(name).environment.image for name in instances} - {None}
    if not named:
        return []
    try:
        client = connect()
        try:
            with translated("list images"):
                tags = {tag for image in client.images() for tag in image.get("RepoTags") or ()}
        finally:
            client.close()
    except SandboxError:
        return []
    return [
        name
        for name in named
        if name is not None and (name if ":" in name.rpartition("/")[2] else f"{name}:latest") in tags
    ]
