import pytest

from spans import Interval, free_slots, parse_clock


def slots(*args, **kwargs):
    return [(slot.start, slot.end) for slot in free_slots(*args, **kwargs)]


def test_parse_clock():
    assert parse_clock("9:05") == 545
    assert parse_clock("00:00") == 0
    assert parse_clock("24:00") == 1440


def test_parse_clock_refuses_nonsense():
    for text in ("9", "9:5", "9:60", "24:01", "-1:00", "123:00", "a:bc"):
        with pytest.raises(ValueError, match="time of day"):
            parse_clock(text)


def test_an_empty_day_is_one_slot():
    assert slots(Interval(540, 1020), [], 30) == [(540, 1020)]


def test_meetings_cut_the_day():
    assert slots(Interval(540, 1020), [Interval(600, 660), Interval(630, 700)], 30) == [
        (540, 600),
        (700, 1020),
    ]


def test_short_stretches_are_left_out():
    assert slots(Interval(0, 100), [Interval(20, 50), Interval(60, 80)], 20) == [(0, 20), (80, 100)]


def test_meetings_outside_the_opening():
    assert slots(Interval(100, 200), [Interval(0, 120), Interval(190, 400), Interval(500, 600)], 10) == [
        (120, 190)
    ]


def test_bad_minutes():
    with pytest.raises(ValueError, match="minutes"):
        free_slots(Interval(0, 10), [], 0)


def test_pause_keeps_time_around_meetings():
    assert slots(Interval(0, 100), [Interval(40, 60)], 10, pause=5) == [(0, 35), (65, 100)]


def test_pause_can_close_a_gap_between_meetings():
    meetings = [Interval(20, 40), Interval(50, 70)]
    assert slots(Interval(0, 100), meetings, 5, pause=3) == [(0, 17), (73, 100)]
    assert slots(Interval(0, 100), meetings, 4, pause=3) == [(0, 17), (43, 47), (73, 100)]


def test_pause_reaches_into_the_opening_from_outside():
    assert slots(Interval(100, 200), [Interval(60, 95)], 10, pause=15) == [(110, 200)]


def test_pause_must_not_be_negative():
    assert slots(Interval(0, 10), [Interval(2, 3)], 2, pause=0) == [(0, 2), (3, 10)]
    with pytest.raises(ValueError, match="pause"):
        free_slots(Interval(0, 10), [], 5, pause=-1)
