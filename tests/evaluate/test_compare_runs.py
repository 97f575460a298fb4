"""`gym-code compare`: the paired figures beside statsmodels and Connor's formula, warnings, and bad input."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from made_up import SIX, of
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar

from gym_code.cli import main
from gym_code.evaluate.compare import Side, compare_sides, read_side
from gym_code.evaluate.report import write_reports
from gym_code.evaluate.report.comparison import comparison_markdown, comparison_page, finding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

REPOSITORIES = "abcd"
# Forty instances of four repositories: 4 are lost by B (all of a), 10 are gained.
NAMES = [f"{repo}__{repo}-{n}" for repo in REPOSITORIES for n in range(10)]
FIRST = {name: (n % 2 == 0,) for n, name in enumerate(NAMES)}
SECOND = {name: (n % 2 == 0 if n < 20 else True,) for n, name in enumerate(NAMES)} | {
    f"a__a-{n}": (False,) for n in (0, 2, 4, 6)
}

Run = dict[str, tuple[bool | None, ...]]


@pytest.fixture
def gym_code(capfd: pytest.CaptureFixture[str]) -> Any:
    """The command line: status, standard output, standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_info:
            main([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return int(exit_info.value.code or 0), out, err

    return run


def written(folder: Path, verdicts: Mapping[str, Sequence[bool | None]], **fields: Any) -> Path:
    """A run directory with its reports."""
    folder.mkdir()
    write_reports(of(verdicts, name=folder.name, **fields), folder)
    return folder


def side(name: str, rates: Mapping[str, float], **fields: Any) -> Side:
    common: dict[str, Any] = {"dataset": "d", "dataset_digest": "d", "graders": ("clean-box 3",), "repos": {}}
    return Side(name=name, rates=rates, **(common | fields))


def test_the_difference_is_paired_clustered_and_tested(tmp_path: Path, gym_code: Any) -> None:
    a, b = written(tmp_path / "a", FIRST), written(tmp_path / "b", SECOND)
    status, out, _ = gym_code("compare", a, b, "--json")
    made = json.loads(out)
    assert status == 0
    assert (made["shared"], made["repositories"], made["warnings"]) == (40, 4, [])
    assert made["a"]["resolved"]["estimate"] == 20 / 40
    assert made["b"]["resolved"]["estimate"] == 26 / 40
    assert made["difference"]["estimate"] == pytest.approx(6 / 40)
    # Gains by repository: -4, 0, 5, 5 of 10 each; around 1.5: -5.5, -1.5, 3.5, 3.5. CR2, df 3.
    variance = (5.5**2 + 1.5**2 + 3.5**2 + 3.5**2) / (1 - 10 / 40) / 40**2
    assert made["difference"]["standard_error"] == pytest.approx(math.sqrt(variance))
    assert made["difference"]["df"] == pytest.approx(3)
    oracle = statsmodels_mcnemar([[16, 4], [10, 10]], exact=True)
    assert made["mcnemar"]["exact"] == pytest.approx(oracle.pvalue)
    assert (made["mcnemar"]["only_first"], made["mcnemar"]["only_second"]) == (4, 10)
    assert [each["instance_id"] for each in made["lost"]] == ["a__a-0", "a__a-2", "a__a-4", "a__a-6"]
    assert [each["instance_id"] for each in made["gained"]] == [
        f"{repo}__{repo}-{n}" for repo in "cd" for n in (1, 3, 5, 7, 9)
    ]
    assert finding(made).startswith("The two cannot be told apart: +15.0 [")


def test_what_could_be_found_and_what_it_would_take() -> None:
    # All in one repository: no design effect, so Connor's formula as it stands.
    def rates(resolved: range) -> dict[str, float]:
        return {f"a__a-{n}": float(n in resolved) for n in range(200)}

    made = compare_sides(side("a", rates(range(0, 80))), side("b", rates(range(30, 120))))
    z_a, z_b, share, seen = norm.ppf(0.975), norm.ppf(0.8), 70 / 200, 10 / 200
    needed = ((z_a * math.sqrt(share) + z_b * math.sqrt(share - seen**2)) / seen) ** 2
    assert made["planned"]["discordance"] == share
    assert made["planned"]["tasks_needed"] == math.ceil(needed)
    least = made["planned"]["smallest_detectable"]
    assert (z_a * math.sqrt(share) + z_b * math.sqrt(share - least**2)) / least == pytest.approx(
        math.sqrt(200)
    )
    # Twice the noise by cluster takes the tasks times the design effect.
    halves = {f"a__a-{n}": "even" if n < 100 else "odd" for n in range(200)}
    by_half = compare_sides(side("a", rates(range(0, 80)), repos=halves), side("b", rates(range(30, 120))))
    assert by_half["design_effect"] > 1
    assert by_half["planned"]["tasks_needed"] == math.ceil(needed * by_half["design_effect"])


def test_the_other_way_round_is_the_same_with_the_sign_changed() -> None:
    first, second = (
        side(name, {n: float(v[0]) for n, v in runs.items()}) for name, runs in (("a", FIRST), ("b", SECOND))
    )
    there, back = compare_sides(first, second), compare_sides(second, first)
    assert there["difference"]["low"] == pytest.approx(-back["difference"]["high"])
    assert there["mcnemar"]["exact"] == back["mcnemar"]["exact"]
    assert [each["instance_id"] for each in there["gained"]] == [each["instance_id"] for each in back["lost"]]
    same = compare_sides(first, first)
    assert (same["difference"]["estimate"], same["gained"], same["lost"]) == (0.0, [], [])
    assert same["planned"] == {"discordance": 0.0, "smallest_detectable": None, "tasks_needed": None}


def test_the_sentence_says_who_is_ahead() -> None:
    nobody = side("a", dict.fromkeys(NAMES, 0.0))
    many = side("b", {name: float(n % 10 > 1) for n, name in enumerate(NAMES)})
    assert finding(compare_sides(nobody, many)).startswith("B resolves more: +80.0 [")
    assert finding(compare_sides(many, nobody)).startswith("A resolves more: -80.0 [")


def test_several_samples_compare_as_pass_1(tmp_path: Path) -> None:
    four = {name: (True, False, None, n % 4 == 0) for n, name in enumerate(NAMES)}
    a, b = written(tmp_path / "a", FIRST), written(tmp_path / "b", four)
    made = compare_sides(read_side(a), read_side(b))
    rate = (10 * 2 / 3 + 30 * 1 / 3) / 40  # of three graded samples each
    assert made["b"]["resolved"]["estimate"] == pytest.approx(rate)
    assert made["mcnemar"] is None
    assert made["planned"]["discordance"] is None
    noise = made["detectable"] / made["difference"]["estimate"]
    assert made["planned"]["tasks_needed"] == math.ceil(40 * noise**2)
    assert (
        "1 and 4 samples of each instance: the difference is one of pass@1 all the same." in made["warnings"]
    )
    changes = [each["b"] - each["a"] for each in made["gained"]]
    assert changes == sorted(changes, reverse=True)


def test_what_is_not_in_both_is_left_out_and_told(tmp_path: Path) -> None:
    first: Run = dict(SIX) | {"a__a-7": (None,), "a__a-8": (True,)}
    second: Run = dict(SIX) | {"a__a-7": (True,), "c__c-9": (True,)}
    a = written(tmp_path / "a", first)
    b = written(tmp_path / "b", second, dataset_digest="d2" * 32, dataset="lite.jsonl")
    made = compare_sides(read_side(a), read_side(b))
    assert made["shared"] == 6
    assert (made["only_a"], made["only_b"]) == (["a__a-8"], ["a__a-7", "c__c-9"])
    assert made["warnings"] == [
        "The data sets differ (verified.jsonl and lite.jsonl): instances of one id may be different tasks.",
        "1 instance of a without a verdict: left out.",
        "1 instance only in a: left out.",
        "1 instance only in b: left out.",
        "Only 6 instances in common: hardly any two agents could be told apart.",
    ]


def test_other_graders_are_told() -> None:
    made = compare_sides(
        side("a", dict.fromkeys(NAMES, 1.0)),
        side("b", dict.fromkeys(NAMES, 1.0), graders=("official 5.0.2",)),
    )
    assert made["warnings"] == ["Graded by clean-box 3 on one side and by official 5.0.2 on the other."]


def test_a_run_report_of_swe_bench_beside_ours(tmp_path: Path) -> None:
    # tests/interop/test_run_report_side.py has one that SWE-bench's harness wrote.
    names = ["django__django-1", "django__django-2", "sympy__sympy-3", "x__y-6"]
    report = {
        "submitted_ids": names[:3],
        "incomplete_ids": names[3:],
        "resolved_ids": names[:1],
        "error_ids": names[2:3],
        "infra_failure_ids": [],
        "schema_version": 2,
    }
    (tmp_path / "acme__coder.r.json").write_text(json.dumps(report))
    ours = read_side(written(tmp_path / "ours", dict.fromkeys(names, (True,))))
    made = compare_sides(read_side(tmp_path / "acme__coder.r.json"), ours)
    assert [each["repo"] for each in made["gained"]] == ["django/django", "sympy/sympy", "x/y"]
    assert made["warnings"][:2] == [
        "The data set of acme__coder.r is not known: that it is the same is taken on trust.",
        "1 error of SWE-bench's harness in acme__coder.r: counted as failed, as it counts them.",
    ]


def test_the_repository_is_read_from_an_id_where_nothing_else_tells_it() -> None:
    names = [
        "sphinx-doc__sphinx-7",
        "oauthlib__oauthlib.1fd52536.combine_file__09vlzwgc",
        "made-up",
        "gap-12",
    ]
    rates = {name: float(n % 2) for n, name in enumerate(names)}
    made = compare_sides(side("a", dict.fromkeys(names, 0.5)), side("b", rates))
    repos = {each["instance_id"]: each["repo"] for each in made["gained"] + made["lost"]}
    assert repos == {
        "sphinx-doc__sphinx-7": "sphinx-doc/sphinx",
        "oauthlib__oauthlib.1fd52536.combine_file__09vlzwgc": "oauthlib/oauthlib",
        "made-up": "repository not known",
        "gap-12": "repository not known",
    }
    assert "The repository of 2 instances is not known: taken as one." in made["warnings"]


def test_files_of_every_format(tmp_path: Path, gym_code: Any) -> None:
    a, b = written(tmp_path / "a", FIRST), written(tmp_path / "b", SECOND)
    for suffix, begin in ((".html", "<!DOCTYPE html>"), (".md", "# a and b\n"), (".json", "{\n")):
        file = tmp_path / "new" / f"made{suffix}"
        status, out, err = gym_code("compare", a, b / "report.json", "--out", file)
        assert (status, err) == (0, f"written to {file}\n")
        assert file.read_text().startswith(begin)
        assert "McNemar's test" in out
        assert "Better in A: 4 instances" in out


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "[x](javascript:y) | `z`", "[red]\x1b[2J", "\u202eb"]
)
def test_hostile_names_stay_text(text: str, tmp_path: Path, gym_code: Any) -> None:
    first, second = (
        side(
            text,
            {text: value, **dict.fromkeys(NAMES, 1 - value)},
            model=text,
            graders=(text,),
            repos={text: text},
        )
        for value in (0.0, 1.0)
    )
    made = compare_sides(first, second)
    page = comparison_page(made)
    assert "<script" not in page
    assert (
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-"
        in page
    )
    assert "[x](" not in comparison_markdown(made)
    assert not {"\x1b", "\u202e"} & set(page + comparison_markdown(made))
    for folder, value in (("a", False), ("b", True)):
        written(tmp_path / folder, {text: (value,), "a__a-1": (True,)}, model=text)
    status, out, err = gym_code("compare", tmp_path / "a", tmp_path / "b")
    assert status == 0
    assert not {"\x1b", "\u202e"} & set(out + err)


