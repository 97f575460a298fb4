from datetime import date, timedelta

import pytest

from spans import Interval


def test_the_end_is_outside():
    assert 1 in Interval(1, 3)
    assert 3 not in Interval(1, 3)


def test_empty_intervals_are_refused():
    with pytest.raises(ValueError, match="empty interval"):
        Interval(3, 3)


def test_length_of_numbers_and_dates():
    assert Interval(2, 7).length == 5
    assert Interval(date(2024, 2, 1), date(2024, 3, 1)).length == timedelta(days=29)


def test_overlap_needs_a_common_point():
    assert Interval(1, 4).overlaps(Interval(3, 9)) is True
    assert Interval(1, 4).overlaps(Interval(4, 9)) is False


def test_intersection_and_hull():
    assert Interval(1, 6).intersection(Interval(4, 9)) == Interval(4, 6)
    assert Interval(1, 4).intersection(Interval(4, 9)) is None
    assert Interval(1, 2).hull(Interval(8, 9)) == Interval(1, 9)


def test_text():
    assert str(Interval(1, 2)) == "[1, 2)"
