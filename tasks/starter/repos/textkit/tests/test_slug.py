import pytest

import textkit


def test_words_are_lowered_and_joined():
    assert textkit.slugify("Hello, World!") == "hello-world"
    assert textkit.slugify("  spaces   and\ttabs\n") == "spaces-and-tabs"


def test_digits_stay():
    assert textkit.slugify("Version 2.10 (beta)") == "version-2-10-beta"


def test_accents_are_dropped():
    assert textkit.slugify("Crème Brûlée à la carte") == "creme-brulee-a-la-carte"


def test_some_letters_are_spelled_out():
    assert textkit.slugify("Straße") == "strasse"
    assert textkit.slugify("Ærø & Œuvre") == "aero-oeuvre"
    assert textkit.slugify("Łódź") == "lodz"


def test_apostrophes_vanish_without_a_gap():
    assert textkit.slugify("Don't panic") == "dont-panic"
    assert textkit.slugify("L’été") == "lete"


def test_other_scripts_separate_words():
    assert textkit.slugify("one 二 three") == "one-three"
    assert textkit.slugify("a二b") == "a-b"
    assert textkit.slugify("日本") == ""


def test_separator():
    assert textkit.slugify("a b  c", separator="_") == "a_b_c"
    assert textkit.slugify("a b c", separator="") == "abc"


def test_max_length_drops_whole_words():
    assert textkit.slugify("the quick brown fox", max_length=10) == "the-quick"
    assert textkit.slugify("the quick brown fox", max_length=9) == "the-quick"
    assert textkit.slugify("the quick brown fox", max_length=8) == "the"
    assert textkit.slugify("the quick brown fox", max_length=100) == "the-quick-brown-fox"


def test_max_length_cuts_a_first_word_that_is_too_long():
    assert textkit.slugify("incomprehensible text", max_length=5) == "incom"


def test_max_length_must_be_positive():
    assert textkit.slugify("text", max_length=1) == "t"
    with pytest.raises(ValueError, match="max_length"):
        textkit.slugify("text", max_length=0)


def test_unique_slug_takes_the_first_free_number():
    assert textkit.unique_slug("My Post", set()) == "my-post"
    assert textkit.unique_slug("My Post", {"my-post"}) == "my-post-2"
    assert textkit.unique_slug("My Post", ["my-post", "my-post-2", "my-post-4"]) == "my-post-3"


def test_unique_slug_uses_the_separator():
    assert textkit.unique_slug("My Post", {"my_post"}, separator="_") == "my_post_2"


def test_unique_slug_of_an_empty_slug():
    assert textkit.unique_slug("!?", set()) == "untitled"
    assert textkit.unique_slug("", {"untitled"}) == "untitled-2"
