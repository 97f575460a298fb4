import exprkit


def simple(text):
    return exprkit.to_text(exprkit.simplify(exprkit.parse(text)))


def test_constants_are_folded():
    assert simple("1 + 2 * 3") == "7"
    assert simple("x + (4 - 1) * 2") == "x + 6"
    assert simple("7 / 2") == "3.5"


def test_only_the_constant_part_is_folded():
    assert simple("x + 1 + 2") == "x + 1 + 2"
    assert simple("1 + 2 + x") == "3 + x"


def test_neutral_operands_vanish():
    assert simple("x + 0") == "x"
    assert simple("0 + x") == "x"
    assert simple("x - 0") == "x"
    assert simple("x * 1") == "x"
    assert simple("1 * x") == "x"
    assert simple("x / 1") == "x"


def test_neutral_operands_on_the_wrong_side_stay():
    assert simple("1 / x") == "1 / x"
    assert simple("x // 1") == "x // 1"


def test_zero_wins_a_product():
    assert simple("x * 0") == "0"
    assert simple("0 * f(x)") == "0"
    assert simple("y + (2 - 2) * x") == "y"


def test_minus():
    assert simple("0 - x") == "-x"
    assert simple("--x") == "x"
    assert simple("-(-(-x))") == "-x"
    assert simple("0 - -x") == "x"


def test_negative_results_are_unary():
    assert exprkit.simplify(exprkit.parse("2 - 5")) == exprkit.Unary("-", exprkit.Number(3))
    assert simple("(2 - 5) * x") == "-3 * x"
    assert simple("-2 * -3") == "6"
    assert simple("-0") == "0"


def test_what_fails_stays():
    assert simple("1 / 0") == "1 / 0"
    assert simple("x + 5 % (1 - 1)") == "x + 5 % 0"


def test_calls_stay_with_simple_arguments():
    assert simple("max(1 + 1, x * 1, -(-y))") == "max(2, x, y)"
    assert simple("abs(2) + 0") == "abs(2)"


def test_names_and_numbers_stay():
    assert simple("x") == "x"
    assert simple("4") == "4"


def test_the_original_is_not_changed():
    tree = exprkit.parse("x + 0")
    exprkit.simplify(tree)
    assert exprkit.to_text(tree) == "x + 0"
