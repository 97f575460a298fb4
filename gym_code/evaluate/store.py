"""A run's directory: what was asked, and every attempt at grading.

run.json              what was asked, replaced whole when a run starts
predictions-N.jsonl   the predictions of sample N, as they were read
chosen.jsonl          best of n: which sample was chosen
attempts.jsonl        one line an attempt, added whole; nothing is ever taken out
suite/                the instances, where they came as rows

An attempt is kept under a key of the task's content, the patch and the grader. What changed since is graded
again, what did not is not, whatever the run is called and wherever its files came from.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gym_code.errors import ConfigError, InputError, RecordError
from gym_code.evaluate.cases import Graded
from gym_code.files import append_lines, replace_file
from gym_code.interop import Prediction, read_predictions
from gym_code.records import from_plain, to_plain
from gym_code.types import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from gym_code.types import JSON, Task

SCHEMA_VERSION = 1
_LOGS = ".logs-"
ASKED, ATTEMPTS, CHOSEN, SUITE = "run.json", "attempts.jsonl", "chosen.jsonl", "suite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a run was asked to do."""

    name: str
    model: str
    dataset: str
    dataset_digest: str
    suite: str
    """A reference for `load_suite`, or `suite` for the directory beside it."""
    instances: tuple[str, ...]
    samples: int
    sources: tuple[str, ...]
    """Where the predictions of each sample came from."""
    graders: Mapping[str, str]
    """For each instance the grader's name and version."""
    grader: str = "auto"
    """Which grader was asked for."""
    timeout: float | None = None
    repeat: int = 1
    """How many verdicts each patch gets."""
    cycle: int = 1
    """Rises with every regrade: only verdicts of this cycle count."""
    selector: str = ""
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at grading."""

    key: str
    instance_id: str
    cycle: int
    grader: str
    graded: Graded
    image: str = ""
    """Id of the image it ran in, where the task names one."""
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The sample chosen for an instance."""

    instance_id: str
    sample: int
    selector: str
    why: str = ""


@dataclass(slots=True)
class RunDirectory:
    """The files of a run. `open_run` holds the directory against a second run."""

    path: Path
    attempts: list[Attempt] = field(default_factory=list)

    def add(self, attempt: Attempt) -> None:
        """Keep an attempt: on disk when this returns."""
        append_lines(self.path / ATTEMPTS, [_line(attempt)], _is_attempt)
        self.attempts.append(attempt)

    def write_asked(self, asked: Asked) -> None:
        """Replace what was asked."""
        text = json.dumps(to_plain(asked), indent=1, ensure_ascii=False) + "\n"
        replace_file(self.path / ASKED, text.encode("utf-8", "surrogatepass"))

    def write_predictions(self, sample: int, predictions: Mapping[str, Prediction]) -> None:
        """Replace the predictions of a sample."""
        lines = (prediction_line(prediction) for prediction in predictions.values())
        replace_file(self.predictions(sample), "".join(lines).encode())

    def write_choices(self, choices: Sequence[Choice]) -> None:
        """Replace what best-of-n chose; nothing chosen: no file."""
        if not choices:
            (self.path / CHOSEN).unlink(missing_ok=True)
            return
        lines = (json.dumps(to_plain(choice)) + "\n" for choice in choices)
        replace_file(self.path / CHOSEN, "".join(lines).encode())

    def predictions(self, sample: int) -> Path:
        """The file of a sample's predictions."""
        return self.path / f"predictions-{sample}.jsonl"

    @contextmanager
    def logs(self, instance_id: str, key: str, number: int) -> Iterator[Path]:
        """A new folder for the logs of an attempt; kept as `attempts/ID/KEY-NUMBER` if anything is in it."""
        folder = Path(tempfile.mkdtemp(prefix=_LOGS, dir=self.path))
        try:
            yield folder
            if any(folder.iterdir()):
                final = self.path / "attempts" / instance_id / f"{key[:16]}-{number}"
                shutil.rmtree(final, ignore_errors=True)
                final.parent.mkdir(parents=True, exist_ok=True)
                folder.chmod(0o755)
                folder.rename(final)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def content_key(task: Task, patch: bytes, grader: str, version: str, timeout: float | None) -> str:
    """The key of a verdict: SHA-256 (hex) over task, patch, grader and time limit.

    The task's digest covers its statement, tests and patches, and the name of its image. Raises `InputError`
    for a task without a digest.
    """
    if not task.digest:
        raise InputError("has no digest", where=task.id, expected="gym.digest in task.yaml", found="none")
    return canonical_digest([task.digest, hashlib.sha256(patch).hexdigest(), grader, version, timeout])


