import pytest

from exprkit import ExprError, evaluate, parse


def test_arithmetic():
    assert evaluate("2 * (3 + 4) - 1") == 13
    assert evaluate("7 / 2") == 3.5
    assert evaluate("7 // 2 + 7 % 4") == 6
    assert evaluate("--3") == 3


def test_trees_are_accepted():
    assert evaluate(parse("x - 1"), {"x": 5}) == 4


def test_functions():
    assert evaluate("max(1, abs(-5), 3)") == 5
    assert evaluate("double(21)", functions={"double": lambda value: 2 * value}) == 42


def test_unknown_names():
    with pytest.raises(ExprError, match="unknown variable 'y'"):
        evaluate("x + y", {"x": 1})
    with pytest.raises(ExprError, match="unknown function 'sqrt'"):
        evaluate("sqrt(4)")


def test_division_by_zero():
    with pytest.raises(ExprError, match="division by zero"):
        evaluate("1 / (2 - 2)")


def test_wrong_arguments():
    with pytest.raises(ExprError, match="wrong arguments for 'abs'"):
        evaluate("abs(1, 2)")
