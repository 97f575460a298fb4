import pytest

from pennybook import format_cents, parse_cents, split_evenly


def test_parse():
    assert parse_cents("12") == 1200
    assert parse_cents(" 0.5 ") == 50
    assert parse_cents("1,234,567.89") == 123456789
    assert parse_cents("+3") == 300


def test_parse_negative():
    assert parse_cents("-3.05") == -305
    assert parse_cents("-0.07") == -7


def test_parse_refuses_nonsense():
    for text in ("", "1.234", "12,34", "1 2", "--1", ".5", "€5"):
        with pytest.raises(ValueError, match="not an amount"):
            parse_cents(text)


def test_format():
    assert format_cents(0) == "0.00"
    assert format_cents(5) == "0.05"
    assert format_cents(123456) == "1234.56"
    assert format_cents(123456789, grouped=True) == "1,234,567.89"


def test_split():
    assert split_evenly(900, 3) == [300, 300, 300]
    assert split_evenly(1000, 3) == [334, 333, 333]
    assert split_evenly(1, 2) == [1, 0]
    with pytest.raises(ValueError, match="0 parts"):
        split_evenly(100, 0)


def test_split_of_a_debt():
    assert split_evenly(-1000, 3) == [-334, -333, -333]
    assert split_evenly(-5, 2) == [-3, -2]


def test_split_of_a_debt_adds_up():
    assert sum(split_evenly(-1001, 7)) == -1001
    assert sum(split_evenly(-3, 5)) == -3
