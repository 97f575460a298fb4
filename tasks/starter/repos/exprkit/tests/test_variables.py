from exprkit import parse, variables


def test_order_of_first_appearance():
    assert variables(parse("b - a")) == ["b", "a"]
    assert variables(parse("b + f(a, b * c) - a")) == ["b", "a", "c"]


def test_arguments_from_left_to_right():
    assert variables(parse("f(x, g(y, x), z)")) == ["x", "y", "z"]


def test_deep_trees():
    assert variables(parse("(d * c) / -(b + (a - d))")) == ["d", "c", "b", "a"]


def test_a_single_name():
    assert variables(parse("alpha")) == ["alpha"]


def test_no_names():
    assert variables(parse("1 + f()")) == []
