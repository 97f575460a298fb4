"""Predictions: read whole or not at all, every problem of a file told at once with its line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from family_rows import FIX

from gym_code.errors import InputError
from gym_code.interop import DataError, Prediction, read_predictions
from gym_code.interop.predictions import MAX_LINE_BYTES, MAX_PATCH_BYTES

IDS = ("astropy__astropy-12907", "psf__requests-1142")


def one(instance_id: str = IDS[0], patch: str | None = FIX, **more: object) -> dict[str, object]:
    return {"model_name_or_path": "m", "instance_id": instance_id, "model_patch": patch, **more}


def jsonl(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def problems(path: Path) -> list[str]:
    with pytest.raises(DataError) as caught:
        read_predictions(path, IDS)
    return [str(problem).removeprefix(f"{path}:") for problem in caught.value.problems]


def test_the_three_forms_hold_the_same(tmp_path: Path) -> None:
    rows = [one(), one(IDS[1], None, cost=0.25, traj=[1, None])]
    files = {
        "a.jsonl": "\n".join(map(json.dumps, rows)) + "\n\n",
        "a.json": json.dumps(rows),
        "b.json": json.dumps({str(row["instance_id"]): row for row in rows}),
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        found = read_predictions(tmp_path / name, IDS)
        assert list(found) == list(IDS)
        assert found[IDS[0]].patch == FIX
        assert found[IDS[1]].patch is None
        assert found[IDS[1]].extra == {"cost": 0.25, "traj": [1, None]}
        assert {each.model for each in found.values()} == {"m"}


def test_no_patch_and_an_empty_one_are_two_things(tmp_path: Path) -> None:
    path = jsonl(tmp_path / "a.jsonl", one(patch=""), one(IDS[1], None))
    expected = [
        Prediction(instance_id=IDS[0], model="m", patch="", file=str(path), line=1),
        Prediction(instance_id=IDS[1], model="m", patch=None, file=str(path), line=2),
    ]
    assert list(read_predictions(path).values()) == expected


def test_an_object_gives_the_id_where_the_prediction_has_none(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text(json.dumps({IDS[0]: {"model_name_or_path": "m", "model_patch": FIX}}))
    assert list(read_predictions(path, IDS)) == [IDS[0]]
    path.write_text(json.dumps({IDS[0]: one(IDS[1])}))
    assert problems(path) == [
        "1: instance_id: expected 'astropy__astropy-12907', the key it stands under, "
        "found 'psf__requests-1142'"
    ]


def test_a_patch_that_may_not_apply_is_still_a_diff(tmp_path: Path) -> None:
    torn = FIX[: FIX.index("+    return")]
    path = jsonl(tmp_path / "a.jsonl", one(patch=torn), one(IDS[1], "```\n--- a/x\n+++ b/x\nnonsense\n"))
    assert [each.patch is not None for each in read_predictions(path, IDS).values()] == [True, True]


def test_all_problems_are_told_together(tmp_path: Path) -> None:
    path = jsonl(
        tmp_path / "a.jsonl",
        one(),
        one(),
        one("psf__request-1142"),
        one(IDS[1], "I fixed it."),
        {"instance_id": IDS[1], "model_patch": FIX},
        one(IDS[1], model_patch=7),
        {"model_name_or_path": "m", "instance_id": IDS[1]},
        [],
    )
    with path.open("a") as file:
        file.write('{"instance_id": "psf__requests-1142", "model_pa')
    assert problems(path) == [
        "2: instance_id: expected one prediction for an instance (first: line 1), "
        "found 'astropy__astropy-12907'",
        "3: instance_id: expected one of the 2 ids of the data set (nearest: 'psf__requests-1142'), "
        "found 'psf__request-1142'",
        "4: model_patch: expected a diff (`diff --git`, or `---` and `+++`) for psf__requests-1142, "
        "found 'I fixed it.'",
        "5: model_name_or_path: expected text, found nothing",
        "6: model_patch: expected a diff as text, or null, found a number",
        "7: model_patch: expected a diff as text, or null, found nothing",
        "8: : expected an object with instance_id, model_name_or_path and model_patch, found a list",
        "9: : expected a prediction of JSON, found the end: the file is cut (begins on line 9)",
    ]


def test_a_repeated_key_of_an_object_is_no_silent_loss(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    text = json.dumps(one())
    path.write_text(f'{{"{IDS[0]}": {text},\n"{IDS[0]}": {text}}}')
    assert problems(path) == [
        "2: astropy__astropy-12907: expected an id once (first on line 1), found it again"
    ]
    path.write_text(f"[{text},\n{text}\n,{text[:40]}")
    assert problems(path)[0].startswith("2: instance_id: expected one prediction")
    assert problems(path)[1].startswith("3: : expected a value, found the end: the file is cut")


def test_a_patch_of_50_megabytes_is_refused(tmp_path: Path) -> None:
    big, size = json.dumps(one(patch=FIX + "+" + "x" * 50_000_000)), len(FIX) + 50_000_001
    path = tmp_path / "a.json"
    path.write_text(f"[{big},\n{json.dumps(one(IDS[1]))}]")
    most = f"expected at most {MAX_PATCH_BYTES} bytes"
    assert problems(path) == [f"1: model_patch: {most}, found {size} bytes (astropy__astropy-12907)"]
    path = tmp_path / "a.jsonl"
    path.write_text(f"{big}\n{json.dumps(one(IDS[1]))}\n")
    most = f"expected at most {MAX_LINE_BYTES} bytes on a line"  # It is not even parsed.
    assert problems(path) == [f"1: astropy__astropy-12907: {most}, found {len(big) + 1} bytes"]


def test_a_line_beyond_the_limit_is_never_held(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b"x" * (2 * MAX_LINE_BYTES + 7) + b"\n")
        file.write(json.dumps(one("nobody__knows-1")).encode() + b"\n")
    assert problems(path) == [
        f"1: : expected at most {MAX_LINE_BYTES} bytes on a line, found {2 * MAX_LINE_BYTES + 8} bytes",
        "2: instance_id: expected one of the 2 ids of the data set, found 'nobody__knows-1'",
    ]


def test_a_file_that_is_not_there_or_of_another_kind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"expected a \.json or \.jsonl file, found none"):
        read_predictions(tmp_path / "a.jsonl")
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(InputError, match=r"found \.csv"):
        read_predictions(tmp_path / "a.csv")


def test_no_predictions_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("\n")
    assert read_predictions(tmp_path / "a.jsonl", IDS) == {}
