"""The report of an evaluation: figures beside closed forms and statsmodels, and what hostile text can do."""

from __future__ import annotations

import base64
import hashlib
import json
import math
import re
from html.parser import HTMLParser
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pytest
from made_up import OLD, SIX, TEST, evaluation, of, result
from markdown_it import MarkdownIt
from statsmodels.stats.proportion import proportion_confint

from gym_code.evaluate.report import summarise, write_reports
from gym_code.evaluate.report.markdown import report_markdown
from gym_code.evaluate.report.page import report_page
from gym_code.evaluate.report.summary import MOST_BUDGETS, MOST_TESTS, draws
from gym_code.evaluate.report.text import as_markdown, clean

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\"'><svg onload=alert(1)>",
    "<!--",
    "&lt;b&gt;",
    "[x](javascript:alert(1))",
    "![x](https://evil.example/x.png)",
    "https://evil.example/",
    "| a | b |\n|---|---|\n# head",
    "`code` **bold** __bold__ _it_ ~~gone~~ <b>",
    "\\| `|` \\",
    "\x00\x1b[31m\x7f\u202egnp.exe\u2066",
    "\ud800 half",
    "__proto__",
    "{{7*7}} ${7*7}",
    "[x]: https://evil.example/",
)


class Page(HTMLParser):
    """What a browser would make of a page: its elements and its texts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "input"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    @property
    def data(self) -> Any:
        """What the page's script is given."""
        [found] = [text for tag, text in self.texts if tag == "script" and text.startswith('{"samples"')]
        return json.loads(found)


def estimate(interval: dict[str, Any] | None) -> float:
    assert interval is not None
    return float(interval["estimate"])


def test_the_headline_is_clustered_by_repository_and_stands_beside_the_naive_one() -> None:
    made = summarise(of(SIX))
    rate = made["resolved"]["rate"]
    # Residuals by repository: a 1/2, b 0, c -1/2.
    # CR2: (1/4 / (1 - 3/6) + 0 + 1/4 / (1 - 1/6)) / 36 = 0.8 / 36.
    assert estimate(rate) == 0.5
    assert rate["standard_error"] == pytest.approx(math.sqrt(0.8 / 36))
    assert (rate["tasks"], rate["clusters"]) == (6, 3)
    naive = made["resolved"]["naive"]
    assert (naive["low"], naive["high"]) == pytest.approx(proportion_confint(3, 6, method="wilson"))
    assert made["resolved"]["bootstrap"]["method"] == "percentile bootstrap of clusters, 10000 draws"
    assert made["counts"] == {
        "resolved": 3, "unresolved": 3, "empty": 0, "no_prediction": 0, "infrastructure": 0, "not_graded": 0,
    }  # fmt: skip
    assert (made["instances"], made["repositories"], made["graders"]) == (6, 3, {"clean-box 3": 6})


def test_a_bootstrap_of_much_draws_less_often() -> None:
    assert draws(["a", "b"] * 50_000) == draws(["a"] * 1_000) == 10_000
    assert draws(["a"] * 2_500) == draws([f"r{n}" for n in range(2_500)]) == 4_000
    assert draws([f"r{n}" for n in range(20_000)]) == 1_000


def test_several_samples_are_means_over_instances() -> None:
    verdicts = {"a__a-1": (True, False, False, False), "b__b-1": (True, True, False, True)}
    made = summarise(of(verdicts))
    assert estimate(made["resolved"]["rate"]) == 0.5  # of 1/4 and 3/4
    assert made["resolved"]["rate"]["tasks"] == 2
    for row, k in zip(made["passes"], (1, 2, 3, 4), strict=True):
        drawn = [list(combinations(of_one, k)) for of_one in verdicts.values()]
        some = sum(sum(map(any, draws)) / len(draws) for draws in drawn) / 2
        every = sum(sum(map(all, draws)) / len(draws) for draws in drawn) / 2
        assert (row["k"], row["left_out"]) == (k, 0)
        assert (estimate(row["any_right"]), estimate(row["all_right"])) == pytest.approx((some, every))


