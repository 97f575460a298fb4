import pytest

import textkit


def test_wrap_is_greedy():
    assert textkit.wrap("the quick brown fox jumps", 12) == ["the quick", "brown fox", "jumps"]


def test_wrap_collapses_white_space():
    assert textkit.wrap(" a \n b\t c ", 20) == ["a b c"]


def test_wrap_of_nothing():
    assert textkit.wrap("  ", 5) == []


def test_wrap_cuts_long_words():
    assert textkit.wrap("an extraordinary day", 7) == ["an", "extraor", "dinary", "day"]


def test_wrap_uses_the_whole_width():
    assert textkit.wrap("aaa bbb ccc", 7) == ["aaa bbb", "ccc"]
    assert textkit.wrap("one two three", 13) == ["one two three"]


def test_wrap_uses_the_whole_width_with_single_letters():
    assert textkit.wrap("a b c d e", 3) == ["a b", "c d", "e"]


def test_wrap_never_exceeds_the_width():
    text = "to be or not to be that is the question"
    assert [len(line) for line in textkit.wrap(text, 8)] == [8, 6, 7, 6, 8]


def test_wrap_refuses_a_width_below_one():
    with pytest.raises(ValueError, match="width"):
        textkit.wrap("a", 0)


def test_fill_keeps_paragraphs():
    assert textkit.fill("one two\nthree\n\n\nfour five six", 10) == "one two\nthree\n\nfour five\nsix"


def test_fill_lines_may_be_exactly_as_wide_as_asked():
    assert textkit.fill("one two\nthree four", 7) == "one two\nthree\nfour"
    assert textkit.fill("ab cd\n\nef gh", 5) == "ab cd\n\nef gh"


def test_indent_skips_blank_lines():
    assert textkit.indent("a\n\nb\n", "> ") == "> a\n\n> b\n"


def test_indent_first_line_differs():
    assert textkit.indent("a\nb\nc", "  ", first="* ") == "* a\n  b\n  c"


def test_shorten_leaves_what_fits():
    assert textkit.shorten("short  enough", 20) == "short enough"
    assert textkit.shorten("just fits", 9) == "just fits"


def test_shorten_drops_words():
    assert textkit.shorten("the quick brown fox", 14) == "the quick ..."
    assert textkit.shorten("the quick brown fox", 12) == "the ..."
    assert textkit.shorten("extraordinary", 5) == "..."


def test_shorten_needs_room_for_the_placeholder():
    with pytest.raises(ValueError, match="placeholder"):
        textkit.shorten("text", 2)
