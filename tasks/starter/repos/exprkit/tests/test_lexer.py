import pytest

from exprkit import ExprError
from exprkit.lexer import Token, tokenize


def test_tokens_carry_columns():
    assert tokenize("a + 12") == [
        Token("name", "a", 1),
        Token("symbol", "+", 3),
        Token("number", "12", 5),
        Token("end", "", 7),
    ]


def test_numbers():
    assert [token.text for token in tokenize("1 2.5 3e4 6.0E-2")] == ["1", "2.5", "3e4", "6.0E-2", ""]


def test_the_longest_symbol_wins():
    assert [token.text for token in tokenize("a//b/c")] == ["a", "//", "b", "/", "c", ""]


def test_unknown_character():
    with pytest.raises(ExprError, match="unexpected character") as caught:
        tokenize("1 + $")
    assert caught.value.column == 5