def test_one_sample_has_pass_1_alone() -> None:
    made = summarise(of(SIX))
    assert [row["k"] for row in made["passes"]] == [1]
    assert made["passes"][0]["any_right"] == made["resolved"]["rate"]
    assert made["best_of_n"] is None


def test_best_of_n_beside_pass_1_and_pass_n() -> None:
    verdicts = {
        "a__a-1": (True, False),  # chosen: the right one
        "a__a-2": (False, True),  # chosen: the wrong one
        "b__b-1": (True, True),
        "b__b-2": (False, False),
        "c__c-1": (None, True),  # one lost: the choice cannot be compared
        "c__c-2": (True, False),  # none chosen
    }
    chosen = {"a__a-1": 0, "a__a-2": 0, "b__b-1": 1, "b__b-2": 1, "c__c-1": 1}
    best = summarise(of(verdicts, chosen=chosen, selector="visible"))["best_of_n"]
    assert (best["selector"], best["n"], best["instances"], best["left_out"]) == ("visible", 2, 4, 2)
    assert estimate(best["pass_1"]) == 0.5  # 1/2, 1/2, 1, 0
    assert estimate(best["chosen"]) == 0.5  # 1, 0, 1, 0
    assert estimate(best["pass_n"]) == 0.75  # 1, 1, 1, 0
    assert estimate(best["over_pass_1"]["difference"]) == 0.0
    assert estimate(best["under_pass_n"]["difference"]) == 0.25


def test_a_fault_of_ours_is_never_a_failure_and_bounds_the_score() -> None:
    verdicts = dict(SIX) | {"c__c-2": (None,), "c__c-3": (None,)}
    made = summarise(of(verdicts))
    assert estimate(made["resolved"]["rate"]) == 0.5
    assert made["instances_graded"] == 6
    bounds = made["bounds"]
    assert bounds["lost"] == 2
    assert estimate(bounds["as_failed"]) == 3 / 8
    assert bounds["excluded"] == made["resolved"]["rate"]
    assert estimate(bounds["as_resolved"]) == 5 / 8
    assert [each["instance_id"] for each in made["infrastructure"]] == ["c__c-2", "c__c-3"]
    assert any("A fault of ours left 2 attempts" in said for said in made["cautions"])


def test_no_prediction_fails_and_not_graded_yet_does_not() -> None:
    missing = result("a__a-8", False, status="incomplete", outcomes={}, gradings=(), grader="", patch=None)
    waiting = result("a__a-9", None, status="incomplete")
    made = summarise(evaluation(*of(SIX).results, missing, waiting))
    assert estimate(made["resolved"]["rate"]) == pytest.approx(3 / 7)
    assert (made["counts"]["no_prediction"], made["counts"]["not_graded"]) == (1, 1)
    assert made["bounds"]["lost"] == 0
    assert made["no_prediction"] == [{"instance_id": "a__a-8", "sample": 0}]
    assert made["not_graded"] == [{"instance_id": "a__a-9", "sample": 0}]
    assert any(said.startswith("The run is not finished: 1 attempt") for said in made["cautions"])


def test_nothing_at_all_and_nothing_but_faults_are_reported(tmp_path: Path) -> None:
    for number, empty in enumerate((evaluation(), of({"a__a-1": (None,), "b__b-1": (None,)}))):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = write_reports(empty, folder)
        assert (made["resolved"], made["passes"], made["stability"]) == (None, [], None)
        assert made["cautions"][0] == "Nothing was graded: there is no score."
        assert "no score" in (folder / "report.html").read_text()
        assert (folder / "report.md").read_text().startswith("# run: nothing graded\n")
    assert (made["bounds"]["lost"], made["bounds"]["excluded"]) == (2, None)


def test_one_repository_is_judged_for_itself_and_said_so() -> None:
    one = {name.replace("b__b", "a__a-b").replace("c__c", "a__a-c"): each for name, each in SIX.items()}
    made = summarise(of(one))
    assert made["repositories"] == 1
    rate = made["resolved"]["rate"]
    assert (rate["low"], rate["high"]) == pytest.approx(proportion_confint(3, 6, method="wilson"))
    assert rate["method"] == "Wilson over tasks: no clusters to compare"
    assert any(said.startswith("All instances are of one repository") for said in made["cautions"])
    # With several samples, attempts go together by instance: no figure takes them as independent.
    four = summarise(of({name: (*each, True, False, True) for name, each in one.items()}))
    assert four["bounds"]["as_failed"]["clusters"] == four["stability"]["full"]["clusters"] == 6
    assert estimate(four["bounds"]["excluded"]) == estimate(four["resolved"]["rate"])