def test_bad_input_is_one_clear_line(tmp_path: Path, gym_code: Any) -> None:
    good = written(tmp_path / "good", SIX)
    text = (good / "report.json").read_text()
    report = json.loads(text)
    wrong = {
        "version": json.dumps(report | {"schema_version": 9}),
        "row": json.dumps(report | {"results": [*report["results"], {"instance_id": 3, "resolved": "yes"}]}),
        "other": json.dumps({"django__django-1": {"resolved": True}}),
        "list": "[]",
        "cut": text[:300],
        "twice": text.replace('"seed": 0', '"name": "x"'),
        "swebench": json.dumps({"schema_version": 1, "resolved_ids": "all"}),
        "bytes": "",
    }
    for name, content in wrong.items():
        (tmp_path / f"{name}.json").write_text(content)
    (tmp_path / "bytes.json").write_bytes(b'{"schema": "\xff"}')
    (tmp_path / "empty").mkdir()
    expected = {
        "version.json": "version.json:1: schema_version: expected 1, found 9",
        "row.json": "results[6].instance_id: expected text, found a number",
        "other.json": "or a run report of SWE-bench, found another kind of file",
        "list.json": "found a list",
        "cut.json": "the file is cut",
        "twice.json": "the key 'name' twice",
        "swebench.json": "schema_version: expected 2, found 1",
        "bytes.json": "bytes.json:1",
        "empty": "a directory without one: the evaluation is not finished",
        "nothing": "expected a run directory or a report.json, found nothing",
    }
    for name, message in expected.items():
        status, out, err = gym_code("compare", good, tmp_path / name)
        assert (status, out) == (2, ""), name
        assert message in err, name
    status, _, err = gym_code("compare", good, good, "--out", tmp_path / "x.pdf")
    assert (status, "expected .html or .md or .json, found .pdf" in err) == (2, True)
    alone = written(tmp_path / "alone", {"q__q-1": (True,)})
    status, _, err = gym_code("compare", good, alone)
    assert (status, "6 instances and 1 instance, none in common" in err) == (2, True)
