from datetime import date

from spans import Interval, IntervalSet


def test_neighbours_touch_from_either_side():
    assert Interval(1, 4).touches(Interval(4, 6)) is True
    assert Interval(4, 6).touches(Interval(1, 4)) is True


def test_a_gap_does_not_touch():
    assert Interval(1, 4).touches(Interval(5, 6)) is False
    assert Interval(5, 6).touches(Interval(1, 4)) is False


def test_neighbours_are_merged():
    assert list(IntervalSet([Interval(4, 6), Interval(1, 4)])) == [Interval(1, 6)]


def test_a_chain_of_neighbours_is_one_interval():
    parts = [Interval(n, n + 1) for n in (3, 1, 2, 7)]
    assert repr(IntervalSet(parts)) == "IntervalSet([1, 4), [7, 8))"


def test_neighbouring_months_are_merged():
    months = [Interval(date(2024, 1, 1), date(2024, 2, 1)), Interval(date(2024, 2, 1), date(2024, 3, 1))]
    assert len(IntervalSet(months)) == 1


def test_union_of_neighbours_leaves_no_gap():
    both = IntervalSet([Interval(0, 5)]) | IntervalSet([Interval(5, 9)])
    assert both == IntervalSet([Interval(0, 9)])
    assert len(both.gaps()) == 0