def test_cautions_say_what_an_interval_rests_on() -> None:
    def said(verdicts: dict[str, tuple[bool | None, ...]], **fields: Any) -> str:
        return "\n".join(summarise(of(verdicts, **fields))["cautions"])

    many = {f"{repo}__{repo}-{n}": (n % 3 == 0,) for repo in "abcdefgh" for n in range(4)}
    assert said(many) == ""
    assert "Only 6 instances" in said(SIX)
    skewed = many | {f"z__z-{n}": (n % 2 == 0,) for n in range(60)}
    assert "65% of the instances are of one repository, z/z." in said(skewed)
    assert "The interval rests on 9 repositories, as good as" in said(skewed)
    assert "how repositories differ is assumed" in said(dict.fromkeys(many, (False,)))
    assert "Samples of one instance are not independent" in said(dict.fromkeys(many, (True, False)))
    flagged = [result(name, False, flags=("runner-tampered",)) for name in ("a__a-1", "b__b-1")]
    found = "\n".join(
        summarise(evaluation(*flagged, result("c__c-1", True, grader="official 5.0.2")))["cautions"]
    )
    assert "Signs of tampering (runner-tampered) in 2 attempts" in found
    assert "1 attempt graded by SWE-bench's own harness" in found


def test_strata_go_from_easy_to_hard_and_from_large_to_small() -> None:
    labels = ("1-4 hours", "<15 min fix", ">4 hours", "15 min - 1 hour", None, "0.25-0.50")
    results = [
        result(name, each[0], difficulty=label, runner="django" if name[0] == "a" else "pytest")
        for (name, each), label in zip(SIX.items(), labels, strict=True)
    ]
    made = summarise(evaluation(*results))["strata"]
    order = [each["name"] for each in made["difficulty"]]
    assert order == ["<15 min fix", "15 min - 1 hour", "1-4 hours", ">4 hours", "0.25-0.50", "not known"]
    assert [(each["name"], each["resolved"]["tasks"]) for each in made["repository"]] == [
        ("a/a", 3), ("b/b", 2), ("c/c", 1),
    ]  # fmt: skip
    assert estimate(made["repository"][0]["resolved"]) == pytest.approx(2 / 3)
    assert [estimate(each["resolved"]) for each in made["runner"]] == pytest.approx([2 / 3, 1 / 3])
    assert summarise(of(SIX))["strata"]["difficulty"] == []


def test_small_repositories_beyond_forty_share_a_line() -> None:
    verdicts = {f"r{n:02}__r-{i}": (True,) for n in range(45) for i in range(2 if n < 30 else 1)}
    lines = summarise(of(verdicts))["strata"]["repository"]
    assert [(each["name"], each["resolved"]["tasks"]) for each in lines[-2:]] == [
        ("r38/r", 1),
        ("6 others", 6),
    ]
    assert len(lines) == 40


def test_the_score_within_a_budget() -> None:
    spent = dict(zip(SIX, (10, 40, 5, 20, 90, None), strict=True))
    results = [result(name, each[0], turns=spent[name], cost=0.0) for name, each in SIX.items()]
    made = summarise(evaluation(*results))["budgets"]
    assert list(made) == ["turns"]  # what costs nothing has no curve, nor what is not known
    points = [(point["budget"], estimate(point["resolved"])) for point in made["turns"]["points"]]
    assert points == [(10, 1 / 5), (20, 2 / 5), (40, 3 / 5)]
    assert (made["turns"]["attempts"], made["turns"]["unknown"], made["turns"]["largest"]) == (5, 1, 90)


def test_a_budget_curve_has_few_points_and_ends_at_the_last() -> None:
    made = summarise(evaluation(*(result(f"a__{n % 3}-{n}", True, tokens=n * n + 1) for n in range(100))))[
        "budgets"
    ]["tokens"]["points"]
    assert len(made) == MOST_BUDGETS
    assert (made[-1]["budget"], estimate(made[-1]["resolved"])) == (99 * 99 + 1, 1.0)


