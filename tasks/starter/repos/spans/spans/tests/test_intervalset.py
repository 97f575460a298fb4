import pytest

from spans import Interval, IntervalSet


def spans(*pairs):
    return IntervalSet(Interval(*pair) for pair in pairs)


def test_overlapping_parts_are_merged():
    assert spans((5, 9), (1, 3), (2, 6)) == spans((1, 9))


def test_nested_parts_are_merged():
    assert list(spans((1, 10), (2, 3))) == [Interval(1, 10)]


def test_membership_and_length():
    both = spans((1, 3), (7, 9))
    assert 8 in both
    assert 5 not in both
    assert len(both) == 2


def test_union_and_intersection():
    assert spans((1, 5)) | spans((4, 8)) == spans((1, 8))
    assert spans((1, 5), (7, 9)) & spans((4, 8)) == spans((4, 5), (7, 8))
    assert spans((1, 2)) & spans((3, 4)) == IntervalSet()


def test_gaps():
    assert spans((1, 2), (5, 6), (9, 10)).gaps() == spans((2, 5), (6, 9))
    assert IntervalSet().gaps() == IntervalSet()


def test_total():
    assert spans((1, 3), (10, 15)).total() == 7
    with pytest.raises(ValueError, match="empty"):
        IntervalSet().total()


def test_equal_sets_have_one_hash():
    assert len({spans((1, 3), (2, 4)), spans((1, 4))}) == 1
