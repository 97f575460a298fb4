from exprkit import parse, to_text


def again(text):
    return to_text(parse(text))


def test_needless_parentheses_go():
    assert again("((1+2))*(x)") == "(1 + 2) * x"
    assert again("(a*b)+c") == "a * b + c"


def test_needed_parentheses_stay():
    assert again("a-(b-c)") == "a - (b - c)"
    assert again("-(a+b)") == "-(a + b)"
    assert again("a/(b*c)") == "a / (b * c)"


def test_calls():
    assert again("f( 1,g() )") == "f(1, g())"