def test_flakes_are_told_and_left_out_of_the_stable_score() -> None:
    gradings = ((True, True), (True, False), (False, False), (True,), (False,), (False, True, False))
    results = [
        result(name, each[0], gradings=of_one)
        for (name, each), of_one in zip(SIX.items(), gradings, strict=True)
    ]
    # Regraded: an older verdict was yes, the one that counts is no.
    results.append(result("c__c-2", False, gradings=(True, False)))
    made = summarise(evaluation(*results))
    found = made["stability"]
    assert [each["instance_id"] for each in found["flaky"]] == ["a__a-2", "c__c-1", "c__c-2"]
    assert estimate(found["full"]) == estimate(made["resolved"]["rate"]) == pytest.approx(3 / 7)
    assert estimate(found["stable"]) == 2 / 4
    assert found["graded_again"] == 5
    assert any("Gradings of one patch differ in 3 attempts" in said for said in made["cautions"])


def test_tests_are_counted_by_swe_benchs_rules_and_the_first_that_failed_are_named() -> None:
    kept = tuple(f"test_{n}" for n in range(30))
    outcomes = {TEST: "xfailed", **dict.fromkeys(kept, "skipped")}
    fields = {"pass_to_pass": kept, "outcomes": outcomes}
    [django] = summarise(evaluation(result("a__a-1", False, runner="django", **fields)))["results"]
    assert (django["fail_to_pass"], django["pass_to_pass"]) == (
        {"passed": 0, "of": 1},
        {"passed": 30, "of": 30},
    )
    assert django["not_passed"] == {TEST: "xfailed"}
    [pytest_] = summarise(evaluation(result("a__a-1", False, **fields)))["results"]
    assert (pytest_["fail_to_pass"], pytest_["pass_to_pass"]) == (
        {"passed": 1, "of": 1},
        {"passed": 0, "of": 30},
    )
    assert pytest_["not_passed"] == dict.fromkeys(kept[:MOST_TESTS], "skipped")
    [lost] = summarise(evaluation(result("a__a-1", False, outcomes={})))["results"]
    assert (lost["ran"], lost["not_passed"]) == (False, {})
    [cut] = summarise(evaluation(result("a__a-1", False, outcomes={TEST: "passed"})))["results"]
    assert (cut["ran"], cut["not_passed"]) == (True, {OLD: "missing"})


def test_the_same_verdicts_give_the_same_bytes_however_long_they_took(tmp_path: Path) -> None:
    # A run that was killed and went on has other seconds and more attempts.
    for name, seconds, attempts in (("one", 1.0, 1), ("two", 9.5, 3)):
        (tmp_path / name).mkdir()
        results = [
            result(of_one, each[0], seconds=seconds, attempts=attempts) for of_one, each in SIX.items()
        ]
        write_reports(evaluation(*results), tmp_path / name)
    for file in ("report.json", "report.md", "report.html"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "report.html", "report.json", "report.md",
    ]  # fmt: skip
    assert json.loads((tmp_path / "one" / "report.json").read_text()) == summarise(of(SIX))


def test_the_page_is_whole_and_asks_nobody_for_anything() -> None:
    results = [
        result(name, each[0], turns=5 + n, difficulty="easy", flags=("tests-restored",))
        for n, (name, each) in enumerate(SIX.items())
    ]
    text = report_page(summarise(evaluation(*results)), {})
    page = Page(text)
    assert page.open == []
    assert [
        element for element in page.elements if {"src", "href", "style", "onload"} & element[1].keys()
    ] == []
    style = "".join(part for tag, part in page.texts if tag == "style")
    assert re.findall(r"url\(|@import", style) == []
    assert "50.0 %" in text
    rows = page.data["rows"]
    assert [row["instance_id"] for row in rows] == list(SIX)
    assert rows[2]["not_passed"] == {TEST: "failed"}


