import pytest

from exprkit import Binary, ExprError, Name, Number, Unary, evaluate, parse, to_text
from exprkit.lexer import tokenize


def again(text):
    return to_text(parse(text))


def test_power_is_one_token():
    assert [token.text for token in tokenize("a**b * c")] == ["a", "**", "b", "*", "c", ""]


def test_value():
    assert evaluate("2 ** 10") == 1024
    assert evaluate("2 ** -1") == 0.5
    assert evaluate("9 ** 0.5") == 3.0


def test_groups_to_the_right():
    assert parse("a ** b ** c") == Binary("**", Name("a"), Binary("**", Name("b"), Name("c")))
    assert evaluate("2 ** 3 ** 2") == 512


def test_binds_tighter_than_times():
    assert evaluate("2 * 3 ** 2") == 18
    assert evaluate("3 ** 2 * 2") == 18


def test_binds_tighter_than_a_minus_on_its_left():
    assert parse("-x ** 2") == Unary("-", Binary("**", Name("x"), Number(2)))
    assert evaluate("-2 ** 2") == -4
    assert evaluate("(-2) ** 2") == 4


def test_a_minus_may_stand_on_its_right():
    assert parse("2 ** -x") == Binary("**", Number(2), Unary("-", Name("x")))
    assert evaluate("2 ** -1 * 4") == 2.0
    assert evaluate("2 ** -2 ** 2") == 0.0625


def test_printing_keeps_the_grouping():
    assert again("a ** (b ** c)") == "a ** b ** c"
    assert again("(a ** b) ** c") == "(a ** b) ** c"
    assert again("(-a) ** b") == "(-a) ** b"
    assert again("-(a ** b)") == "-a ** b"
    assert again("(a * b) ** (c + 1)") == "(a * b) ** (c + 1)"


def test_zero_to_a_negative_power():
    with pytest.raises(ExprError) as caught:
        evaluate("0 ** -1")
    assert caught.value.message == "division by zero"


def test_no_complex_numbers():
    with pytest.raises(ExprError) as caught:
        evaluate("(-8) ** 0.5")
    assert caught.value.message == "fractional power of a negative number"


def test_no_gigantic_exponents():
    with pytest.raises(ExprError, match="exponent too large"):
        evaluate("9 ** 9 ** 9")
    assert evaluate("1 ** 10000") == 1


def test_error_column():
    with pytest.raises(ExprError, match="expected an operand") as caught:
        parse("2 ** * 3")
    assert caught.value.column == 6
