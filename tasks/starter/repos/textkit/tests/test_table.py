import pytest

import textkit

ROWS = [["ada", 36], ["linus", 7]]


def test_columns_are_padded():
    assert textkit.format_table(ROWS) == "ada    36\nlinus  7"


def test_headers_are_underlined():
    assert (
        textkit.format_table(ROWS, headers=["name", "age"]) == "name   age\n-----  ---\nada    36\nlinus  7"
    )


def test_short_rows_and_none():
    assert textkit.format_table([["a"], [None, "b"]]) == "a\n   b"


def test_no_rows():
    assert textkit.format_table([]) == ""
    assert textkit.format_table([], headers=["x", "yy"]) == "x  yy\n-  --"


def test_align_right():
    assert textkit.format_table(ROWS, align="lr") == "ada    36\nlinus   7"


def test_align_right_first_column():
    assert textkit.format_table([["a", "b"], ["ccc", "d"]], align="rl") == "  a  b\nccc  d"


def test_align_centre_puts_the_odd_space_right():
    assert textkit.format_table([["ab", "x"], ["abcde", "y"]], align="cl") == " ab    x\nabcde  y"
    assert textkit.format_table([["a", "x"], ["abc", "y"]], align="cl") == " a   x\nabc  y"


def test_align_applies_to_headers():
    assert (
        textkit.format_table(ROWS, headers=["name", "age"], align="rr")
        == " name  age\n-----  ---\n  ada   36\nlinus    7"
    )


def test_align_leaves_no_trailing_spaces():
    assert textkit.format_table([["a", None], ["b", "long"]], align="rr") == "a\nb  long"
    assert textkit.format_table([["x"], ["wide!"]], align="c") == "  x\nwide!"


def test_align_counts_filled_columns():
    assert textkit.format_table([["a"], ["b", 10], ["c", 5]], align="lr") == "a\nb  10\nc   5"


def test_align_needs_one_letter_for_each_column():
    with pytest.raises(ValueError, match="align") as caught:
        textkit.format_table(ROWS, align="lrl")
    assert str(caught.value) == "align has 3 letters for 2 columns"


def test_align_refuses_unknown_letters():
    with pytest.raises(ValueError, match="align") as caught:
        textkit.format_table(ROWS, align="lx")
    assert str(caught.value) == "unknown alignment 'x'"
