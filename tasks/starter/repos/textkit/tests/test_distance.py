import textkit


def test_distance_of_equal_and_empty_words():
    assert textkit.edit_distance("same", "same") == 0
    assert textkit.edit_distance("", "abc") == 3
    assert textkit.edit_distance("abc", "") == 3


def test_distance_counts_edits():
    assert textkit.edit_distance("kitten", "sitting") == 3
    assert textkit.edit_distance("flaw", "lawn") == 2


def test_closest_orders_by_distance_then_alphabet():
    assert textkit.closest("stat", ["start", "stats", "state", "stop", "restart", "stat"]) == [
        "stat",
        "start",
        "state",
        "stats",
        "stop",
    ]


def test_closest_respects_max_distance():
    assert textkit.closest("comit", ["commit", "comment", "config"], max_distance=1) == ["commit"]
    assert textkit.closest("comit", ["commit", "comment", "config"], max_distance=0) == []


def test_closest_ignores_case_but_keeps_it():
    assert textkit.closest("HELP", ["help", "Helper", "hello"]) == ["help", "Helper", "hello"]


def test_closest_lists_every_candidate_once():
    assert textkit.closest("add", ["add", "and", "add"]) == ["add", "and"]
