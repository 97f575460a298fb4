"""The families of the procedural generator: small features, each with a tempting wrong way to write it.

A family is data. `right` and `wrong` are Python expressions over the placeholders {a} {b} {c} (parameters)
and {k} (a constant); `kinds` says what the parameters hold, so that cases can be drawn. `tempting` is how
often a careless programmer takes the wrong way; the demonstrator of `train/demos.py` is that programmer.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to state the feature, the expression it asks for and the one that tempts."""

    doc: str
    right: str
    wrong: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A kind of feature. `kinds`: one letter a parameter (see `procedural.draw_argument`).

    number   n: an integer        positive  p: 1 to 4         count  i: 0 to 3      far  f: 0 to 12
    numbers  L: a list of ints    word      w: lower case     mixed  m: mixed case  words  W: a list
    table    T: a word -> int map suffix    s: a short ending glue   g: a separator
    """

    name: str
    kinds: str
    verbs: tuple[str, ...]
    variants: tuple[Variant, ...]
    tempting: float
    composable: bool = False
    """Whether `EXPRESSION + k` is a sensible longer feature (integer results)."""


def _one(doc: str, right: str, wrong: str) -> tuple[Variant, ...]:
    return (Variant(doc=doc, right=right, wrong=wrong),)


FAMILIES: tuple[Family, ...] = (
    Family(
        name="at_least",
        kinds="nn",
        verbs=("raise_to", "floor_at"),
        tempting=0.55,
        composable=True,
        variants=_one("Return {a}, but at least {b}.", "max({a}, {b})", "min({a}, {b})"),
    ),
    Family(
        name="at_most",
        kinds="nn",
        verbs=("lower_to", "cap_at"),
        tempting=0.60,
        composable=True,
        variants=_one("Return {a}, but at most {b}.", "min({a}, {b})", "max({a}, {b})"),
    ),
    Family(
        name="span_total",
        kinds="nf",
        verbs=("sum_span", "total_of"),
        tempting=0.60,
        composable=True,
        variants=(
            Variant(
                doc="Sum the integers from {a} to {b}, both included.",
                right="sum(range({a}, {b} + 1))",
                wrong="sum(range({a}, {b}))",
            ),
            Variant(
                doc="Sum the integers from {a} to {b}, {b} left out.",
                right="sum(range({a}, {b}))",
                wrong="sum(range({a}, {b} + 1))",
            ),
        ),
    ),
    Family(
        name="last_items",
        kinds="Li",
        verbs=("tail_of", "keep_last"),
        tempting=0.65,
        variants=_one(
            "Return the last {b} items of {a}, none when {b} is 0.", "{a}[len({a}) - {b}:]", "{a}[-{b}:]"
        ),
    ),
    Family(
        name="every_nth",
        kinds="Lp",
        verbs=("thin_out", "every_of"),
        tempting=0.55,
        variants=_one(
            "Return every item of {a} whose place divides by {b}, places from 1.",
            "{a}[{b} - 1::{b}]",
            "{a}[::{b}]",
        ),
    ),
    Family(
        name="count_over",
        kinds="Ln",
        verbs=("count_over", "tally"),
        tempting=0.55,
        composable=True,
        variants=(
            Variant(
                doc="Count the items of {a} above {b}.",
                right="sum(x > {b} for x in {a})",
                wrong="sum(x >= {b} for x in {a})",
            ),
            Variant(
                doc="Count the items of {a} not below {b}.",
                right="sum(x >= {b} for x in {a})",
                wrong="sum(x > {b} for x in {a})",
            ),
        ),
    ),
    Family(
        name="shift_scale",
        kinds="np",
        verbs=("shift_scale", "adjust"),
        tempting=0.65,
        composable=True,
        variants=_one("Add {k} to {a}, then multiply by {b}.", "({a} + {k}) * {b}", "{a} + {k} * {b}"),
    ),
    Family(
        name="pages",
        kinds="fp",
        verbs=("pages_for", "boxes_for"),
        tempting=0.65,
        composable=True,
        variants=_one(
            "Return how many boxes of {b} hold {a} things, the last may be part full.",
            "-(-{a} // {b})",
            "{a} // {b}",
        ),
    ),
    Family(
        name="wrap_item",
        kinds="Lf",
        verbs=("item_round", "pick_round"),
        tempting=0.60,
        composable=True,
        variants=_one("Return item {b} of {a}, going round at the end.", "{a}[{b} % len({a})]", "{a}[{b}]"),
    ),
    Family(
        name="lookup",
        kinds="Tw",
        verbs=("look_up", "find_in"),
        tempting=0.50,
        composable=True,
        variants=_one("Return {a} at {b}, or {k} when it is missing.", "{a}.get({b}, {k})", "{a}[{b}]"),
    ),
    Family(
        name="drop_suffix",
        kinds="ws",
        verbs=("drop_end", "cut_end"),
        tempting=0.65,
        variants=_one(
            "Remove the ending {b} from {a} when it is there.", "{a}.removesuffix({b})", "{a}.rstrip({b})"
        ),
    ),
    Family(
        name="join_sorted",
        kinds="Wg",
        verbs=("join_up", "line_up"),
        tempting=0.50,
        variants=_one(
            "Join {a} with {b}, in order of the alphabet.", "{b}.join(sorted({a}))", "{b}.join({a})"
        ),
    ),
    Family(
        name="unique",
        kinds="L",
        verbs=("unique_of", "no_repeats"),
        tempting=0.60,
        variants=_one(
            "Return {a} without repeats, first seen first.", "list(dict.fromkeys({a}))", "sorted(set({a}))"
        ),
    ),
    Family(
        name="with_item",
        kinds="Ln",
        verbs=("with_item", "plus_item"),
        tempting=0.55,
        variants=_one("Return a new list, {a} and then {b}.", "{a} + [{b}]", "{a}.append({b})"),
    ),
    Family(
        name="gap",
        kinds="nn",
        verbs=("gap_of", "distance"),
        tempting=0.50,
        composable=True,
        variants=_one("Return how far apart {a} and {b} are.", "abs({a} - {b})", "{a} - {b}"),
    ),
    Family(
        name="inside",
        kinds="nnn",
        verbs=("inside", "is_between"),
        tempting=0.60,
        variants=(
            Variant(
                doc="Tell whether {a} is between {b} and {c}, ends included.",
                right="{b} <= {a} <= {c}",
                wrong="{b} < {a} < {c}",
            ),
            Variant(
                doc="Tell whether {a} is between {b} and {c}, ends left out.",
                right="{b} < {a} < {c}",
                wrong="{b} <= {a} <= {c}",
            ),
        ),
    ),
    Family(
        name="mean_floor",
        kinds="L",
        verbs=("mean_of", "average"),
        tempting=0.55,
        variants=_one(
            "Return the mean of {a} rounded down, {k} when it is empty.",
            "sum({a}) // len({a}) if {a} else {k}",
            "sum({a}) // len({a})",
        ),
    ),
    Family(
        name="same_word",
        kinds="mm",
        verbs=("same_word", "match"),
        tempting=0.55,
        variants=_one(
            "Tell whether {a} and {b} are the same word in any case.",
            "{a}.lower() == {b}.lower()",
            "{a} == {b}",
        ),
    ),
    Family(
        name="pad_left",
        kinds="wf",
        verbs=("pad_out", "fill_up"),
        tempting=0.55,
        variants=_one(
            "Fill {a} up on the left with dots to {b} places.", "{a}.rjust({b}, '.')", "{a}.ljust({b}, '.')"
        ),
    ),
    Family(
        name="best_key",
        kinds="T",
        verbs=("best_key", "leader"),
        tempting=0.55,
        variants=_one("Return the key of {a} with the greatest value.", "max({a}, key={a}.get)", "max({a})"),
    ),
)

BY_NAME = {family.name: family for family in FAMILIES}

MODULES = [
    "ops",
    "tools",
    "core",
    "items",
    "maths",
    "parts",
    "calc",
    "shop",
    "stock",
    "data",
    "model",
    "rules",
    "forms",
    "report",
    "words",
    "lists",
    "steps",
    "units",
    "score",
    "plan",
    "store",
    "logic",
    "basic",
    "extra",
]

PARAMETERS = {
    "n": [
        "value",
        "number",
        "amount",
        "level",
        "start",
        "size",
        "price",
        "rate",
        "weight",
        "height",
        "width",
        "depth",
    ],
    "p": ["step", "factor", "group", "batch", "chunk", "block"],
    "i": ["count", "many", "keep", "take"],
    "f": ["index", "place", "total", "end", "stop", "limit"],
    "L": ["items", "values", "numbers", "scores", "prices", "sizes", "marks", "points", "rows", "cells"],
    "w": ["word", "name", "text", "title", "label", "key"],
    "m": ["first", "second", "left", "right", "one", "other"],
    "s": ["suffix", "ending", "tail", "part"],
    "g": ["glue", "sep", "mark", "between"],
    "W": ["words", "names", "labels", "titles", "lines", "tags"],
    "T": ["table", "stock", "ranks", "votes", "ages", "costs"],
}

WORDS = [
    "ant",
    "bee",
    "cat",
    "dog",
    "elk",
    "fox",
    "gnu",
    "hen",
    "ibis",
    "jay",
    "kite",
    "lark",
    "mole",
    "newt",
    "owl",
    "pig",
    "quail",
    "rat",
    "seal",
    "toad",
]
ENDINGS = ["ed", "er", "ing", "ly", "es", "en"]
GLUES = ("-", ", ", "/", "+", " ")
