import pytest

from exprkit import Binary, Call, ExprError, Name, Number, Unary, parse


def column(text):
    with pytest.raises(ExprError) as caught:
        parse(text)
    return caught.value.column


def test_precedence():
    assert parse("1 + 2 * 3") == Binary("+", Number(1), Binary("*", Number(2), Number(3)))


def test_operators_group_to_the_left():
    assert parse("8 - 3 - 2") == Binary("-", Binary("-", Number(8), Number(3)), Number(2))


def test_unary_minus_binds_tighter_than_times():
    assert parse("-a * b") == Binary("*", Unary("-", Name("a")), Name("b"))


def test_calls():
    assert parse("f(1, g())") == Call("f", (Number(1), Call("g", ())))


def test_numbers_keep_their_type():
    assert repr(parse("1.0")) == "Number(value=1.0)"
    assert repr(parse("10")) == "Number(value=10)"


def test_error_messages():
    with pytest.raises(ExprError, match=r"column 5: expected an operand, found '\*'"):
        parse("1 + * 2")
    with pytest.raises(ExprError, match=r"column 4: expected an operand, found the end"):
        parse("1 +")


def test_error_columns():
    assert column("1 2") == 3
    assert column("(1 + 2") == 7
    assert column("f(1,)") == 5
    assert column(")") == 1


def test_parentheses_leave_no_trace():
    assert parse("((a))") == Name("a")