@contextmanager
def open_run(path: Path) -> Iterator[RunDirectory]:
    """A run's directory, made if need be, with the attempts it holds.

    Raises `ConfigError` while another process runs in it, `RecordError` for a file that was altered.
    """
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(
                "another run is at work in it", where=str(path), expected="one at a time", found="a lock"
            ) from None
        for left in path.glob(f"{_LOGS}*"):
            shutil.rmtree(left, ignore_errors=True)
        yield RunDirectory(path=path, attempts=read_attempts(path))
    finally:
        os.close(descriptor)


def read_attempts(path: Path) -> list[Attempt]:
    """All attempts of a run's directory, in order; a line cut off in writing is left out.

    Raises `RecordError` with file and line for anything else that is wrong.
    """
    attempts, file = [], path / ATTEMPTS
    if not file.is_file():
        return []
    for number, line in enumerate(file.read_bytes().splitlines(keepends=True), start=1):
        try:
            attempts.append(_attempt(line, f"{file}:{number}"))
        except RecordError:
            if line.endswith(b"\n"):
                raise
    return attempts


def read_asked(path: Path) -> Asked:
    """What a run was asked. Raises `InputError` where the directory holds no run."""
    file = path / ASKED
    if not file.is_file():
        raise InputError("no evaluation run", where=str(path), expected=f"a file {ASKED}", found="none")
    asked: Asked = from_plain(_json(file.read_bytes(), str(file)), Asked, str(file) + ": ")
    return asked


def read_choices(path: Path, known: Mapping[str, int]) -> list[Choice]:
    """The choices in a file; `known` gives the number of samples of each instance. Raises `InputError`."""
    choices: dict[str, Choice] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        where = f"{path}:{number}"
        choice: Choice = from_plain(_json(line, where), Choice, f"{where}: ")
        if choice.instance_id not in known or choice.instance_id in choices:
            expected = "each instance of the data set at most once"
            raise InputError("wrong instance", where=where, expected=expected, found=repr(choice.instance_id))
        if not 0 <= choice.sample < known[choice.instance_id]:
            expected = f"a sample from 0 to {known[choice.instance_id] - 1}"
            raise InputError("no such sample", where=where, expected=expected, found=choice.sample)
        choices[choice.instance_id] = choice
    return list(choices.values())


def read_samples(
    path: Path, samples: int, known: Collection[str] | None = None
) -> list[dict[str, Prediction]]:
    """The predictions of each sample, as a run's directory keeps them.

    Raises `DataError` where one is for an instance that is not among the `known`.
    """
    run = RunDirectory(path=path)
    return [read_predictions(run.predictions(sample), known) for sample in range(samples)]


def prediction_line(prediction: Prediction) -> str:
    """A prediction as a line of JSON."""
    row = {
        "instance_id": prediction.instance_id,
        "model_name_or_path": prediction.model,
        "model_patch": prediction.patch,
        **prediction.extra,
    }
    return json.dumps(row) + "\n"


def _line(attempt: Attempt) -> bytes:
    text = json.dumps(to_plain(attempt), ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-8", "surrogatepass") + b"\n"


def _attempt(line: bytes, where: str) -> Attempt:
    attempt: Attempt = from_plain(_json(line, where), Attempt, f"{where}: ")
    return attempt


def _is_attempt(line: bytes) -> bool:
    try:
        _attempt(line, "")
    except RecordError:
        return False
    return True


def _json(line: bytes, where: str) -> dict[str, Any]:
    try:
        value: JSON = json.loads(line.decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        raise RecordError("not JSON", where=where, expected="a JSON object", found=str(error)) from None
    if not isinstance(value, dict):
        raise RecordError("not a record", where=where, expected="a JSON object", found=type(value).__name__)
    if value.get("schema_version", SCHEMA_VERSION) != SCHEMA_VERSION:
        raise RecordError(
            "this gym-code cannot read that schema version",
            where=f"{where}: schema_version",
            expected=str(SCHEMA_VERSION),
            found=value["schema_version"],
        )
    return value
