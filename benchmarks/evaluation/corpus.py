"""The corpus: rows in the form of SWE-bench 5, seven predictions for each, and their images.

    DIR/suites/...       what `gym_code.synth` made, kept
    DIR/corpus/KEY.json  the instances of an entry of the list, as `Instance.to_json` writes them
    DIR/corpus/ID.tar    the start tree of one

A second call measures nothing again, and builds the images that are gone. KEY is a hash of what decides.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.evaluation import drafts as drafting
from benchmarks.evaluation import measure, variants
from benchmarks.evaluation.images import AT_ONCE, instance_image, packed
from gym_code.diff import touched_paths
from gym_code.errors import InputError
from gym_code.sandbox.dockerd import connect
from gym_code.types import canonical_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from benchmarks.evaluation.drafts import Draft

CREATED = "2000-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A row of the data set, without its image's name, and what is handed in for it."""

    row: Mapping[str, Any]
    predictions: Mapping[str, str]
    """A patch by variant."""
    packages: tuple[str, ...]
    import_from: str

    @property
    def id(self) -> str:
        """The instance id."""
        return str(self.row["instance_id"])


def corpus(folder: Path, count: int | None = None, seed: int = 0) -> list[Instance]:
    """The first `count` instances of the list, measured where they are not known yet."""
    found: list[Instance] = []
    (folder / "corpus").mkdir(parents=True, exist_ok=True)
    for position, entry in enumerate(drafting.listed()):
        if count is not None and len(found) >= count:
            break
        file = folder / "corpus" / f"{_key(entry, seed)}.json"
        if not file.is_file():
            made = list(_measured(entry, folder, seed, 3 * position))
            part = file.with_suffix(".part")
            part.write_text(json.dumps([asdict(instance) for instance in made], indent=1))
            part.replace(file)
        for data in json.loads(file.read_text()):
            found.append(Instance(**{**data, "packages": tuple(data["packages"])}))
    return found[:count]


def rows(folder: Path, instances: Iterable[Instance], signal: str = AT_ONCE) -> list[dict[str, Any]]:
    """The rows of the data set, their images built. signal: the images' stop signal."""
    client = connect()
    try:
        return [{**instance.row, "image": _image(client, folder, instance, signal)} for instance in instances]
    finally:
        client.close()


def _image(client: Any, folder: Path, instance: Instance, signal: str) -> str:
    tree = (folder / "corpus" / f"{instance.id}.tar").read_bytes()
    return instance_image(client, tree, instance.packages, instance.import_from, signal)


def _key(entry: Mapping[str, Any], seed: int) -> str:
    here = Path(__file__).parent
    code = [(here / name).read_text() for name in ("drafts.py", "measure.py", "variants.py", "corpus.py")]
    return canonical_digest([dict(entry), seed, code])[:20]


def _measured(entry: Mapping[str, Any], folder: Path, seed: int, number: int) -> Iterator[Instance]:
    client = connect()
    try:
        for offset, draft in enumerate(drafting.drafts(entry, folder / "suites", seed)):
            print(f"measuring {draft.instance_id}", file=sys.stderr, flush=True)
            tree = packed(draft.start)
            (folder / "corpus" / f"{draft.instance_id}.tar").write_bytes(tree)
            image = instance_image(client, tree, draft.packages, draft.import_from, AT_ONCE)
            try:
                yield _instance(draft, image, number + offset)
            except InputError as error:
                print(f"left out: {error}", file=sys.stderr, flush=True)
    finally:
        client.close()


def _instance(draft: Draft, image: str, number: int) -> Instance:
    commit = measure.head(image)
    existing = sorted(path for path in touched_paths(draft.test_patch) if path in draft.start)
    script = measure.eval_script(commit, draft.test_patch, existing, draft.command)

    def outcomes(*patches: bytes) -> list[dict[str, str]]:
        return measure.outcomes(image, script, patches, draft.log_parser)

    before, *solved = outcomes(b"", draft.gold_patch, draft.gold_patch)
    fixed, kept = measure.graded_tests(before, solved)
    if not fixed:
        raise InputError("no test fails without the patch", where=draft.instance_id)

    def share(outcome: Mapping[str, str], tests: tuple[str, ...]) -> float:
        return sum(outcome.get(test) == "PASSED" for test in tests) / len(tests) if tests else 1.0

    def mended(outcome: Mapping[str, str]) -> tuple[float, float]:
        return share(outcome, fixed), share(outcome, kept)

    wrong = list(variants.wrong(draft))
    partial = list(variants.partial(draft))
    scores = [mended(outcome) for outcome in outcomes(*wrong, *partial)]
    chosen = {
        "gold": draft.gold_patch,
        "empty": b"",
        "wrong": _first(draft, wrong, scores, lambda mends, keeps: mends < 1),
        "partial": _first(
            draft, partial, scores[len(wrong) :], lambda mends, keeps: mends > 0 and mends + keeps < 2
        ),
        "unfitting": variants.unfitting(draft, number),
        "hanging": variants.hanging(draft, number),
        "crashing": variants.crashing(draft, number),
    }
    return Instance(
        row=_row(draft, commit, script, fixed, kept),
        predictions={name: chosen[name].decode() for name in variants.VARIANTS},
        packages=draft.packages,
        import_from=draft.import_from,
    )


def _first(
    draft: Draft,
    patches: list[bytes],
    scores: list[tuple[float, float]],
    good: Callable[[float, float], bool],
) -> bytes:
    """The first candidate of which `good` holds, given the shares that it mends and keeps."""
    for patch, score in zip(patches, scores, strict=False):
        if good(*score):
            return patch
    raise InputError("no candidate will do", where=draft.instance_id, expected="one", found=scores)


def _row(
    draft: Draft, commit: str, script: str, fixed: tuple[str, ...], kept: tuple[str, ...]
) -> dict[str, Any]:
    return {
        "instance_id": draft.instance_id,
        "repo": draft.repo,
        "version": draft.version,
        "base_commit": commit,
        "log_parser": draft.log_parser,
        "eval_type": "pass_and_fail",
        "created_at": CREATED,
        "patch": draft.gold_patch.decode(),
        "test_patch": draft.test_patch.decode(),
        "eval_script": script,
        "problem_statement": draft.statement,
        "hints_text": "",
        "FAIL_TO_PASS": list(fixed),
        "PASS_TO_PASS": list(kept),
    }
