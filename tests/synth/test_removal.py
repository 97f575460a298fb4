import ast

import pytest
from synth_toy import SHAPES, TOY

from gym_code.synth.removal import body, count, functions, stub
from gym_code.types import File

PATH = "shapes/__init__.py"


def by_name(content=SHAPES):
    return {function.qualname: function for function in functions(PATH, content)}


def test_finds_every_body_and_knows_the_trivial_ones():
    found = by_name()
    assert list(found) == [
        *("double", "area", "Square.__init__", "Square.grow", "Square.name", "Square.halves", "nothing"),
    ]
    trivial = [name for name, function in found.items() if function.trivial]
    assert trivial == ["double", "Square.__init__", "Square.name", "nothing"]


@pytest.mark.parametrize(
    ("body", "trivial"),
    [
        ("return g(h(x), 1)", True),
        ("self.x = x", True),
        ("raise ValueError(x)", True),
        ("yield from x", True),
        ("return [y for y in x]", False),
        ("return x or 1", False),
        ("return 1 if x else 2", False),
        ("for y in x: yield y", False),
        ("y = x\n    return y", False),
        ("def g():\n        return x\n    return g", False),
    ],
)
def test_a_body_is_trivial_when_it_is_one_plain_statement(body, trivial):
    (function,) = functions("m.py", f"def f(x):\n    {body}\n".encode())
    assert function.trivial is trivial


def test_an_overload_is_trivial():
    (function,) = functions("m.py", b"@typing.overload\ndef f(x):\n    if x:\n        pass\n")
    assert function.trivial


def test_a_body_goes_with_its_comments_and_nothing_else_changes():
    area = by_name()["area"]
    new = stub(TOY, [area])[PATH].content
    removed = body(SHAPES, area)
    assert removed.startswith(b"    # both sides")
    assert removed.endswith(b"    return w * h")
    assert new == SHAPES.replace(removed, b"    raise NotImplementedError")
    assert (area.first_line, area.last_line) == (18, 21)
    assert (area.signature, area.docstring.split("\n")[0]) == ("def area(w, h):", "The area of a rectangle.")


def test_a_comment_after_the_last_statement_belongs_to_the_body():
    assert body(SHAPES, by_name()["Square.halves"]).endswith(b"# nothing follows")


@pytest.mark.parametrize(
    "source",
    [
        b"def f(a,\r\n      b):\r\n    x = 1\r\n    return x\r\ny = 2\r\n",
        "def f():\n    'Ä doc'  # why\n    x = 'ß'\n    return x".encode(),
        b"class A:\n\tdef f(self): # note\n\t\tx = 1\n\n\t\treturn x\n\n\tz = 1\n",
        b"if 1:\n    @x\n    async def f():\n        async with a:\n          yield\nelse:\n    f = 1\n",
    ],
)
def test_removal_is_byte_exact_and_leaves_valid_python(source):
    (function,) = functions("m.py", source)
    new = stub({"m.py": File(content=source)}, [function])["m.py"].content
    start, end = function.start, function.end
    assert new[:start] == source[:start]
    assert new[start:] == function.indent + b"raise NotImplementedError" + source[end:]
    ast.parse(new)


def test_several_bodies_of_one_file_go_at_once():
    found = by_name()
    both = stub(TOY, [found["area"], found["double"]])[PATH].content
    one_by_one = stub(stub(TOY, [found["area"]]), [found["double"]])[PATH].content
    assert both == one_by_one
    assert both.count(b"raise NotImplementedError") == 2


def test_a_property_and_its_setter_are_told_apart():
    source = b"""class A:
    @property
    def x(self):
        y = self._x
        return y

    @x.setter
    def x(self, value):
        self._x = value
"""
    assert [f.key for f in functions("m.py", source)] == ["m.py::A.x", "m.py::A.x#1"]


@pytest.mark.parametrize(
    "source", [b"def f(): return 1\n", b"def f():\n    'doc'; return 1\n", b"def f(:\n    return 1\n"]
)
def test_what_cannot_be_cut_is_left_out(source):
    assert functions("m.py", source) == ()


def test_all_definitions_are_counted_the_inner_ones_with_the_outer():
    source = b"def f(): return 1\nclass A:\n    def g(self):\n        def h(): pass\n        return h\n"
    assert (count(source), [f.qualname for f in functions("m.py", source)]) == (2, ["A.g"])
