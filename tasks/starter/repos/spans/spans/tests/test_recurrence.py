from datetime import date

import pytest

import spans


def series(*args, **kwargs):
    return spans.Recurrence(*args, **kwargs)


def iso(days):
    return " ".join(day.isoformat() for day in days)


def test_daily():
    assert iso(series(date(2024, 2, 27), "day").first(4)) == "2024-02-27 2024-02-28 2024-02-29 2024-03-01"


def test_every_second_week():
    fortnights = series(date(2024, 1, 2), "week", every=2)
    assert iso(fortnights.first(3)) == "2024-01-02 2024-01-16 2024-01-30"


def test_months_without_the_day_are_skipped():
    last_days = series(date(2023, 12, 31), "month")
    assert iso(last_days.first(4)) == "2023-12-31 2024-01-31 2024-03-31 2024-05-31"


def test_months_can_be_clamped():
    last_days = series(date(2024, 1, 31), "month", clamp=True)
    assert iso(last_days.first(4)) == "2024-01-31 2024-02-29 2024-03-31 2024-04-30"


def test_every_third_month_crosses_the_year():
    quarters = series(date(2023, 8, 15), "month", every=3)
    assert iso(quarters.first(3)) == "2023-08-15 2023-11-15 2024-02-15"


def test_leap_day_every_twelve_months():
    birthdays = series(date(2024, 2, 29), "month", every=12)
    assert iso(birthdays.first(2)) == "2024-02-29 2028-02-29"


def test_until_is_included():
    ending = series(date(2024, 1, 1), "week", until=date(2024, 1, 15))
    assert iso(ending) == "2024-01-01 2024-01-08 2024-01-15"
    assert iso(ending.first(10)) == "2024-01-01 2024-01-08 2024-01-15"


def test_until_before_start_is_an_empty_series():
    assert list(series(date(2024, 1, 2), "day", until=date(2024, 1, 1))) == []


def test_skipped_dates_do_not_shift_the_others():
    days = series(date(2024, 1, 1), "day", every=2, skip=frozenset({date(2024, 1, 3)}))
    assert iso(days.first(3)) == "2024-01-01 2024-01-05 2024-01-07"


def test_membership():
    tuesdays = series(date(2024, 1, 2), "week", skip=frozenset({date(2024, 1, 16)}))
    assert (date(2024, 1, 9) in tuesdays) is True
    assert (date(2024, 1, 10) in tuesdays) is False
    assert (date(2024, 1, 16) in tuesdays) is False
    assert (date(2023, 12, 26) in tuesdays) is False


def test_membership_after_the_end():
    ending = series(date(2024, 1, 1), "day", until=date(2024, 1, 3))
    assert (date(2024, 1, 3) in ending) is True
    assert (date(2024, 1, 4) in ending) is False


def test_between_is_half_open():
    days = series(date(2024, 1, 1), "week")
    assert iso(days.between(date(2024, 1, 8), date(2024, 1, 29))) == "2024-01-08 2024-01-15 2024-01-22"
    assert iso(days.between(date(2023, 1, 1), date(2024, 1, 2))) == "2024-01-01"


def test_after():
    days = series(date(2024, 1, 1), "week", until=date(2024, 1, 8))
    assert days.after(date(2023, 6, 1)) == date(2024, 1, 1)
    assert days.after(date(2024, 1, 1)) == date(2024, 1, 8)
    assert days.after(date(2024, 1, 8)) is None


def test_series_is_a_value():
    assert len({series(date(2024, 1, 1), "day"), series(date(2024, 1, 1), "day")}) == 1


def test_bad_arguments():
    with pytest.raises(ValueError, match="unit") as caught:
        series(date(2024, 1, 1), "year")
    assert str(caught.value) == "unknown unit 'year': one of day, week, month"
    with pytest.raises(ValueError, match="every") as caught:
        series(date(2024, 1, 1), "day", every=0)
    assert str(caught.value) == "every must be at least 1, not 0"