def test_only_the_pages_own_script_may_run() -> None:
    page = Page(report_page(summarise(of(SIX)), {}))
    [policy] = [
        str(values["content"]) for tag, values in page.elements if tag == "meta" and "http-equiv" in values
    ]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe" not in policy
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        content = "".join(text for of_tag, text in page.texts if of_tag == tag and not text.startswith('{"'))
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_on_the_page(text: str) -> None:
    plain = Page(report_page(summarise(evaluation(hostile("x" * len(text)))), {}))
    page = Page(report_page(summarise(evaluation(hostile(text))), {}))
    # The same elements with the same attributes, whatever the text: nothing of it became markup.
    assert [(tag, sorted(values)) for tag, values in page.elements] == [
        (tag, sorted(values)) for tag, values in plain.elements
    ]
    [row] = page.data["rows"]
    for field in ("instance_id", "repo", "reason", "model", "difficulty", "grader"):
        assert clean(row[field]) == clean(text)  # JSON escapes some control characters: no markup either
    assert [clean(test) for test in row["not_passed"]] == [clean(text)]
    shown = "".join(part for tag, part in page.texts if tag not in ("script", "style"))
    assert clean(text) in shown


def hostile(text: str) -> Any:
    """A result that holds a text wherever text can come from outside."""
    return result(
        text, False, repo=text, model=text, difficulty=text, reason=text, flags=(text,), runner=text,
        grader=text, fail_to_pass=(text,), pass_to_pass=(), outcomes={text: "failed"},
    )  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text_in_markdown(text: str) -> None:
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])

    def shape(document: str) -> list[str]:
        """Kinds of tokens; what a text is cut into (line breaks apart) does not matter."""
        found = []
        for token in parser.parse(document):
            found.append(f"{token.type} {token.tag}")
            found += sorted({child.type for child in token.children or ()} - {"text", "text_special"})
        return found

    def report(of_text: str) -> str:
        made = evaluation(hostile(of_text), name=of_text, model=of_text, dataset=of_text)
        return report_markdown(summarise(made))

    assert shape(report(text)) == shape(report("harmless"))
    [line] = [token for token in parser.parse(as_markdown(text)) if token.type == "inline"]
    read = "".join(child.content for child in line.children or ())
    assert read == " ".join(clean(text).split())


def test_links_lead_to_logs_that_are_there_and_nowhere_else(tmp_path: Path) -> None:
    results = [
        result("a__a-1", True),
        result("a__a-1", False, 1, model="a b/c?#"),
        result("a__a-2", True),
        result("a__a-2", True, 1, model=".."),
    ]
    for folder in ("run/acme__coder/a__a-1", "run-1/a b__c?#/a__a-1", "a__a-2"):
        (tmp_path / "logs" / "run_evaluation" / folder).mkdir(parents=True)
        (tmp_path / "logs" / "run_evaluation" / folder / "patch.diff").touch()
    write_reports(evaluation(*results), tmp_path)
    rows = Page((tmp_path / "report.html").read_text()).data["rows"]
    assert [row["logs"] for row in rows] == [
        {"folder": "logs/run_evaluation/run/acme__coder/a__a-1", "files": ["patch.diff"]},
        {"folder": "logs/run_evaluation/run-1/a%20b__c%3F%23/a__a-1", "files": ["patch.diff"]},
        None,
        None,
    ]


def test_markdown_names_the_headline_and_every_attempt() -> None:
    text = report_markdown(summarise(of(SIX)))
    low, high = (100 * summarise(of(SIX))["resolved"]["rate"][end] for end in ("low", "high"))
    assert text.startswith(
        f"# run: 50.0 % [{low:.1f}, {high:.1f}] resolved\n\nacme/coder on verified.jsonl: 6 "
    )
    assert "| a__a-3 | 0 | not resolved | 0 of 1 | 1 of 1 |  |  |\n" in text
    assert "more attempts are in" not in text
    empty = report_markdown(summarise(evaluation(result("a__a-1", False, status="empty", outcomes={}))))
    assert "| a__a-1 | 0 | empty patch | none ran | none ran |  |  |\n" in empty
    many = report_markdown(summarise(of({f"a__{n % 7}-{n}": (True,) for n in range(203)})))
    assert many.endswith("\n\n3 more attempts are in `report.json`.\n")
