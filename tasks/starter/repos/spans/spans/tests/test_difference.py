from datetime import date

from spans import Interval, IntervalSet


def spans(*pairs):
    return IntervalSet(Interval(*pair) for pair in pairs)


def text(points):
    return " ".join(str(part) for part in points)


def test_a_hole_in_the_middle_splits():
    assert text(spans((0, 10)) - spans((3, 5))) == "[0, 3) [5, 10)"


def test_cutting_either_end():
    assert text(spans((0, 10)) - spans((-5, 2))) == "[2, 10)"
    assert text(spans((0, 10)) - spans((8, 20))) == "[0, 8)"


def test_ends_that_meet_leave_no_empty_part():
    assert text(spans((0, 10)) - spans((0, 4))) == "[4, 10)"
    assert text(spans((0, 10)) - spans((4, 10))) == "[0, 4)"
    assert text(spans((0, 10)) - spans((10, 12))) == "[0, 10)"


def test_holes_outside_change_nothing():
    assert text(spans((10, 20)) - spans((0, 5), (30, 40))) == "[10, 20)"
    assert text(spans((10, 20), (50, 60)) - spans((25, 30))) == "[10, 20) [50, 60)"


def test_nothing_left():
    assert len(spans((2, 4), (6, 8)) - spans((0, 9))) == 0
    assert len(spans((2, 4)) - spans((2, 4))) == 0


def test_the_empty_set_on_either_side():
    assert text(spans((1, 2)) - IntervalSet()) == "[1, 2)"
    assert text(IntervalSet() - spans((1, 2))) == ""


def test_many_holes_in_many_parts():
    left = spans((0, 10), (20, 30), (40, 50))
    right = spans((2, 4), (6, 22), (29, 45))
    assert text(left - right) == "[0, 2) [4, 6) [22, 29) [45, 50)"


def test_dates():
    year = IntervalSet([Interval(date(2024, 1, 1), date(2025, 1, 1))])
    summer = IntervalSet([Interval(date(2024, 6, 1), date(2024, 9, 1))])
    assert text(year - summer) == "[2024-01-01, 2024-06-01) [2024-09-01, 2025-01-01)"


def test_operands_stay_as_they_were():
    left, right = spans((0, 10)), spans((3, 5))
    result = left - right
    assert text(left) == "[0, 10)"
    assert text(right) == "[3, 5)"
    assert isinstance(result, IntervalSet) is True


def test_symmetric_difference():
    assert text(spans((0, 6)) ^ spans((4, 9))) == "[0, 4) [6, 9)"
    assert text(spans((0, 4)) ^ spans((4, 9))) == "[0, 9)"
    assert text(spans((0, 4)) ^ spans((0, 4))) == ""


def test_symmetric_difference_is_symmetric():
    left, right = spans((0, 3), (5, 9)), spans((2, 6), (8, 12))
    assert text(left ^ right) == "[0, 2) [3, 5) [6, 8) [9, 12)"
    assert text(right ^ left) == "[0, 2) [3, 5) [6, 8) [9, 12)"
